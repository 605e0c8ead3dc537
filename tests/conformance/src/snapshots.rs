//! C41 to C45: snapshots.

use super::adapter::{HostCall, Message, Refused};
use super::bench::{Bench, Image, Live, Outcome, Stop, entry, message_of, no};
use super::choices::BusMasterOff;
use super::lab::Lab;
use super::recorded_field::{RECORDED_CONTROL, RECORDED_FIELD, RECORDED_VECTORS};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn c41(lab: &Lab<'_>) -> Outcome {
    for control in [0x80, 0xc0, 0x00, 0x40] {
        let mut source = busy(lab)?;
        source.write_config(3, &[control]);
        let saved = source.save()?;
        let mut copy = lab.fresh()?;
        copy.load(&saved)?;
        copy.resume()?;
        let (got, expected) = (copy.image(), source.image());
        copy.expect("registers, as of the one saved", &got, &expected)?;
        if copy.logs_host() {
            let mut live = Live::default();
            let calls = copy.moves()?;
            let balance = live.follow(&calls);
            copy.expect("Arm and Disarm in turn", &balance, &Ok(()))?;
            let wanted = unmasked(lab).into_iter().filter(|_| control == 0x80);
            let expected = wanted.map(|v| (v, message_of(v))).collect();
            copy.expect("the armed vectors", &live.0, &expected)?;
        }
        source.messages();
        copy.messages();
        same_future(&mut source, &mut copy)?;
    }
    Ok(())
}

/// A device with a bit of everything: live, masked, pending, reserved bits.
fn busy<'a>(lab: &'a Lab<'_>) -> Result<Bench<'a>, Stop> {
    let mut bench = lab.ready()?;
    bench.set_dword(0, 3, 0x1234_0001);
    for v in lab.sample() {
        bench.fire(v)?;
        bench.expect_pending(v, true)?;
    }
    unmasked(lab).into_iter().for_each(|v| bench.unmask(v));
    bench.forget();
    Ok(bench)
}

/// The vectors that [`busy`] unmasks: each second one, and the last.
fn unmasked(lab: &Lab<'_>) -> Vec<u16> {
    let sample = lab.sample();
    let chosen = |i: &usize| i % 2 == 1 || i + 1 == sample.len();
    (0..sample.len()).filter(chosen).map(|i| sample[i]).collect()
}

fn same_future(source: &mut Bench<'_>, copy: &mut Bench<'_>) -> Outcome {
    let steps: [fn(&mut Bench<'_>, u16) -> Outcome; 7] = [
        |bench, v| bench.fire(v),
        |bench, v| {
            bench.mask(v);
            Ok(())
        },
        |bench, v| bench.fire(v),
        |bench, _| {
            bench.enable();
            Ok(())
        },
        |bench, v| {
            bench.unmask(v);
            Ok(())
        },
        |bench, v| bench.fire(v),
        |bench, _| {
            bench.disable();
            Ok(())
        },
    ];
    for step in steps {
        for v in source.lab.sample() {
            step(source, v)?;
            step(copy, v)?;
            let (expected, got) = (source.messages(), copy.messages());
            copy.expect("messages, as of the one saved", &got, &expected)?;
            let (expected, got) = (source.pba(), copy.pba());
            copy.expect("PBA, as of the one saved", &got, &expected)?;
        }
    }
    Ok(())
}

pub(super) fn c42(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut source = lab.ready()?;
        source.signal(v)?;
        let saved = source.save()?;
        let mut copy = lab.fresh()?;
        copy.load(&saved)?;
        copy.resume()?;
        for bench in [&mut copy, &mut source] {
            bench.expect_silence()?;
            bench.expect_pending(v, true)?;
            bench.unmask(v);
            bench.expect_message(v)?;
            bench.expect_pending(v, false)?;
        }
    }
    Ok(())
}

pub(super) fn c43(lab: &Lab<'_>) -> Outcome {
    let mut bench = busy(lab)?;
    let native = match bench.device.snapshots() {
        Some(device) => Some(device.save()),
        None => {
            lab.note("no snapshots in its own encoding");
            None
        }
    };
    let field = match bench.device.qemu_field() {
        Some(device) => Some(device.save_field()),
        None => {
            lab.note("no QEMU encoding");
            None
        }
    };
    if native.is_none() && field.is_none() {
        return Err(no("snapshots"));
    }
    bench.forget();
    if let Some(good) = native {
        bad_snapshots(&mut bench, &good)?;
    }
    if let Some(good) = field {
        bad_fields(&mut bench, &good)?;
    }
    Ok(())
}

fn bad_snapshots(bench: &mut Bench<'_>, good: &[u8]) -> Outcome {
    let before = bench.image();
    let try_load = |bench: &mut Bench<'_>, what: String, bytes: &[u8]| {
        let got = bench.device.snapshots().ok_or_else(|| no("snapshots"))?.load(bytes);
        bench.did(format!("load of {what}"));
        bench.must_refuse(&what, got)
    };
    for len in lengths(good.len()) {
        try_load(bench, format!("the first {len} bytes of {}", good.len()), &good[..len])?;
    }
    for more in [1, 8, 16] {
        let longer = [good, &vec![0; more]].concat();
        try_load(bench, format!("{more} bytes more than {}", good.len()), &longer)?;
    }
    for at in lengths(good.len()) {
        for bit in [0x01, 0x80] {
            let mut flipped = good.to_vec();
            flipped[at] ^= bit;
            try_load(bench, format!("a snapshot with byte {at} flipped by {bit:#x}"), &flipped)?;
        }
    }
    for other in [bench.lab.n - 1, bench.lab.n + 1] {
        let Ok(mut device) = bench.lab.subject.device(u32::from(other)) else { continue };
        if let Some(bytes) = device.snapshots().map(|device| device.save()) {
            try_load(bench, format!("a snapshot of {other} vectors"), &bytes)?;
        }
    }
    untouched(bench, &before)
}

fn bad_fields(bench: &mut Bench<'_>, good: &[u8]) -> Outcome {
    let before = bench.image();
    let control = 0x8000 | (bench.lab.n - 1);
    let try_load = |bench: &mut Bench<'_>, what: String, control: u16, bytes: &[u8]| {
        let device = bench.device.qemu_field().ok_or_else(|| no("QEMU's encoding"))?;
        let got = device.load_field(control, bytes);
        bench.did(format!("load of {what}"));
        bench.must_refuse(&what, got)
    };
    for len in lengths(good.len()) {
        try_load(
            bench,
            format!("a field of {len} bytes of {}", good.len()),
            control,
            &good[..len],
        )?;
    }
    let longer = [good, &[0]].concat();
    try_load(bench, "a field that is a byte too long".into(), control, &longer)?;
    for wrong in [control ^ 1, control | 0x0800, control | 0x2000] {
        try_load(bench, format!("a field with control {wrong:#x}"), wrong, good)?;
    }
    untouched(bench, &before)?;
    if !bench.lab.n.is_multiple_of(8) {
        let mut tail = good.to_vec();
        tail[good.len() - 1] |= 0x80;
        try_load(bench, "a field with a bit past the last vector".into(), control, &tail)?;
    }
    untouched(bench, &before)
}

fn untouched(bench: &mut Bench<'_>, before: &Image) -> Outcome {
    bench.expect_silence()?;
    bench.expect_moves_if_logged(&[])?;
    let after = bench.image();
    bench.expect("the state afterwards", &after, before)?;
    // Still at work: nothing waits for a resume.
    if let Some(v) = unmasked(bench.lab).last() {
        bench.fire(*v)?;
        bench.expect_message(*v)?;
    }
    bench.forget();
    Ok(())
}

/// All below `len`, or of a long one both ends and a walk between them.
fn lengths(len: usize) -> Vec<usize> {
    let near = |at: &usize| len <= 1300 || *at < 40 || *at + 300 > len || at.is_multiple_of(509);
    (0..len).filter(near).collect()
}

pub(super) fn c44(lab: &Lab<'_>) -> Outcome {
    let mut source = busy(lab)?;
    // A pending vector that is not masked itself, where bus master holds it back.
    let gated = source.device.bus_master().is_some()
        && lab.choices.bus_master_off == Some(BusMasterOff::Latch);
    let last = lab.n - 1;
    if gated {
        source.bus_master(false)?;
        source.fire(last)?;
        source.expect_pending(last, true)?;
    }
    let saved = source.save()?;

    let mut bench = lab.ready()?; // one that had a life before
    bench.unmask(0);
    let mut live = Live::default();
    if bench.logs_host() {
        let calls = bench.moves()?;
        let balance = live.follow(&calls);
        bench.expect("Arm and Disarm in turn", &balance, &Ok(()))?;
    }
    bench.forget();
    bench.load(&saved)?;
    bench.expect_silence()?;
    bench.expect_moves_if_logged(&[])?;
    if gated {
        bench.bus_master(true)?; // the snapshot of a whole function has it off
    }
    bench.expect_silence()?;
    bench.resume()?;
    let expected: Vec<Message> = if gated { vec![message_of(last)] } else { vec![] };
    bench.expect_messages(&expected)?;
    if bench.logs_host() {
        let calls = bench.moves()?;
        let balance = live.follow(&calls);
        bench.expect("Arm and Disarm in turn", &balance, &Ok(()))?;
        let wanted = unmasked(lab);
        let arms =
            |v: u16, call: &&HostCall| matches!(call, HostCall::Arm { vector, .. } if *vector == v);
        for v in &wanted {
            let count = calls.iter().filter(|call| arms(*v, call)).count();
            bench.expect(&format!("Arms of v{v}"), &count, &1)?;
        }
        let expected = wanted.iter().map(|v| (*v, message_of(*v))).collect();
        bench.expect("the armed vectors", &live.0, &expected)?;
    }
    bench.resume()?;
    bench.expect_silence()?;
    bench.expect_moves_if_logged(&[])
}

pub(super) fn c45(lab: &Lab<'_>) -> Outcome {
    if lab.n == RECORDED_VECTORS {
        recorded(lab)?;
    }
    // The same history made here: the field is the guest's own view of table and PBA.
    let mut bench = busy(lab)?;
    let Some(device) = bench.device.qemu_field() else { return Err(no("QEMU's encoding")) };
    let field = device.save_field();
    let table: Vec<u8> =
        (0..2 * u64::from(lab.n)).flat_map(|qword| bench.read_table(8 * qword, 8)).collect();
    let pba: Vec<u8> = bench.pba().into_iter().flat_map(u64::to_le_bytes).collect();
    let expected = [&table[..], &pba[..usize::from(lab.n).div_ceil(8)]].concat();
    bench.did("save in QEMU's encoding");
    bench.expect("table and PBA as the guest reads them", &field, &expected)?;
    there_and_back(lab, 0xc000 | (lab.n - 1), &field)?;
    Ok(())
}

/// The field of a real QEMU.
fn recorded(lab: &Lab<'_>) -> Outcome {
    let mut bench = there_and_back(lab, RECORDED_CONTROL, RECORDED_FIELD)?;
    let config = bench.config();
    bench.expect("Message Control", &[config[2], config[3]], &RECORDED_CONTROL.to_le_bytes())?;
    let table = (0..u64::from(lab.n) * 2).flat_map(|qword| bench.read_table(8 * qword, 8));
    let table: Vec<u8> = table.collect();
    let (expected, pending) = RECORDED_FIELD.split_at(16 * usize::from(lab.n));
    bench.expect("table as the guest reads it", &table.as_slice(), &expected)?;
    let is_pending = |v: u16| pending[usize::from(v / 8)] >> (v % 8) & 1 != 0;
    for v in 0..lab.n {
        bench.expect_pending(v, is_pending(v))?;
    }

    // What its guest and device did, done here.
    let mut bench = lab.fresh()?;
    bench.write_config(2, &RECORDED_CONTROL.to_le_bytes());
    for v in 0..lab.n {
        bench.claim_if_offered(v)?;
        for (field, dword) in (0..).zip(expected[16 * usize::from(v)..][..16].chunks(4)) {
            bench.write_table(entry(v) + 4 * field, dword);
        }
        if is_pending(v) {
            bench.fire(v)?;
        }
    }
    let field = bench.device.qemu_field().ok_or_else(|| no("QEMU's encoding"))?.save_field();
    bench.did("save in QEMU's encoding");
    bench.expect("the recorded field", &field.as_slice(), &RECORDED_FIELD)
}

/// Loads a field into a new device and saves it again, before and after the resume.
fn there_and_back<'a>(lab: &'a Lab<'_>, control: u16, field: &[u8]) -> Result<Bench<'a>, Stop> {
    let mut bench = lab.fresh()?;
    for v in 0..lab.n {
        bench.claim_if_offered(v)?;
    }
    for step in ["loaded", "resumed"] {
        let device = bench.device.qemu_field().ok_or_else(|| no("QEMU's encoding"))?;
        let loaded = match step {
            "loaded" => device.load_field(control, field),
            _ => {
                device.resume_field();
                Ok(())
            }
        };
        let again = device.save_field();
        bench.did(format!("field {step} with control {control:#x}, and saved again"));
        loaded.or_else(|Refused(why)| bench.fail("the field is taken", why))?;
        let sent = bench.messages().len();
        if step == "loaded" || sent == 0 {
            bench.expect("the field", &again.as_slice(), &field)?;
        }
    }
    Ok(bench)
}
