//! C25: vectors outside the table.

use super::bench::{Outcome, message_of};
use super::lab::Lab;
use alloc::format;

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
        if let Some(device) = bench.device.claims() {
            let got = [device.claim(v), device.unclaim(v)];
            let count = device.count(v);
            got.into_iter().try_for_each(|got| bench.must_refuse(&format!("claim {v}"), got))?;
            bench.must_refuse(&format!("claims of {v}"), count)?;
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
