//! What tells two states of a world apart.

use crate::outside::is_readable;
use crate::world::{Producer, Saved, World};
use ahash::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};

/// The same in every run, so that a search can be repeated.
fn hasher() -> impl Hasher {
    const SEEDS: RandomState = RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    );
    SEEDS.build_hasher()
}

impl World {
    /// A number for all that can be observed: the whole engine but for its totals, what the kernel and
    /// the device were told, the levels, what eventfds hold, and what the judge knows.
    ///
    /// Folded is what the backend keeps to itself and nobody sees from outside: which mode has what
    /// eventfds hold, what waits for the loop, and the plans. The snapshot that is at hand is no part of
    /// it: a search tries all.
    pub(crate) fn state(&self) -> u64 {
        let mut hasher = hasher();
        self.function().inspect(|engine| engine.hash(&mut hasher));
        self.registers.hash(&mut hasher);
        self.claims.hash(&mut hasher);
        self.hash_beside_registers(&mut hasher);
        hasher.finish()
    }

    /// A number for what a load leaves as it is: all but the registers, what is pending in the engine and
    /// claims. The engine keeps what it told the host.
    pub(crate) fn view(&self) -> u64 {
        let mut hasher = hasher();
        self.function().inspect(|engine| {
            if let Some(msix) = engine.msix() {
                for vector in (0..msix.vectors()).map(msix_core::Vector::new) {
                    (msix.is_live(vector), msix.is_fallback(vector)).hash(&mut hasher);
                }
                msix.is_attached().hash(&mut hasher);
            }
            if let Some(msi) = engine.msi() {
                (msi.live(), msi.fallback(), msi.is_attached()).hash(&mut hasher);
            }
            engine.intx().hash(&mut hasher);
            engine.mode().hash(&mut hasher);
        });
        self.hash_beside_registers(&mut hasher);
        hasher.finish()
    }

    fn hash_beside_registers(&self, hasher: &mut impl Hasher) {
        {
            let outside = self.outside.lock();
            outside.kernel.hash_state(hasher);
            outside.device.hash_state(hasher);
            (outside.controller.pin, outside.controller.line).hash(hasher);
            (outside.failing, &outside.failed).hash(hasher);
        }
        for Producer { eventfd, fd } in &self.producers {
            (is_readable(eventfd), fd.is_some()).hash(hasher);
        }
        (&self.owed, &self.unsent, &self.unsent_as).hash(hasher);
        (self.attached, self.loading, self.tolerant, self.is_scarce).hash(hasher);
        self.routes.deadline().is_some().hash(hasher);
    }
}

impl Saved {
    /// What tells two snapshots apart.
    pub(crate) fn state(&self) -> u64 {
        let mut hasher = hasher();
        (&self.bytes, &self.registers, &self.owed, &self.claims).hash(&mut hasher);
        hasher.finish()
    }
}
