//! C12 to C23 and C26 to C28: what becomes of an event.

use super::adapter::{HostCall, Message};
use super::bench::{Bench, Live, Outcome, Stop, message_of};
use super::choices::{BusMasterOff, MessageAddress, PendingOnDisable, WhileDisabled};
use super::lab::Lab;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn c12(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for v in lab.sample() {
        bench.unmask(v);
        for _ in 0..2 {
            bench.fire(v)?;
            bench.expect_message(v)?;
            bench.expect_pending(v, false)?;
        }
        bench.mask(v);
        let wide = Message { address: 0x1234_5678_fee0_1004, data: 0xffff_ffff };
        bench.program(v, wide);
        bench.unmask(v);
        bench.fire(v)?;
        bench.expect_messages(&[wide])?; // A3: all of it, unmodified
        if let Some(choice) = lab.choices.message_address {
            bench.mask(v);
            bench.program(v, Message { address: 0xfee0_1007, data: 1 });
            bench.unmask(v);
            bench.fire(v)?;
            let low = if choice == MessageAddress::Verbatim { 7 } else { 4 };
            bench.expect_messages(&[Message { address: 0xfee0_1000 | low, data: 1 }])?;
        }
    }
    Ok(())
}

pub(super) fn c13(lab: &Lab<'_>) -> Outcome {
    held_then_unmasked(lab, 1)
}

pub(super) fn c14(lab: &Lab<'_>) -> Outcome {
    held_then_unmasked(lab, 5)
}

/// `events` events of a masked vector are one message; with and without a look at the PBA, which
/// may collect what the host holds.
fn held_then_unmasked(lab: &Lab<'_>, events: usize) -> Outcome {
    for look in [true, false] {
        let mut bench = lab.ready()?;
        for v in lab.sample() {
            for _ in 0..events {
                bench.fire(v)?;
            }
            bench.expect_silence()?;
            if look {
                bench.expect_pending(v, true)?;
            }
            bench.unmask(v);
            bench.expect_message(v)?;
            bench.expect_pending(v, false)?;
            bench.expect_silence()?;
        }
    }
    Ok(())
}

pub(super) fn c15(lab: &Lab<'_>) -> Outcome {
    for look in [true, false] {
        let mut bench = lab.ready()?;
        bench.enable_masked();
        let sample = lab.sample();
        for v in &sample {
            bench.unmask(*v);
        }
        for v in sample.iter().rev() {
            bench.fire(*v)?;
            bench.fire(*v)?;
        }
        bench.expect_silence()?;
        if look {
            for v in &sample {
                bench.expect_pending(*v, true)?;
            }
        }
        bench.enable();
        let expected: Vec<Message> = sample.iter().map(|v| message_of(*v)).collect();
        bench.expect_messages(&expected)?;
        for v in &sample {
            bench.expect_pending(*v, false)?;
        }
        bench.enable_masked();
        bench.enable();
        bench.expect_silence()?;
    }
    Ok(())
}

pub(super) fn c16(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        for vector_first in [true, false] {
            let mut bench = lab.ready()?;
            bench.enable_masked();
            bench.fire(v)?;
            if vector_first {
                bench.unmask(v);
            } else {
                bench.enable();
            }
            bench.expect_silence()?;
            bench.expect_pending(v, true)?;
            let own = bench.dword(v, 3) & 1;
            bench.expect("the vector's own mask bit (A6)", &own, &u32::from(!vector_first))?;
            if vector_first {
                bench.enable();
            } else {
                bench.unmask(v);
            }
            bench.expect_message(v)?;
        }
    }
    Ok(())
}

pub(super) fn c17(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.programmed()?;
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.enable();
        bench.expect_silence()?;
        let pending = bench.is_pending(v);
        match lab.choices.while_disabled {
            Some(choice) => {
                let latched = choice == WhileDisabled::Latch;
                bench.expect("pending after an event while disabled", &pending, &latched)?;
            }
            None if pending => lab.note("an event while disabled is latched"),
            None => lab.note("an event while disabled is dropped"),
        }
        bench.unmask(v);
        let expected = [message_of(v)];
        bench.expect_messages(&expected[..usize::from(pending)])?;

        // Pending from before a disable, if such a bit outlives it.
        let mut bench = lab.ready()?;
        bench.fire(v)?;
        bench.disable();
        bench.enable();
        bench.expect_silence()?;
        let pending = bench.is_pending(v);
        bench.unmask(v);
        bench.expect_messages(&expected[..usize::from(pending)])?;
    }
    Ok(())
}

pub(super) fn c18(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let fired = across_a_disable(&mut lab.ready()?, v, false)?;
        let mut bench = lab.ready()?;
        if bench.can_script() {
            // H3: an event that a backend holds goes the same way.
            let held = across_a_disable(&mut bench, v, true)?;
            bench.expect("messages, as for an event that was latched", &held, &fired)?;
        }
        if lab.choices.pending_on_disable.is_none() {
            lab.note(if fired == 1 { "lossless" } else { "pending bits are dropped at a disable" });
        }
    }
    Ok(())
}

fn across_a_disable(bench: &mut Bench<'_>, v: u16, in_host: bool) -> Result<usize, Stop> {
    if in_host {
        bench.signal(v)?;
    } else {
        bench.fire(v)?;
    }
    bench.disable();
    bench.unmask(v);
    bench.expect_silence()?;
    bench.enable();
    let got = bench.messages();
    let one = vec![message_of(v)];
    match bench.lab.choices.pending_on_disable {
        Some(PendingOnDisable::Keep) => bench.expect("messages", &got, &one)?,
        Some(PendingOnDisable::Drop) => bench.expect("messages", &got, &vec![])?,
        None => bench.must(got.is_empty() || got == one, "one message or none", &got)?,
    }
    bench.expect_pending(v, false)?;
    bench.fire(v)?;
    bench.expect_message(v)?;
    Ok(got.len())
}

pub(super) fn c19(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.ready()?;
        bench.enable_masked();
        bench.unmask(v);
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.enable();
        bench.expect_message(v)?;
        bench.expect_pending(v, false)?;
    }
    Ok(())
}

pub(super) fn c20(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    for v in lab.sample() {
        bench.claim_if_offered(v)?;
    }
    bench.enable();
    for v in lab.sample() {
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.program(v, message_of(v));
        bench.unmask(v);
        bench.expect_message(v)?;
        bench.expect_pending(v, false)?;
    }
    Ok(())
}

pub(super) fn c21(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.ready()?;
        bench.unmask(v);
        bench.reset()?;
        bench.claim_again(v)?;
        bench.forget();
        bench.program(v, message_of(v));
        bench.unmask(v);
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.expect_moves_if_logged(&[])?;
    }
    Ok(())
}

pub(super) fn c22(lab: &Lab<'_>) -> Outcome {
    for look in [true, false] {
        let mut bench = lab.ready()?;
        for v in lab.sample() {
            bench.fire(v)?;
            if look {
                bench.expect_pending(v, true)?;
            }
            bench.withdraw(v)?;
            if look {
                bench.expect_pending(v, false)?;
            }
            bench.unmask(v);
            bench.expect_silence()?;
            bench.mask(v);
            bench.fire(v)?;
            bench.expect_pending(v, true)?;
            bench.unmask(v);
            bench.expect_message(v)?;
        }
    }
    Ok(())
}

pub(super) fn c23(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for v in lab.sample() {
        bench.fire(v)?;
        bench.unmask(v);
        bench.expect_message(v)?;
        bench.forget();
        let before = bench.image();
        bench.unmask(v);
        bench.expect_silence()?;
        bench.expect_moves_if_logged(&[])?;
        let after = bench.image();
        bench.expect("the registers afterwards", &after, &before)?;
        bench.mask(v);
        bench.fire(v)?;
        bench.forget();
        let before = bench.image();
        bench.mask(v);
        bench.expect_silence()?;
        bench.expect_moves_if_logged(&[])?;
        let after = bench.image();
        bench.expect("the registers afterwards", &after, &before)?;
    }
    Ok(())
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
        first.expect("the armed vectors, as in the other order", &got.0, &expected.0)?;
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
        Err(why) => bench.fail("Arm and Disarm in turn", why).map(|()| live),
    }
}
