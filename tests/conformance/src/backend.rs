//! C37, C38 and C40: what a backend makes of it.

use super::adapter::{BackendCall, HostCall};
use super::bench::{Bench, Outcome, Stop, message_of, no};
use super::host::{arm, disarm, vector_of};
use super::lab::Lab;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn c37(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.ready()?;
    let sample = lab.sample();
    // Each input's calls are looked at alone: within one, the order is fixed.
    bench.enable_masked();
    for v in &sample {
        bench.unmask(*v);
        bench.fire(*v)?;
        bench.is_pending(*v);
    }
    in_order(&mut bench)?;
    bench.enable();
    in_order(&mut bench)?;
    for v in &sample {
        bench.mask(*v);
        in_order(&mut bench)?;
        bench.fire(*v)?;
        bench.is_pending(*v);
        in_order(&mut bench)?;
        bench.unmask(*v);
        in_order(&mut bench)?;
    }
    bench.disable();
    in_order(&mut bench)?;
    bench.enable();
    in_order(&mut bench)?;
    if bench.device.snapshots().is_some() {
        let saved = bench.save()?;
        bench.all_calls()?;
        bench.load(&saved)?;
        bench.resume()?; // tells everything anew: both Disarm and Arm
        in_order(&mut bench)?;
    }
    KernelOrder::default()
        .follow(&bench.backend_calls("Disarm, Arm and Send do come in order")?)
        .or_else(|why| bench.fail("commit before arm, disarm before unroute (K6)", why))
}

/// Disarm before Arm before Send, among the calls since the last look (I5).
fn in_order(bench: &mut Bench<'_>) -> Outcome {
    let calls = bench.all_calls()?;
    bench.must(is_ordered(&calls), "Disarm before Arm before Send", &calls)
}

/// Whether Disarm comes before Arm before Send (I5).
pub(super) fn is_ordered(calls: &[HostCall]) -> bool {
    let rank = |call: &HostCall| match call {
        HostCall::Disarm { .. } => Some(0),
        HostCall::Arm { .. } => Some(1),
        HostCall::Send { .. } => Some(2),
        _ => None,
    };
    calls.iter().filter_map(rank).is_sorted()
}

impl Bench<'_> {
    fn backend_calls(&mut self, what: &str) -> Result<Vec<BackendCall>, Stop> {
        Ok(self
            .device
            .backend_log()
            .ok_or_else(|| no(&format!("{what}; the backend log")))?
            .calls())
    }
}

/// What the kernel has: a vector is armed only on a committed route, and unrouted only when disarmed (K6).
#[derive(Debug, Default)]
pub(super) struct KernelOrder {
    routed: BTreeSet<u16>,
    committed: BTreeSet<u16>,
    armed: BTreeSet<u16>,
}

impl KernelOrder {
    /// Takes calls in; the first one that must not be.
    pub(super) fn follow(&mut self, calls: &[BackendCall]) -> Result<(), String> {
        let Self { routed, committed, armed } = self;
        for call in calls {
            match *call {
                BackendCall::Route { vector } => _ = routed.insert(vector),
                BackendCall::Unroute { vector } if armed.contains(&vector) => {
                    return Err(format!("v{vector} was unrouted while armed"));
                }
                BackendCall::Unroute { vector } => _ = routed.remove(&vector),
                BackendCall::Commit => committed.clone_from(routed),
                BackendCall::Arm { vector } if !committed.contains(&vector) => {
                    return Err(format!("v{vector} was armed before its route was committed"));
                }
                BackendCall::Arm { vector } => _ = armed.insert(vector),
                BackendCall::Disarm { vector } => _ = armed.remove(&vector),
                BackendCall::SetIrqs => {}
            }
        }
        Ok(())
    }

    /// Whether nothing is armed or routed.
    #[cfg(feature = "fuzz")]
    pub(super) fn is_empty(&self) -> bool {
        self.armed.is_empty() && self.routed.is_empty()
    }
}

pub(super) fn c38(lab: &Lab<'_>) -> Outcome {
    let mut bench = lab.fresh()?;
    bench.enable_masked();
    for v in 0..lab.n {
        bench.claim_if_offered(v)?;
        bench.program(v, message_of(v));
        bench.unmask(v);
    }
    bench.forget();
    bench.enable();
    let calls = bench.backend_calls("commits and SET_IRQS cannot be seen")?;
    let count = |kind| calls.iter().filter(|call| **call == kind).count();
    bench.expect("commits", &count(BackendCall::Commit), &1)?;
    let set_irqs = count(BackendCall::SetIrqs);
    bench.must(set_irqs <= 1, "at most one SET_IRQS", &set_irqs)
}

pub(super) fn c40(lab: &Lab<'_>) -> Outcome {
    let sample = lab.sample();
    let mut bench = lab.ready()?;
    if bench.device.attachment().is_none() {
        return Err(no("a backend that comes and goes"));
    }
    sample.iter().for_each(|v| bench.unmask(*v));
    bench.mask(sample[0]);
    bench.all_calls()?;
    let live = &sample[1..];
    bench.attachment(false);
    let mut calls = bench.moves()?;
    calls.sort_by_key(vector_of);
    let all: Vec<HostCall> = live.iter().map(|v| disarm(*v)).collect();
    bench.expect("host calls at the detach", &calls, &all)?;
    bench.attachment(false);
    bench.disable();
    bench.enable();
    bench.unmask(sample[0]);
    bench.expect_moves(&[])?; // nobody listens
    if let Some(log) = bench.device.backend_log() {
        let (mut routed, mut armed) = (BTreeSet::new(), BTreeSet::new());
        for call in log.calls() {
            match call {
                BackendCall::Route { vector } => _ = routed.insert(vector),
                BackendCall::Unroute { vector } => _ = routed.remove(&vector),
                BackendCall::Arm { vector } => _ = armed.insert(vector),
                BackendCall::Disarm { vector } => _ = armed.remove(&vector),
                BackendCall::Commit | BackendCall::SetIrqs => {}
            }
        }
        bench.expect("irqfds not given back", &armed, &BTreeSet::new())?;
        bench.expect("routes not given back", &routed, &BTreeSet::new())?;
    } else {
        lab.note("GSIs and descriptors are not logged");
    }
    bench.attachment(true);
    let mut calls = bench.moves()?;
    calls.sort_by_key(vector_of);
    let all: Vec<HostCall> = sample.iter().map(|v| arm(*v)).collect();
    bench.expect("host calls at the attach", &calls, &all)?;
    bench.attachment(true);
    bench.expect_moves(&[])
}
