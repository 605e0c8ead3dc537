//! The tests. A file of tests has a table `TESTS`, and [`all`] lists the tables.

mod conformance;
mod doorbell;
mod failover;
mod gicv2m;
mod its;
mod kernel;
mod modes;
mod restore;
mod vfio;

use crate::Outcome;
use kvm_ioctls::Kvm;

/// A test, which may panic.
pub(crate) type Test = fn(&Kvm) -> Outcome;

/// Names, and tests that this machine's controller can run; in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Test)> {
    let with_its = if crate::is_v2() {
        &[][..]
    } else {
        &[
            kernel::OF_ITS,
            its::TESTS,
            modes::TESTS,
            restore::TESTS,
            failover::TESTS,
            gicv2m::WITH_ITS,
            doorbell::TESTS,
            vfio::TESTS,
            conformance::TESTS,
        ]
    };
    let tables = with_its.iter().chain(&[kernel::OF_SPIS, gicv2m::TESTS]);
    tables.copied().flatten().copied()
}
