//! C24 to C28: events that a use count, the table's end, bus master or an order of setting up stands
//! in the way of.

use super::adapter::HostCall;
use super::bench::{Bench, Live, Outcome, Stop, message_of, no};
use super::choices::{BusMasterOff, UnclaimedPending};
use super::lab::Lab;

pub(super) fn c24(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.fresh()?;
        bench.expect_use_count(v, 0)?;
        bench.program(v, message_of(v));
        bench.enable();
        bench.fire(v)?; // nobody uses it
        bench.expect_pending(v, false)?;
        bench.unmask(v);
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.unuse(v)?;
        bench.expect_use_count(v, 0)?;
        bench.use_if_counted(v)?;
        bench.use_if_counted(v)?;
        bench.unuse(v)?;
        bench.expect_use_count(v, 1)?;
        bench.expect_silence()?;
        bench.fire(v)?;
        bench.expect_message(v)?;
        for look in [true, false] {
            bench.mask(v);
            bench.fire(v)?;
            bench.unuse(v)?;
            if look {
                bench.expect_pending(v, false)?;
            }
            bench.use_if_counted(v)?;
            bench.unmask(v);
            bench.expect_silence()?;
        }
    }
    unused_and_pending(lab)
}

/// H9: a pending bit that came with a snapshot, of a vector that nobody uses yet.
fn unused_and_pending(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    let Some(qemu) = bench.device.qemu_field() else { return Ok(()) };
    let mut field = qemu.save_field();
    let pba = 16 * usize::from(lab.n);
    field[pba] |= 1;
    let control = 0x8000 | (lab.n - 1);
    let loaded = qemu.load_field(control, &field);
    qemu.resume_field();
    bench.did("load a field with v0 masked and pending");
    bench.expect("loaded", &loaded, &Ok(()))?;
    bench.unmask(0);
    bench.expect_silence()?;
    bench.use_if_counted(0)?;
    let got = bench.messages().len();
    match lab.choices.unclaimed_pending {
        Some(choice) => bench.expect(
            "messages at the first use",
            &got,
            &usize::from(choice == UnclaimedPending::Keep),
        ),
        None => bench.must(got <= 1, "at most one message at the first use", &got),
    }
}

impl Bench<'_> {
    fn unuse(&mut self, v: u16) -> Outcome {
        self.did(format!("unuse v{v}"));
        let uses = self.device.uses().ok_or_else(|| no("use counts"))?;
        let got = uses.unclaim(u32::from(v));
        self.expect("unuse", &got, &Ok(()))
    }

    fn expect_use_count(&mut self, v: u16, expected: u32) -> Outcome {
        let uses = self.device.uses().ok_or_else(|| no("use counts"))?;
        let got = uses.claims(u32::from(v));
        self.expect("use count", &got, &Ok(expected))
    }
}

pub(super) fn c25(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for (i, v) in lab.sample().into_iter().enumerate() {
        if i % 2 == 0 {
            bench.unmask(v);
        }
        bench.fire(v)?;
    }
    let before = bench.image();
    bench.forget();
    let n = u32::from(lab.n);
    for v in [n, n + 1, n + 63, 65_535, 65_536, u32::MAX] {
        let got = bench.device.fire(v);
        bench.must_refuse(&format!("fire {v}"), got)?;
        if let Some(device) = bench.device.uses() {
            let got = [device.claim(v), device.unclaim(v)];
            let count = device.claims(v);
            got.into_iter().try_for_each(|got| bench.must_refuse(&format!("use {v}"), got))?;
            bench.must_refuse(&format!("use count of {v}"), count)?;
        }
        if let Some(got) = bench.device.withdrawal().map(|device| device.withdraw(v)) {
            bench.must_refuse(&format!("withdraw {v}"), got)?;
        }
        if let Some(device) = bench.device.side_channel() {
            let got = [
                device.set_mask(v, false),
                device.set_mask(v, true),
                device.set_message(v, message_of(0)),
            ];
            got.into_iter().try_for_each(|got| bench.must_refuse(&format!("set {v}"), got))?;
        }
    }
    bench.did("calls outside the table");
    bench.expect_silence()?;
    bench.expect_moves_if_logged(&[])?;
    let after = bench.image();
    bench.expect("the state afterwards", &after, &before)
}

pub(super) fn c26(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        for masked_before in [false, true] {
            let mut bench = lab.ready()?;
            if masked_before {
                bench.fire(v)?; // H16: the unmask is what must not lose it
                bench.bus_master(false)?;
                bench.unmask(v);
            } else {
                bench.unmask(v);
                bench.bus_master(false)?;
                bench.fire(v)?;
            }
            bench.expect_silence()?; // A11
            bench.bus_master(true)?;
            let got = bench.messages();
            let one = vec![message_of(v)];
            match lab.choices.bus_master_off {
                Some(BusMasterOff::Latch) => bench.expect("messages", &got, &one)?,
                Some(BusMasterOff::DropMessage) => bench.expect("messages", &got, &vec![])?,
                None => {
                    bench.must(got.is_empty() || got == one, "one message or none", &got)?;
                    let seen = if got.is_empty() { "dropped" } else { "latched" };
                    lab.note(format!("an event while bus master is off is {seen}"));
                }
            }
            bench.expect_pending(v, false)?;
            bench.fire(v)?;
            bench.expect_message(v)?;
        }
    }
    Ok(())
}

pub(super) fn c27(lab: &Lab<'_>) -> Outcome {
    let (a, b) = (0, lab.n - 1);
    let shared = message_of(7);
    let mut bench = lab.ready()?;
    for v in [a, b] {
        bench.program(v, shared);
        bench.fire(v)?;
    }
    for v in [b, a] {
        bench.expect_pending(v, true)?;
        bench.unmask(v);
        bench.expect_messages(&[shared])?;
    }
    bench.fire(a)?;
    bench.fire(b)?;
    bench.expect_messages(&[shared, shared])?;
    bench.enable_masked();
    bench.fire(b)?;
    bench.fire(a)?;
    bench.enable();
    bench.expect_messages(&[shared, shared])
}

pub(super) fn c28(lab: &Lab<'_>) -> Outcome {
    let unmask_some = |bench: &mut Bench<'_>| {
        for v in lab.sample().into_iter().step_by(2) {
            bench.unmask(v);
        }
    };
    let mut first = lab.programmed()?; // FreeBSD's resume (B7)
    unmask_some(&mut first);
    first.expect_moves_if_logged(&[])?;
    first.enable();
    let mut other = lab.ready()?;
    unmask_some(&mut other);
    let (got, expected) = (first.image(), other.image());
    first.expect("registers, as in the other order", &got, &expected)?;
    if first.logs_host() {
        let (got, expected) = (live_of(&mut first)?, live_of(&mut other)?);
        first.expect("what the host uses, as in the other order", &got.0, &expected.0)?;
    }
    for (i, v) in lab.sample().into_iter().enumerate() {
        for bench in [&mut first, &mut other] {
            bench.fire(v)?;
            let expected = [message_of(v)];
            bench.expect_messages(if i % 2 == 0 { &expected } else { &[] })?;
            bench.expect_pending(v, i % 2 != 0)?;
        }
    }
    Ok(())
}

fn live_of(bench: &mut Bench<'_>) -> Result<Live, Stop> {
    let mut live = Live::default();
    let calls: Vec<HostCall> = bench.moves()?;
    match live.follow(&calls) {
        Ok(()) => Ok(live),
        Err(why) => bench.fail("uses and releases in turn", why).map(|()| live),
    }
}
