#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "std"), no_std)]
//! The conformance suite: cases that judge any implementation of MSI-X, MSI and INTx.
//!
//! An adapter shows an implementation to the suite: [`Device`] drives one function with MSI-X,
//! [`Subject`] makes such devices. [`run`] returns a [`Report`]: for each of [`CASES`] a [`Verdict`],
//! and for a failure what was done, what was expected, and what was seen. [`FunctionDevice`],
//! [`FunctionSubject`] and [`run_function`] do the same for MSI, INTx and the switching between all
//! three ([`FUNCTION_CASES`]).
//!
//! Each case runs at several vector counts ([`Case::sizes`]). Where the rules leave a choice, the
//! subject says what it chose ([`Choices`]) and is held to that; where it says nothing, every
//! conforming form passes, and the report notes which one was seen. `CONFORMANCE.md` lists the
//! cases; rules cited as `A7` or `H4` are in [`msix_core::rules`]. Feature `serde` serialises reports.
//!
//! Without the default feature `std` the suite needs an allocator alone, so that it runs in firmware. A
//! panic of the implementation then ends the run, as the firmware's panic handler says.
//!
//! The rest of this page says how to write an adapter, with a complete example.
//!
#![doc = include_str!("../ADAPTER.md")]

extern crate alloc;

mod adapter;
mod backend;
mod bench;
mod cases;
mod choices;
mod claims;
mod delivery;
mod function;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod host;
mod lab;
mod layout;
mod meeting;
#[cfg(feature = "fuzz")]
pub mod model;
mod out_of_range;
mod recorded_field;
mod registers;
mod report;
mod snapshots;
#[cfg(feature = "fuzz")]
pub mod strategy;

pub use adapter::{
    Attachment, BackendCall, BackendLog, BusMaster, Claims, Device, ExclusiveBar, FunctionReset,
    HostCall, HostLog, HostScript, IntxCall, IntxLog, Layouts, Message, NoDevice, Placement,
    QemuField, Refused, SideChannel, Snapshots, Subject, Withdrawal,
};
pub use cases::{CASES, Case, case};
pub use choices::{
    BusMasterOff, Choices, LiveRewrite, MessageAddress, PendingOnDisable, TableAccess,
    UnclaimedPending, VectorControlBits, WhileDisabled,
};
pub use function::{
    FUNCTION_CASES, FunctionCase, FunctionDevice, FunctionSnapshots, FunctionSubject, MSIX_MESSAGE,
    Mode, MsixBeside, PhysicalLine, judge_function, run_function,
};
pub use recorded_field::{RECORDED_CONTROL, RECORDED_FIELD};
pub use report::{CaseReport, Report, Verdict};

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bench::Stop;
use lab::Lab;

/// Judges `subject` by every case.
#[must_use]
pub fn run(subject: &dyn Subject) -> Report {
    let report = |case: &Case| CaseReport::new(case, judge(subject, case));
    Report { subject: subject.name(), results: CASES.iter().map(report).collect() }
}

/// Judges `subject` by one case, at all its sizes; the first failure ends it. With feature `std` a panic
/// of the implementation is a failure.
#[must_use]
pub fn judge(subject: &dyn Subject, case: &Case) -> Verdict {
    judge_at(case.id, case.sizes, &|n| format!("N={n}"), &|n| {
        let lab = Lab::new(subject, n);
        (case.run)(&lab)?;
        Ok(lab.into_notes())
    })
}

/// Runs a case at each of its sizes, which `named` names in the report. `run` returns what to note of
/// a size that passed.
fn judge_at(
    id: &str,
    sizes: &[u16],
    named: &dyn Fn(u16) -> String,
    run: &dyn Fn(u16) -> Result<BTreeSet<String>, Stop>,
) -> Verdict {
    let (mut passed, mut notes, mut unseen) = (Vec::new(), BTreeSet::new(), Vec::new());
    for &n in sizes {
        match caught(|| run(n)) {
            Ok(Ok(seen)) => {
                passed.push(n);
                notes.extend(seen);
            }
            Ok(Err(Stop::NotObservable(why))) => unseen.push((n, why)),
            Ok(Err(Stop::Failed { did, expected, got })) => {
                return Verdict::Failed { did, expected, got };
            }
            Err(panic) => {
                let did = format!("{}: ran {id}", named(n));
                let got = format!("a panic: {panic}");
                return Verdict::Failed { did, expected: "never a panic".into(), got };
            }
        }
    }
    if passed.is_empty() {
        let first = unseen.into_iter().next();
        let why = first.map_or_else(|| "no size to run at".into(), |(_, why)| why);
        return Verdict::NotObservable { why };
    }
    notes.extend(unseen.into_iter().map(|(n, why)| format!("not at {}: {why}", named(n))));
    Verdict::Passed { sizes: passed, notes: notes.into_iter().collect() }
}

/// Runs, and returns the words of a panic.
#[cfg(feature = "std")]
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("without words").into()
    })
}

/// Runs. Nobody can catch a panic without the standard library.
#[cfg(not(feature = "std"))]
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    Ok(run())
}
