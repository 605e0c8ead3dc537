//! `L01` to `L10`: the pin, and the switching between the modes.

use super::super::bench::Outcome;
use super::{FunctionDevice, MSIX_MESSAGE, Stand, expect, offered};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;
use msix_core::{Message, Mode};

const MESSAGE: Message = Message { address: 0xfee0_1000, data: 0x41 };

fn msi(device: &mut dyn FunctionDevice, on: bool) {
    device.write_msi(4, &0xfee0_1000_u32.to_le_bytes());
    device.write_msi(8, &[0; 4]);
    device.write_msi(12, &[0x41, 0]);
    device.write_msi(2, &[u8::from(on), 0]);
}

/// Line and Interrupt Status.
fn seen(device: &mut dyn FunctionDevice) -> (bool, bool) {
    (device.line(), device.interrupt_status())
}

pub(super) fn l01(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    for _ in 0..2 {
        expect("looked at the idle line", (false, false), seen(device.as_mut()))?;
        device.fire(0);
        expect("fired", (true, true), seen(device.as_mut()))?;
        device.satisfy();
    }
    expect("satisfied", (false, false), seen(device.as_mut()))?;
    expect("looked for messages", vec![], device.messages())
}

pub(super) fn l02(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    for _ in 0..3 {
        device.fire(0);
        expect("fired", (true, true), seen(device.as_mut()))?;
    }
    device.satisfy();
    expect("satisfied once", (false, false), seen(device.as_mut()))
}

pub(super) fn l03(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    device.fire(0);
    device.set_interrupt_disable(true);
    expect("fired, set Interrupt Disable", (false, true), seen(device.as_mut()))?;
    device.set_interrupt_disable(false);
    expect("cleared it", (true, true), seen(device.as_mut()))?;
    device.set_interrupt_disable(true);
    device.satisfy();
    device.set_interrupt_disable(false);
    expect("satisfied while it was set", (false, false), seen(device.as_mut()))
}

pub(super) fn l04(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    device.fire(0);
    msi(device.as_mut(), true);
    expect("fired, enabled MSI", (false, false), seen(device.as_mut()))?;
    expect("looked for messages", vec![], device.messages())
}

pub(super) fn l05(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    msi(device.as_mut(), true);
    for _ in 0..3 {
        device.fire(0);
        expect("fired", vec![MESSAGE], device.messages())?;
        expect("looked at the line", false, device.line())?;
    }
    device.satisfy();
    msi(device.as_mut(), false);
    expect("satisfied, disabled MSI", (false, false), seen(device.as_mut()))?;
    device.fire(0);
    expect("fired", (true, true), seen(device.as_mut()))
}

pub(super) fn l06(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    device.fire(0);
    msi(device.as_mut(), true);
    msi(device.as_mut(), false);
    expect("fired, enabled and disabled MSI", (true, true), seen(device.as_mut()))?;
    device.satisfy();
    expect("satisfied", (false, false), seen(device.as_mut()))
}

pub(super) fn l07(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    device.set_bus_master(false);
    device.fire(0);
    expect("bus master off, fired", (true, true), seen(device.as_mut()))
}

/// Follows the host's log: at no moment are two modes armed, and none is armed twice.
fn alone(device: &mut dyn FunctionDevice, armed: &mut BTreeSet<u8>) -> Outcome {
    let log = offered("host log", device.host_log())?;
    for (mode, arms) in &log {
        let fits = if *arms { armed.insert(*mode as u8) } else { armed.remove(&(*mode as u8)) };
        expect(&format!("followed {log:?}"), (true, true), (fits, armed.len() <= 1))?;
    }
    Ok(())
}

pub(super) fn l08(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    let mut armed = BTreeSet::new();
    let mut check = |device: &mut dyn FunctionDevice, did: &str, sends: Option<Message>| {
        alone(device, &mut armed)?;
        device.fire(0);
        expect(did, sends.into_iter().collect(), device.messages())?;
        expect(did, sends.is_none(), device.line())?;
        device.satisfy();
        Ok(())
    };
    check(device.as_mut(), "fired", None)?;
    msi(device.as_mut(), true);
    check(device.as_mut(), "enabled MSI, fired", Some(MESSAGE))?;
    offered("MSI-X", device.msix())?.set_enabled(true);
    check(device.as_mut(), "enabled MSI-X too, fired", Some(MSIX_MESSAGE))?;
    offered("MSI-X", device.msix())?.set_enabled(false);
    check(device.as_mut(), "disabled MSI-X, fired", Some(MESSAGE))?;
    msi(device.as_mut(), false);
    check(device.as_mut(), "disabled MSI, fired", None)?;
    offered("MSI-X", device.msix())?.set_enabled(true);
    check(device.as_mut(), "enabled MSI-X alone, fired", Some(MSIX_MESSAGE))
}

pub(super) fn l09(stand: &Stand<'_>) -> Outcome {
    for mode in [Mode::Intx, Mode::Msi, Mode::MsiX] {
        let mut device = stand.device(false)?;
        let mut armed = BTreeSet::new();
        device.fire(0);
        match mode {
            Mode::Msi => msi(device.as_mut(), true),
            Mode::MsiX => offered("MSI-X", device.msix())?.set_enabled(true),
            Mode::Intx | Mode::None => {}
        }
        offered("function reset", device.function_reset())?.reset();
        let did = format!("reset in mode {mode:?}");
        expect(&did, (false, false), seen(device.as_mut()))?;
        device.messages();
        alone(device.as_mut(), &mut armed)?;
        expect(&did, BTreeSet::from([Mode::Intx as u8]), armed)?;
        device.satisfy();
        device.fire(0);
        expect(&format!("{did}, fired"), (true, true), seen(device.as_mut()))?;
        expect(&did, vec![], device.messages())?;
    }
    Ok(())
}

pub(super) fn l10(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(false)?;
    let line = offered("physical line", device.physical())?;
    line.assert(true);
    line.assert(true);
    expect("asserted a physical line twice", 1, line.fired())?;
    expect("looked at it", true, device.line())?;
    let line = offered("physical line", device.physical())?;
    line.eoi();
    expect("EOI, still asserted", 2, line.fired())?;
    line.assert(false);
    line.eoi();
    expect("not asserted any more, EOI", 2, line.fired())?;
    expect("looked at it", false, device.line())?;
    let line = offered("physical line", device.physical())?;
    line.assert(true);
    expect("asserted", 3, line.fired())?;
    msi(device.as_mut(), true);
    expect("enabled MSI", false, device.line())?;
    msi(device.as_mut(), false);
    expect(
        "disabled MSI, still asserted",
        4,
        offered("physical line", device.physical())?.fired(),
    )?;
    expect("looked at it", true, device.line())
}
