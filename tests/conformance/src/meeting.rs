//! C49 to C52: events that meet a rewrite, a restore or a detach.

use super::adapter::{IntxCall, Message};
use super::bench::{Bench, Outcome, Stop, entry, message_of, no};
use super::choices::LiveRewrite;
use super::lab::Lab;
use alloc::vec::Vec;

/// One write of a rewrite: offset in the entry, bytes.
type Write = (u64, Vec<u8>);

pub(super) fn c49(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        // Above 4 GiB, as in C12, and to a processor.
        for new in [
            Message { address: 0x1234_5678_fee0_2000, data: 0x77 },
            Message { address: 0xfee0_3000, data: 0x77 },
        ] {
            for writes in rewrites(new) {
                for count in 1..=writes.len() {
                    rewritten(lab, v, &writes[..count])?;
                }
            }
        }
    }
    Ok(())
}

/// The message as dwords in every order, and as qwords in both; Vector Control stays 0.
fn rewrites(message: Message) -> Vec<Vec<Write>> {
    let address = message.address.to_le_bytes();
    let data = message.data.to_le_bytes();
    let dwords = [(0, address[..4].to_vec()), (4, address[4..].to_vec()), (8, data.to_vec())];
    let qwords = [(0, address.to_vec()), (8, [data, [0; 4]].concat())];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let in_dwords = orders.map(|order| order.map(|i: usize| dwords[i].clone()).to_vec());
    let in_qwords = [[0, 1], [1, 0]].map(|order| order.map(|i: usize| qwords[i].clone()).to_vec());
    in_dwords.into_iter().chain(in_qwords).collect()
}

/// The guest makes `writes` to a live entry, and then no more.
fn rewritten(lab: &Lab<'_>, v: u16, writes: &[Write]) -> Outcome {
    let mut bench = lab.ready()?;
    bench.unmask(v);
    bench.fire(v)?;
    bench.expect_message(v)?;
    for (offset, bytes) in writes {
        bench.write_table(entry(v) + offset, bytes);
    }
    let [low, high, data, _] = bench.entry(v);
    let now = Message { address: u64::from(high) << 32 | u64::from(low), data };
    let ignores = lab.choices.live_rewrite != Some(LiveRewrite::Reroute);
    for _ in 0..2 {
        bench.fire(v)?;
        let got = bench.messages();
        let fine = got == [now] || ignores && got == [message_of(v)];
        bench.must(fine, "one message, as the registers read", &got)?;
    }
    bench.mask(v);
    bench.unmask(v); // A9: now at the latest
    bench.fire(v)?;
    bench.expect_messages(&[now])
}

pub(super) fn c50(lab: &Lab<'_>) -> Outcome {
    for (was, is) in [(false, true), (true, false), (false, false), (true, true)] {
        let mut source = lab.programmed()?;
        set_enable(&mut source, is);
        let saved = source.save()?;
        let mut bench = lab.programmed()?;
        set_enable(&mut bench, was);
        bench.intx_calls()?;
        bench.load(&saved)?;
        let early = bench.intx_calls()?;
        bench.expect("INTx at the load", &early.as_slice(), &[].as_slice())?;
        bench.resume()?;
        let expected: &[IntxCall] = match (was, is) {
            (false, true) => &[IntxCall::Deassert],
            (true, false) => &[IntxCall::Reevaluate],
            _ => &[],
        };
        let got = bench.intx_calls()?;
        bench.expect("INTx at the resume", &got.as_slice(), &expected)?;
    }
    Ok(())
}

fn set_enable(bench: &mut Bench<'_>, on: bool) {
    if on {
        bench.enable();
    } else {
        bench.disable();
    }
}

pub(super) fn c51(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut live = lab.ready()?;
        live.unmask(v);
        detach_and_signal(&mut live, v)?;
        live.attachment(true); // sent by now, whether a backend listens for events or not
        live.expect_message(v)?;
        live.expect_pending(v, false)?;

        let mut bench = pending_while_detached(lab, v)?;
        bench.attachment(true);
        bench.expect_silence()?;
        bench.unmask(v);
        bench.expect_message(v)?;
        if bench.device.snapshots().is_some() {
            let mut source = lab.ready()?;
            detach_and_signal(&mut source, v)?;
            let saved = source.save()?;
            let mut copy = lab.fresh()?;
            copy.load(&saved)?;
            copy.resume()?;
            copy.expect_pending(v, true)?;
            copy.unmask(v);
            copy.expect_message(v)?;
        }
        if bench.device.withdrawal().is_some() {
            let mut bench = lab.ready()?;
            detach_and_signal(&mut bench, v)?;
            bench.withdraw(v)?;
            bench.attachment(true);
            bench.unmask(v);
            bench.expect_silence()?;
        }
        if bench.device.function_reset().is_some() {
            let mut bench = lab.ready()?;
            detach_and_signal(&mut bench, v)?;
            bench.reset()?;
            bench.attachment(true);
            bench.expect_pending(v, false)?;
            bench.program(v, message_of(v));
            bench.unmask(v);
            bench.claim_again(v)?;
            bench.enable();
            bench.expect_silence()?;
        }
    }
    Ok(())
}

/// A masked vector with an event that came when nobody listened.
fn pending_while_detached<'a>(lab: &'a Lab<'_>, v: u16) -> Result<Bench<'a>, Stop> {
    let mut bench = lab.ready()?;
    detach_and_signal(&mut bench, v)?;
    bench.expect_pending(v, true)?;
    bench.expect_silence()?;
    Ok(bench)
}

/// The backend goes, and then an eventfd is written.
fn detach_and_signal(bench: &mut Bench<'_>, v: u16) -> Outcome {
    if bench.device.attachment().is_none() {
        return Err(no("a backend that comes and goes"));
    }
    bench.attachment(false);
    bench.forget();
    bench.signal(v)
}

pub(super) fn c52(lab: &Lab<'_>) -> Outcome {
    let loaded = |v| Message { data: 0x4099, ..message_of(v) };
    for v in lab.sample() {
        let mut source = lab.ready()?;
        source.program(v, loaded(v));
        source.unmask(v);
        let saved = source.save()?;
        let mut bench = lab.ready()?;
        bench.unmask(v);
        bench.forget();
        bench.load(&saved)?;
        // What a VMM may do with a machine that does not run yet.
        let control = bench.config()[3];
        bench.write_config(3, &[control]);
        bench.fire(v)?;
        bench.expect_pending(v, true)?;
        bench.save()?;
        if bench.device.bus_master().is_some() {
            bench.bus_master(true)?;
        }
        bench.expect_silence()?;
        bench.expect_moves_if_logged(&[])?;
        bench.resume()?;
        bench.expect_messages(&[loaded(v)])?;
        bench.expect_pending(v, false)?;
        bench.fire(v)?;
        bench.expect_messages(&[loaded(v)])?;
    }
    Ok(())
}
