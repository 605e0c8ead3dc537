//! The conformance suite on an ITS: the verdicts are those on x86, for one and two vectors.

use super::Test;
use crate::pending::Pending;
use crate::{Outcome, same};
use kvm_ioctls::Kvm;
use msix_conformance::{CASES, FUNCTION_CASES, Subject, Verdict, judge, judge_function};
use msix_subjects::{Fault, KvmFunctionSubject, KvmSubject};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("the conformance cases of MSI-X on the function", function),
    ("the conformance cases on MSI-X alone", alone),
    ("the conformance cases of MSI, INTx and the modes", modes),
    ("a kernel with a fault fails its cases", faults),
];

/// More would take minutes: each look at the tables is made by an emulated processor.
const MOST: u32 = 2;
/// The verdicts on x86, a line for each case: of the function, and of MSI-X alone.
const COLUMNS: &str = include_str!("../../../../KVM.md");
/// Cases that cannot be judged without a log of what is armed, or a physical line.
const UNSEEN: [&str; 3] = ["L08", "L09", "L10"];

const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed { .. } => "passed",
        Verdict::Failed { .. } => "FAILED",
        Verdict::NotObservable { .. } => "not observable",
    }
}

/// Says how many verdicts are of each kind, and that none is a surprise.
fn conclude(verdicts: &[(&str, Verdict)], expected: impl Fn(&str) -> String) -> Outcome {
    let count = |kind| verdicts.iter().filter(|(_, verdict)| word(verdict) == kind).count();
    let [passed, failed, unseen] = ["passed", "FAILED", "not observable"].map(count);
    println!("VM-FIGURE: {passed} passed, {failed} failed, {unseen} not observable");
    let surprise = verdicts.iter().find(|(id, verdict)| word(verdict) != expected(id));
    surprise.map_or(Ok(()), |(id, verdict)| {
        Err(format!("{id}: {verdict:?} instead of {}", expected(id)))
    })
}

/// Judges what `subject` makes for so many vectors.
fn judged(subject: impl Fn(u32) -> Outcome<Box<dyn Subject>>, column: usize) -> Outcome {
    let (few, all) = (subject(MOST)?, subject(2048)?);
    let verdicts = CASES.each_ref().map(|case| {
        // It is about the number of vectors, and sends little.
        let subject = if case.id == "C11" { &all } else { &few };
        (case.id, judge(&**subject, case))
    });
    let published = |id: &str| {
        let line = COLUMNS.lines().find(|line| line.starts_with(&format!("| {id} |")));
        let cell = line.and_then(|line| line.split('|').nth(column + 2));
        cell.unwrap_or("no line").trim().to_owned()
    };
    conclude(&verdicts, published)?;
    for (case, (_, verdict)) in CASES.iter().zip(&verdicts) {
        if let Verdict::Passed { sizes, .. } = verdict {
            let offered: Vec<u16> =
                case.sizes.iter().copied().filter(|n| u32::from(*n) <= MOST).collect();
            let all = case.sizes == sizes.as_slice(); // a case may make no device
            same(case.id, all || *sizes == offered, true)?;
        }
    }
    Ok(())
}

fn function(_: &Kvm) -> Outcome {
    judged(|most| Ok(Box::new(KvmFunctionSubject::new(Pending::make, most)?)), 0)
}

fn alone(_: &Kvm) -> Outcome {
    judged(|most| Ok(Box::new(KvmSubject::new(Pending::make, most)?)), 1)
}

fn modes(_: &Kvm) -> Outcome {
    let subject = KvmFunctionSubject::new(Pending::make, MOST)?;
    let verdicts = FUNCTION_CASES.each_ref().map(|case| (case.id, judge_function(&subject, case)));
    conclude(&verdicts, |id| {
        if UNSEEN.contains(&id) { "not observable".to_owned() } else { "passed".to_owned() }
    })
}

/// The record says that all is well: what is wrong shows at the eventfds and in the pending tables alone.
fn faults(_: &Kvm) -> Outcome {
    let subject = KvmFunctionSubject::new(Pending::make, 2)?;
    let lpis = "the LPIs of the events";
    for (fault, id, shows) in [
        (Fault::NeverAssigns, "C12", "messages: 0xfee00000"),
        (Fault::NeverDeassigns, "C33", lpis),
        (Fault::Misroutes, "C12", lpis),
        (Fault::Swallows, "C42", lpis),
    ] {
        let case = msix_conformance::case(id).ok_or("no such case")?;
        match judge(&subject.clone().with_kernel(fault), case) {
            Verdict::Failed { expected, got, .. }
                if format!("{expected}: {got}").contains(shows) => {}
            other => return Err(format!("a kernel with {fault:?}, {id}: {other:?}")),
        }
    }
    Ok(())
}
