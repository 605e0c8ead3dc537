#![cfg_attr(docsrs, feature(doc_cfg))]
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
//! The rest of this page says how to write an adapter, with a complete example.
//!
#![doc = include_str!("../ADAPTER.md")]

mod adapter;
mod backend;
mod bench;
mod cases;
mod choices;
mod claims;
mod delivery;
mod function;
mod host;
mod lab;
mod layout;
mod meeting;
mod out_of_range;
mod recorded_field;
mod registers;
mod report;
mod snapshots;

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

use bench::Stop;
use lab::Lab;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Judges `subject` by every case.
#[must_use]
pub fn run(subject: &dyn Subject) -> Report {
    let report = |case: &Case| CaseReport::new(case, judge(subject, case));
    Report { subject: subject.name(), results: CASES.iter().map(report).collect() }
}

/// Judges `subject` by one case, at all its sizes; the first failure ends it. A panic of the
/// implementation is a failure.
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
        match catch_unwind(AssertUnwindSafe(|| run(n))) {
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
                let got = format!("a panic: {}", message_of_panic(panic.as_ref()));
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

fn message_of_panic(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
