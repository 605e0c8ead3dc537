//! `M01` to `M17`: the MSI capability.

use super::super::bench::Outcome;
use super::{FunctionDevice, Stand, expect, offered};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use msix_core::Message;

const ADDRESS: u64 = 0xfee0_1000;
const DATA: u16 = 0x4140;

fn control(device: &mut dyn FunctionDevice) -> u16 {
    let mut bytes = [0; 2];
    device.read_msi(2, &mut bytes);
    u16::from_le_bytes(bytes)
}

pub(super) fn dword(device: &mut dyn FunctionDevice, offset: usize) -> u32 {
    let mut bytes = [0; 4];
    device.read_msi(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Address, data, and `log2` of the vectors allocated with Enable.
pub(super) fn enable(device: &mut dyn FunctionDevice, log: u8) {
    device.write_msi(4, &0xfee0_1000_u32.to_le_bytes());
    device.write_msi(8, &0_u32.to_le_bytes());
    device.write_msi(12, &DATA.to_le_bytes());
    device.write_msi(2, &u16::from(log << 4 | 1).to_le_bytes());
}

pub(super) fn log(n: u16) -> u8 {
    n.ilog2() as u8
}

pub(super) fn message(k: u16) -> Message {
    Message { address: ADDRESS, data: u32::from(DATA | k) }
}

pub(super) fn m01(stand: &Stand<'_>) -> Outcome {
    for masks in [false, true] {
        let Ok(mut device) = stand.device(masks) else { continue };
        let d = device.as_mut();
        let fixed = 0x80 | u16::from(masks) << 8 | u16::from(log(stand.n)) << 1;
        expect("read control", fixed, control(d))?;
        expect("read the address", (0, 0), (dword(d, 4), dword(d, 8)))?;
        expect("read the data", 0, dword(d, 12) & 0xffff)?;
        if masks {
            expect("read masks and pending bits", (0, 0), (dword(d, 16), dword(d, 20)))?;
        }
    }
    stand.device(false).or_else(|_| stand.device(true)).map(drop)
}

pub(super) fn m02(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    let before = control(device.as_mut());
    device.write_msi(2, &[0xff, 0xff]);
    let changed = before ^ control(device.as_mut());
    expect("wrote ffff to control", 0, changed & !0x71)?;
    expect("and read Enable", 1, changed & 1)
}

pub(super) fn m03(stand: &Stand<'_>) -> Outcome {
    let value = u16::from(log(stand.n)) << 4 | 1;
    let [low, high] = value.to_le_bytes();
    let fixed = 0x80 | u16::from(log(stand.n)) << 1;
    for (offset, bytes) in [(2, &[low][..]), (2, &[low, high]), (0, &[0xff, 0xff, low, high])] {
        let mut device = stand.device(false)?;
        device.write_msi(offset, bytes);
        expect(&format!("wrote {bytes:x?} at {offset}"), fixed | value, control(device.as_mut()))?;
    }
    Ok(())
}

pub(super) fn m04(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    device.write_msi(4, &[0xff; 4]);
    device.write_msi(8, &0x1234_5678_u32.to_le_bytes());
    device.write_msi(12, &[0xcd, 0xab]);
    let d = device.as_mut();
    let read = (dword(d, 4), dword(d, 8), dword(d, 12) & 0xffff);
    expect("wrote address and data", (0xffff_fffc, 0x1234_5678, 0xabcd), read)?;
    device.write_msi(13, &[0x12]);
    expect("wrote one byte of the data", 0x12cd, dword(device.as_mut(), 12) & 0xffff)
}

pub(super) fn m05(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    enable(device.as_mut(), 0);
    for _ in 0..2 {
        device.fire(0);
        expect("fired vector 0", vec![message(0)], device.messages())?;
    }
    expect("looked at the line", false, device.line())
}

pub(super) fn m06(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    enable(device.as_mut(), log(stand.n));
    for k in 0..stand.n {
        device.fire(k);
        expect(&format!("fired vector {k}"), vec![message(k)], device.messages())?;
    }
    Ok(())
}

pub(super) fn m07(stand: &Stand<'_>) -> Outcome {
    for allocated in 0..log(stand.n) {
        let mut device = stand.device(false)?;
        enable(device.as_mut(), allocated);
        for k in 0..stand.n {
            device.fire(k);
            let sent = device.messages();
            let inside = |m: &Message| {
                m.address == ADDRESS && m.data & !((1 << allocated) - 1) == u32::from(DATA)
            };
            let did = format!("allocated {}, fired vector {k}: {sent:x?}", 1 << allocated);
            expect(&did, (1, true), (sent.len(), sent.iter().all(inside)))?;
        }
    }
    Ok(())
}

pub(super) fn m08(stand: &Stand<'_>) -> Outcome {
    for allocated in [log(stand.n) + 1, 7] {
        let mut device = stand.device(false)?;
        enable(device.as_mut(), allocated.min(7));
        device.fire(stand.n - 1);
        let did = format!("wrote {allocated} to Multiple Message Enable, fired the last vector");
        expect(&did, vec![message(stand.n - 1)], device.messages())?;
    }
    Ok(())
}

pub(super) fn m09(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    for k in 0..stand.n {
        device.write_msi(16, &(1_u32 << k).to_le_bytes());
        device.fire(k);
        expect(&format!("fired masked vector {k}"), vec![], device.messages())?;
        expect("read the pending bits", 1 << k, dword(device.as_mut(), 20))?;
        device.write_msi(16, &[0; 4]);
        expect(&format!("unmasked vector {k}"), vec![message(k)], device.messages())?;
        expect("read the pending bits", 0, dword(device.as_mut(), 20))?;
    }
    Ok(())
}

pub(super) fn m10(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    device.write_msi(16, &[0xff; 4]);
    for _ in 0..5 {
        device.fire(stand.n - 1);
    }
    device.write_msi(16, &[0; 4]);
    let expected = vec![message(stand.n - 1)];
    expect("fired the last vector 5 times while masked, unmasked", expected, device.messages())
}

pub(super) fn m11(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    device.write_msi(16, &[0xff; 4]);
    let last = u32::from(stand.n - 1);
    for k in [0, stand.n - 1] {
        device.fire(k);
    }
    let withdrawal = offered("withdrawal", device.withdrawal())?;
    expect("withdrew the last vector's event", true, withdrawal.withdraw(last).is_ok())?;
    let left = if stand.n == 1 { 0 } else { 1 };
    expect("read the pending bits", left, dword(device.as_mut(), 20))?;
    device.write_msi(16, &[0; 4]);
    let sent: Vec<Message> = if stand.n == 1 { vec![] } else { vec![message(0)] };
    expect("unmasked", sent, device.messages())?;
    device.write_msi(16, &[0xff; 4]);
    device.fire(stand.n - 1);
    expect("fired again", 1 << last, dword(device.as_mut(), 20))
}

pub(super) fn m12(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    let all = u32::MAX >> (32 - stand.n);
    device.write_msi(16, &[0xff; 4]);
    device.write_msi(20, &[0xff; 4]);
    let d = device.as_mut();
    expect("wrote ones to masks and pending bits", (all, 0), (dword(d, 16), dword(d, 20)))
}

pub(super) fn m13(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    device.write_msi(16, &[0xff; 4]);
    device.fire(stand.n - 1);
    device.write_msi(2, &[log(stand.n) << 4]);
    device.write_msi(16, &[0; 4]);
    expect("pending, disabled, unmasked", vec![], device.messages())?;
    device.write_msi(2, &[log(stand.n) << 4 | 1]);
    let sent = device.messages();
    let fits = sent.is_empty() || sent == [message(stand.n - 1)];
    expect(&format!("and enabled: {sent:x?}"), true, fits)
}

pub(super) fn m14(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    enable(device.as_mut(), 0);
    device.set_bus_master(false);
    device.fire(0);
    expect("bus master off, fired", vec![], device.messages())?;
    device.set_bus_master(true);
    let sent = device.messages();
    expect(&format!("bus master on: {sent:x?}"), true, sent.is_empty() || sent == [message(0)])?;
    device.fire(0);
    expect("fired", vec![message(0)], device.messages())
}

pub(super) fn m15(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    enable(device.as_mut(), 0);
    device.fire(0);
    device.messages();
    device.write_msi(4, &0xfee0_3000_u32.to_le_bytes());
    device.write_msi(8, &[0; 4]);
    device.write_msi(12, &[0x42, 0]);
    expect("rewrote the message", vec![], device.messages())?;
    device.fire(0);
    let expected = vec![Message { address: 0xfee0_3000, data: 0x42 }];
    expect("and fired", expected, device.messages())
}

pub(super) fn m16(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    device.write_msi(16, &[0xff; 4]);
    device.fire(0);
    offered("function reset", device.function_reset())?.reset();
    expect("reset", vec![], device.messages())?;
    let d = device.as_mut();
    let fixed = 0x180 | u16::from(log(stand.n)) << 1;
    expect("read control", fixed, control(d))?;
    let rest = [4, 8, 12, 16, 20].map(|offset| dword(d, offset));
    expect("read the rest", [0; 5], rest)?;
    device.set_bus_master(true);
    enable(device.as_mut(), log(stand.n));
    expect("enabled again", vec![], device.messages())
}

pub(super) fn m17(stand: &Stand<'_>) -> Outcome {
    let low = 0xfee0_3000_u32.to_le_bytes();
    let parts: [&[(usize, &[u8])]; 4] = [
        &[(4, &low), (8, &[0; 4]), (12, &[0x42, 0])],
        &[(12, &[0x42, 0]), (4, &low)],
        &[(5, &low[1..2])],
        &[(4, &low[..2]), (6, &low[2..]), (12, &[0x44]), (4, &[0, 0x10])],
    ];
    for writes in parts {
        let mut device = stand.device(false)?;
        enable(device.as_mut(), 0);
        device.fire(0);
        device.messages();
        for (offset, bytes) in writes {
            device.write_msi(*offset, bytes);
            device.fire(0);
            let d = device.as_mut();
            let address = u64::from(dword(d, 8)) << 32 | u64::from(dword(d, 4));
            let expected = vec![Message { address, data: dword(d, 12) & 0xffff }];
            let did = format!("wrote {bytes:x?} at {offset}, fired");
            expect(&did, expected, device.messages())?;
        }
    }
    Ok(())
}
