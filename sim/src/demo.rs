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
use std::time::Duration;

/// Is given how many rings the first guest has sent, now and then, and says whether to go on.
pub type GoOn<'a> = &'a (dyn Fn(u32) -> bool + Sync);

/// Runs it on KVM, or where there is none with threads and eventfds, until it is done or `go_on` says no.
///
/// # Errors
/// [`DemoError`]; nothing is left running.
pub fn run(plan: DemoPlan, go_on: GoOn<'_>) -> Result<DemoOutcome, DemoError> {
    #[cfg(target_arch = "x86_64")]
    let without = match msix_backends::kvm::probe() {
        Ok(_) => return served(|socket| kvm::run(plan, socket, go_on)),
        Err(without) => without.to_string(),
    };
    #[cfg(not(target_arch = "x86_64"))]
    let without = "the guests are x86-64's".to_owned();
    let outcome = run_in_userspace(plan, go_on)?;
    Ok(DemoOutcome { without_kvm: Some(without), ..outcome })
}

/// As [`run`], without KVM.
///
/// # Errors
/// [`DemoError`].
pub fn run_in_userspace(plan: DemoPlan, go_on: GoOn<'_>) -> Result<DemoOutcome, DemoError> {
    served(|socket| userspace::run(plan, socket, go_on))
}

/// Returns the plan that takes about as long as `time` on this machine, which it tries with few rings.
///
/// # Errors
/// As [`run`].
pub fn plan_for(time: Duration, go_on: GoOn<'_>) -> Result<DemoPlan, DemoError> {
    let tried = run(DemoPlan::of(TRIED), go_on)?;
    Ok(DemoPlan::of(rings_in(time, TRIED, tried.seconds)))
}

/// How many rings fit into `time`, when `tried` took `seconds`.
fn rings_in(time: Duration, tried: u32, seconds: f64) -> u32 {
    // A number too large becomes the largest.
    let rings = f64::from(tried) * time.as_secs_f64() / seconds.max(1e-6);
    (rings as u32).max(1)
}

/// Enough to tell how fast it goes, in a fraction of a second.
const TRIED: u32 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_rings_are_planned_as_fit_into_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(rings_in(seconds(3), 4_000, 0.5), 24_000);
        assert_eq!(rings_in(seconds(0), 4_000, 0.5), 1);
        assert_eq!(rings_in(seconds(u64::MAX), 4_000, 0.5), u32::MAX);
        assert_eq!(rings_in(seconds(1), 4_000, 0.0), 4_000_000_000);
    }
}
