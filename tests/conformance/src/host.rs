//! C29 to C36, C39 and C46: what the host and the INTx line are asked for, and what the host answers.

use super::adapter::{BackendCall, HostCall, IntxCall, Message};
use super::bench::{Bench, Live, Outcome, Stop, entry, message_of};
use super::choices::LiveRewrite;
use super::lab::Lab;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn c29(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    for v in lab.sample() {
        for data in [1, 2, 3] {
            bench.program(v, Message { address: 0xfee0_3000, data });
            bench.expect_moves(&[])?;
        }
        bench.program(v, message_of(v));
        bench.expect_moves(&[])?;
        bench.unmask(v);
        bench.expect_moves(&[arm(v)])?;
    }
    Ok(())
}

pub(super) fn c30(lab: &Lab<'_>) -> Outcome {
    let sample = lab.sample();
    for v in &sample {
        let mut bench = lab.ready()?;
        bench.unmask(*v);
        bench.forget();
        bench.mask(*v);
        bench.expect_moves(&[disarm(*v)])?;
        bench.mask(*v);
        bench.disable();
        bench.expect_moves(&[])?;
    }
    let all: Vec<HostCall> = sample.iter().map(|v| disarm(*v)).collect();
    for control in [0x00, 0xc0, 0x40] {
        let mut bench = lab.ready()?;
        sample.iter().for_each(|v| bench.unmask(*v));
        bench.forget();
        for expected in [all.as_slice(), &[]] {
            bench.write_config(3, &[control]);
            let mut got = bench.moves()?;
            got.sort_by_key(vector_of);
            bench.expect("host calls", &got.as_slice(), &expected)?;
        }
    }
    Ok(())
}

pub(super) fn c31(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let sample = lab.sample();
    let mut live = Live::default();
    let mut dice = 0x2545_f491_u32;
    for _ in 0..400 {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let v = sample[(dice >> 24) as usize % sample.len()];
        match (dice >> 16) % 16 {
            0..4 => bench.unmask(v),
            4..6 => bench.mask(v),
            6 => bench.disable(),
            7..10 => bench.enable(),
            10 => bench.enable_masked(),
            11 => bench.fire(v)?,
            12 if bench.device.function_reset().is_some() => bench.reset()?,
            13 if bench.device.bus_master().is_some() => bench.bus_master(dice >> 8 & 1 != 0)?,
            14 => bench.attachment(dice >> 8 & 1 != 0),
            _ => bench.program(v, Message { data: dice, ..message_of(v) }),
        }
        let calls = bench.moves()?;
        if let Err(why) = live.follow(&calls) {
            bench.fail("Arms minus Disarms is 0 or 1", why)?;
        }
    }
    // The last word: what can be delivered now is armed, nothing else.
    bench.attachment(true);
    if bench.device.bus_master().is_some() {
        bench.bus_master(true)?;
    }
    bench.disable();
    for v in &sample {
        bench.program(*v, message_of(*v));
        bench.unmask(*v);
    }
    bench.enable();
    let calls = bench.moves()?;
    let balance = live.follow(&calls);
    bench.expect("Arm and Disarm in turn", &balance, &Ok(()))?;
    bench.expect("the armed vectors", &live.0, &messages_of(&sample))
}

impl Bench<'_> {
    /// Attaches or detaches, where that is offered.
    pub(super) fn attachment(&mut self, on: bool) {
        self.did(if on { "attach" } else { "detach" });
        match self.device.attachment() {
            Some(device) if on => device.attach(),
            Some(device) => device.detach(),
            None => {}
        }
    }
}

pub(super) fn c32(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let old = message_of(v);
        // To memory, where a half of the address alone would be seen; and to a processor.
        let elsewhere = Message { address: 0x2_fee0_9990, data: 0x77 };
        let moved = Message { address: 0xfee0_3000, data: 0x77 };
        for (new, whole_address) in
            [(elsewhere, false), (elsewhere, true), (moved, false), (moved, true)]
        {
            let mut bench = lab.ready()?;
            bench.unmask(v);
            bench.forget();
            if whole_address {
                bench.write_table(entry(v), &new.address.to_le_bytes());
                let calls = bench.moves()?;
                let halfway = Message { address: new.address, ..old };
                rerouted_at_most_once(&mut bench, &calls, v, halfway)?;
                bench.set_dword(v, 2, new.data);
            } else {
                bench.program(v, new);
            }
            let calls = bench.moves()?;
            let seen = rerouted_at_most_once(&mut bench, &calls, v, new)?;
            let choice = match lab.choices.live_rewrite {
                Some(choice) => choice,
                None if seen => LiveRewrite::Reroute,
                None => LiveRewrite::Ignore,
            };
            let expected = choice == LiveRewrite::Reroute;
            bench.expect("rerouted", &seen, &expected)?;
            if lab.choices.live_rewrite.is_none() {
                lab.note(format!("live rewrite: {choice:?}"));
            }
            bench.program(v, new);
            bench.expect_moves(&[])?;
            bench.fire(v)?;
            let got = bench.messages();
            let fine = got == [new] || choice == LiveRewrite::Ignore && got == [old];
            bench.must(fine, "one message, whole", &got)?;
            bench.mask(v);
            bench.unmask(v); // A9: now at the latest
            bench.expect_moves(&[disarm(v), HostCall::Arm { vector: v, message: new }])?;
        }
    }
    Ok(())
}

/// Whether there was a Reroute, of which there may be one, to `complete`.
fn rerouted_at_most_once(
    bench: &mut Bench<'_>,
    calls: &[HostCall],
    vector: u16,
    complete: Message,
) -> Result<bool, Stop> {
    match calls {
        [] => {}
        [only] => {
            bench.expect("the reroute", only, &HostCall::Reroute { vector, message: complete })?;
        }
        more => bench.fail("at most one Reroute", format!("{more:x?}"))?,
    }
    Ok(!calls.is_empty())
}

pub(super) fn c33(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.ready()?;
        let new = Message { data: 0x40ef, ..message_of(v) };
        bench.fire(v)?;
        bench.expect_pending(v, true)?;
        bench.set_data_and_control(v, new.data, 0);
        bench.expect_messages(&[new])?;
        bench.expect_moves_if_logged(&[HostCall::Arm { vector: v, message: new }])?;
        bench.set_data_and_control(v, 0x40ad, 1);
        bench.expect_moves_if_logged(&[disarm(v)])?;
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.expect_pending(v, true)?;
        bench.unmask(v);
        bench.expect_messages(&[Message { data: 0x40ad, ..new }])?;
    }
    Ok(())
}

pub(super) fn c34(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.ready()?;
        let mut armed = message_of(v);
        bench.unmask(v);
        bench.forget();
        let moved = Message { address: 0xfee0_3000, data: 0x42 };
        // To another CPU, and then a mask cycle that changes nothing (T3).
        for (to, most_commits) in [(moved, 1), (moved, 0)] {
            bench.mask(v);
            bench.dword(0, 0);
            bench.set_dword(v, 0, armed.address as u32);
            bench.set_dword(v, 1, (armed.address >> 32) as u32);
            bench.set_dword(v, 2, to.data);
            bench.fire(v)?;
            bench.program(v, to);
            bench.unmask(v);
            let calls = bench.moves()?;
            bench.expect_messages(&[to])?;
            // A host that keeps the routes of masked vectors commits when it is given another.
            let mut routes = 0;
            for call in &calls {
                if let HostCall::Arm { message, .. } | HostCall::Reroute { message, .. } = *call {
                    routes += usize::from(message != armed);
                    armed = message;
                }
            }
            bench.must(
                routes <= most_commits,
                &format!("at most {most_commits} routes"),
                &calls,
            )?;
            if let Some(log) = bench.device.backend_log() {
                let calls = log.calls();
                let commits = calls.iter().filter(|call| **call == BackendCall::Commit).count();
                bench.must(
                    commits <= most_commits,
                    &format!("at most {most_commits} commits"),
                    &calls,
                )?;
            }
        }
    }
    Ok(())
}

pub(super) fn c35(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        for look in [true, false] {
            let mut bench = lab.ready()?;
            for _ in 0..3 {
                bench.signal(v)?;
            }
            bench.expect_silence()?;
            if look {
                bench.expect_pending(v, true)?;
                bench.expect_pending(v, true)?;
            }
            bench.unmask(v);
            bench.expect_message(v)?;
            bench.expect_pending(v, false)?;
            bench.signal(v)?;
            bench.expect_message(v)?;
        }
    }
    Ok(())
}

pub(super) fn c36(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let live = lab.n / 2;
    bench.claim_if_offered(live)?;
    bench.program(live, message_of(live)); // address 0 is no interrupt (K11)
    bench.unmask(live);
    bench.forget();
    let n = u32::from(lab.n);
    for len in [4, 8] {
        for offset in (0..8 * n.div_ceil(64)).step_by(len) {
            bench.did(format!("PBA read of {len} at {offset:#x}"));
            bench.read_pba(u64::from(offset), len);
            let covered = 8 * offset..n.min(8 * (offset + len as u32));
            let expected = covered.filter(|v| *v != u32::from(live)).collect::<Vec<_>>();
            let calls = bench.all_calls()?;
            let polled = calls.iter().filter_map(|call| match call {
                HostCall::Poll { vector } => Some(u32::from(*vector)),
                _ => None,
            });
            let mut got: Vec<u32> = polled.collect();
            got.sort_unstable();
            bench.expect("vectors polled", &got, &expected)?;
        }
    }
    Ok(())
}

pub(super) fn c39(lab: &Lab<'_>) -> Outcome {
    let sample = lab.sample();
    for k in &sample {
        let mut bench = lab.ready()?;
        bench.enable_masked();
        sample.iter().for_each(|v| bench.unmask(*v));
        bench.forget();
        bench.fail_arm(*k, true)?;
        bench.enable();
        let expected: Vec<HostCall> = sample.iter().map(|v| arm(*v)).collect();
        bench.expect_moves(&expected)?; // each is tried, each once
        for v in &sample {
            bench.fire(*v)?;
            bench.expect_message(*v)?;
        }
        for v in sample.iter().filter(|v| *v != k) {
            bench.signal(*v)?; // the host delivers these by itself
            bench.expect_message(*v)?;
        }
        bench.forget();
        bench.mask(*k);
        bench.fail_arm(*k, false)?;
        bench.fire(*k)?;
        bench.expect_silence()?;
        bench.unmask(*k);
        bench.expect_moves(&[disarm(*k), arm(*k)])?;
        bench.expect_message(*k)?;
        bench.signal(*k)?;
        bench.expect_message(*k)?;
    }
    Ok(())
}

pub(super) fn c46(lab: &Lab<'_>) -> Outcome {
    use IntxCall::{Deassert, Reevaluate};
    let mut bench = lab.fresh()?;
    bench.intx_calls()?;
    let writes: [(u8, &[IntxCall]); 13] = [
        (0x00, &[]),
        (0x40, &[]),
        (0x80, &[Deassert]),
        (0x80, &[]),
        (0xc0, &[]),
        (0x80, &[]),
        (0x40, &[Reevaluate]),
        (0x00, &[]),
        (0xc0, &[Deassert]),
        (0x00, &[Reevaluate]),
        (0x00, &[]),
        (0x80, &[Deassert]),
        (0x00, &[Reevaluate]),
    ];
    for (high, expected) in writes {
        bench.write_config(3, &[high]);
        let got = bench.intx_calls()?;
        bench.expect("INTx", &got.as_slice(), &expected)?;
    }
    let mut bench = lab.ready()?;
    let v = lab.n - 1;
    bench.unmask(v);
    bench.fire(v)?;
    bench.mask(v);
    bench.fire(v)?;
    bench.is_pending(v);
    bench.write_config(4, &[0xff; 8]);
    let got = bench.intx_calls()?;
    bench.expect("INTx", &got, &vec![])
}

pub(super) fn arm(vector: u16) -> HostCall {
    HostCall::Arm { vector, message: message_of(vector) }
}

pub(super) fn disarm(vector: u16) -> HostCall {
    HostCall::Disarm { vector }
}

fn messages_of(vectors: &[u16]) -> BTreeMap<u16, Message> {
    vectors.iter().map(|v| (*v, message_of(*v))).collect()
}

pub(super) fn vector_of(call: &HostCall) -> u16 {
    match *call {
        HostCall::Arm { vector, .. }
        | HostCall::Disarm { vector }
        | HostCall::Reroute { vector, .. }
        | HostCall::Send { vector, .. }
        | HostCall::Poll { vector }
        | HostCall::Drain { vector } => vector,
    }
}
