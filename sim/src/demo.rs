//! Two guests that ring each other's doorbell through the ivshmem device.
//!
//! Each guest has a processor thread and the device of [`msix_ivshmem`]; a server makes them known to
//! each other. First they take turns, which shows how long a round trip takes; then both ring as fast
//! as they can, which shows that nothing is lost: before each ring a guest counts in the shared memory,
//! and the handler of the other notes how far the count is. Rings that one interrupt stands for are
//! coalesced (A12), and all are accounted for when the count that was noted is the count that was rung.

#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod kvm;
mod meeting;
mod plan;
mod userspace;

use meeting::served;
pub use plan::{DemoError, DemoOutcome, DemoPlan, Side};
use std::sync::atomic::AtomicBool;

/// Runs it on KVM, or where there is none with threads and eventfds, until it is done or `stop` is set.
///
/// # Errors
/// [`DemoError`]; nothing is left running.
pub fn run(plan: DemoPlan, stop: &AtomicBool) -> Result<DemoOutcome, DemoError> {
    #[cfg(target_arch = "x86_64")]
    let without = match msix_backends::kvm::probe() {
        Ok(_) => return served(|socket| kvm::run(plan, socket, stop)),
        Err(without) => without.to_string(),
    };
    #[cfg(not(target_arch = "x86_64"))]
    let without = "the guests are x86-64's".to_owned();
    let outcome = run_in_userspace(plan, stop)?;
    Ok(DemoOutcome { without_kvm: Some(without), ..outcome })
}

/// As [`run`], without KVM.
///
/// # Errors
/// [`DemoError`].
pub fn run_in_userspace(plan: DemoPlan, stop: &AtomicBool) -> Result<DemoOutcome, DemoError> {
    served(|socket| userspace::run(plan, socket, stop))
}
