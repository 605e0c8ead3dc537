//! The conformance suite: 48 cases that any MSI-X implementation can be judged by.
//!
//! An implementation is shown to the suite by an adapter: [`Device`] for one function, [`Subject`]
//! for how it is made. `ADAPTER.md` beside this crate's manifest says how to write one, with a
//! complete example. [`run`] then gives a [`Report`]: for every case of [`CASES`] a [`Verdict`],
//! and for a failure what was done, what should have been seen, and what was.
//!
//! The cases come from `CONFORMANCE.md`; rules cited as `A7` or `H4` are in the engine's
//! `RULES.md`. Each case is run at several vector counts ([`Case::sizes`]). Where the rules leave a
//! choice, the subject says what it chose ([`Choices`]) and is held to that; what it does not say
//! is accepted in every conforming form, and the report notes the one seen.
//!
//! ```
//! use msix_core::Policy;
//! use msix_tests::conformance::{Delivery, EngineSubject, Verdict, judge, case};
//!
//! let engine = EngineSubject::new(Policy::SPEC, Delivery::Userspace);
//! let c13 = case("C13").unwrap();
//! assert!(matches!(judge(&engine, c13), Verdict::Passed { .. }));
//! ```

mod adapter;
mod backend;
mod bench;
mod cases;
mod choices;
mod delivery;
mod engine;
mod gates;
pub mod guide;
mod host;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod kvm;
mod lab;
mod layout;
mod model_host;
mod modes;
mod naive;
pub mod qemu;
mod registers;
mod report;
mod state;
pub mod stream;
mod subjects;
mod suite_host;

pub use adapter::{
    Attachment, BackendCall, BackendLog, BusMaster, Device, ExclusiveBar, FunctionReset, HostCall,
    HostLog, HostScript, Intx, IntxCall, Layouts, Message, NoDevice, Placement, QemuField, Refused,
    SideChannel, Snapshots, Subject, Uses, Withdrawal,
};
pub use cases::{CASES, Case, case};
pub use choices::{
    BusMasterOff, Choices, LiveRewrite, PendingOnDisable, TableAccess, UnclaimedPending,
    VectorControlBits, WhileDisabled,
};
pub use engine::EngineSubject;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub use kvm::KvmSubject;
pub use model_host::Delivery;
pub use modes::{
    EduSubject, FunctionSubject, MODE_CASES, MODE_DEVIATIONS, MSIX_MESSAGE, ModeCase, ModeDevice,
    ModeSubject, MsixBeside, NaiveFunctionSubject, PhysicalLine, judge_modes, mode_deviations,
    mode_subjects, run_modes,
};
pub use naive::NaiveSubject;
pub use qemu::QemuSubject;
pub use report::{CaseReport, Report, Verdict};
pub use subjects::{Deviation, KVM_DEVIATIONS, deviations, subjects};

use bench::Stop;
use lab::Lab;
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
    let (mut passed, mut notes, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    for &n in case.sizes {
        let lab = Lab::new(subject, n);
        match catch_unwind(AssertUnwindSafe(|| (case.run)(&lab))) {
            Ok(Ok(())) => {
                passed.push(n);
                notes.extend(lab.into_notes());
            }
            Ok(Err(Stop::NotObservable(why))) => unseen.push((n, why)),
            Ok(Err(Stop::Failed { did, expected, got })) => {
                return Verdict::Failed { did, expected, got };
            }
            Err(panic) => {
                let did = format!("N={n}: ran {}", case.id);
                let got = format!("a panic: {}", said(panic.as_ref()));
                return Verdict::Failed { did, expected: "never a panic".into(), got };
            }
        }
    }
    if passed.is_empty() {
        let first = unseen.into_iter().next();
        let why = first.map_or_else(|| "no size to run at".into(), |(_, why)| why);
        return Verdict::NotObservable { why };
    }
    notes.extend(unseen.into_iter().map(|(n, why)| format!("not at N={n}: {why}")));
    notes.sort();
    notes.dedup();
    Verdict::Passed { sizes: passed, notes }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
