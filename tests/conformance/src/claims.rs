//! C24: the device's claims of vectors.

use super::bench::{Bench, Outcome, message_of, no};
use super::choices::UnclaimedPending;
use super::lab::Lab;
use alloc::format;

pub(super) fn c24(lab: &Lab<'_>) -> Outcome {
    for v in lab.sample() {
        let mut bench = lab.fresh()?;
        bench.expect_claims(v, 0)?;
        bench.program(v, message_of(v));
        bench.enable();
        bench.fire(v)?; // nobody claims it
        bench.expect_pending(v, false)?;
        bench.unmask(v);
        bench.fire(v)?;
        bench.expect_silence()?;
        bench.unclaim(v)?;
        bench.expect_claims(v, 0)?;
        bench.claim_if_offered(v)?;
        bench.claim_if_offered(v)?;
        bench.unclaim(v)?;
        bench.expect_claims(v, 1)?;
        bench.expect_silence()?;
        bench.fire(v)?;
        bench.expect_message(v)?;
        for look in [true, false] {
            bench.mask(v);
            bench.fire(v)?;
            bench.unclaim(v)?;
            if look {
                bench.expect_pending(v, false)?;
            }
            bench.claim_if_offered(v)?;
            bench.unmask(v);
            bench.expect_silence()?;
        }
    }
    unclaimed_and_pending(lab)
}

/// H9: a pending bit that came with a snapshot, of a vector that nobody claims yet.
fn unclaimed_and_pending(lab: &Lab<'_>) -> Outcome {
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
    bench.claim_if_offered(0)?;
    let got = bench.messages().len();
    match lab.choices.unclaimed_pending {
        Some(choice) => bench.expect(
            "messages at the first claim",
            &got,
            &usize::from(choice == UnclaimedPending::Keep),
        ),
        None => bench.must(got <= 1, "at most one message at the first claim", &got),
    }
}

impl Bench<'_> {
    fn unclaim(&mut self, v: u16) -> Outcome {
        self.did(format!("unclaim v{v}"));
        let claims = self.device.claims().ok_or_else(|| no("claims"))?;
        let got = claims.unclaim(u32::from(v));
        self.expect("unclaim", &got, &Ok(()))
    }

    fn expect_claims(&mut self, v: u16, expected: u32) -> Outcome {
        let claims = self.device.claims().ok_or_else(|| no("claims"))?;
        let got = claims.count(u32::from(v));
        self.expect("claims", &got, &Ok(expected))
    }
}
