//! Judges everything in this project by the conformance suite, the engine on KVM where there is one.
//! `--kvm`: that alone. `--qemu`: the installed QEMU instead. `--edu`: MSI and INTx of its edu device
//! instead. `--front`: `msix qtest` instead. `--json`: for programs. Case ids: those cases only.

use msix_conformance::{
    CASES, CaseReport, FUNCTION_CASES, FunctionSubject, Report, Subject, Verdict, judge,
    judge_function,
};
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
use msix_peers::QemuError;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
use msix_sim::replay::Peer;
use msix_tests::conformance::{
    EduSubject, QemuSubject, deviations, function_deviations, function_subjects, subjects,
};
use std::error::Error;
use std::path::Path;

/// The installed QEMU.
const QEMU: &str = "qemu-system-x86_64";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = |word: &str| arguments.iter().any(|argument| argument == word);
    let ids: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    let wanted = |id: &str| ids.is_empty() || ids.contains(&id);
    let mut whole: Vec<Box<dyn FunctionSubject>> = Vec::new();
    let subjects: Vec<Box<dyn Subject>> = if said("--qemu") {
        vec![Box::new(QemuSubject::find(QEMU)?)]
    } else if said("--front") {
        front()?
    } else if said("--kvm") {
        on_kvm()?
    } else if said("--edu") {
        whole.push(Box::new(EduSubject::find(Path::new(QEMU))?));
        Vec::new()
    } else {
        whole = function_subjects();
        let kvm = on_kvm().inspect_err(|why| eprintln!("not on KVM: {why}"));
        subjects().into_iter().chain(kvm.into_iter().flatten()).collect()
    };
    let of_msix = subjects.iter().map(|subject| Report {
        subject: subject.name(),
        results: (CASES.iter().filter(|case| wanted(case.id)))
            .map(|case| CaseReport {
                id: case.id,
                intent: case.intent,
                verdict: judge(subject.as_ref(), case),
            })
            .collect(),
    });
    let of_modes = whole.iter().map(|subject| Report {
        subject: subject.name(),
        results: (FUNCTION_CASES.iter().filter(|case| wanted(case.id)))
            .map(|case| CaseReport {
                id: case.id,
                intent: case.intent,
                verdict: judge_function(subject.as_ref(), case),
            })
            .collect(),
    });
    // Of cases of one kind, nothing is said of who is judged by the other.
    let reports: Vec<Report> =
        of_msix.chain(of_modes).filter(|report| !report.results.is_empty()).collect();
    if reports.is_empty() {
        return Err("no such case for these subjects".into());
    }
    if said("--json") {
        println!("{}", serde_json::to_string_pretty(&reports)?);
        return Ok(());
    }
    for report in reports {
        println!("{report}");
        let expected = deviations(&report.subject).chain(function_deviations(&report.subject));
        for deviation in expected {
            let verdict = report.results.iter().find(|result| result.id == deviation.case);
            if let Some(Verdict::Failed { .. }) = verdict.map(|result| &result.verdict) {
                println!(
                    "  {} is expected ({}): {}",
                    deviation.case, deviation.rule, deviation.why
                );
            }
        }
        println!();
    }
    Ok(())
}

/// The qtest front, under both policies.
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
fn front() -> Result<Vec<Box<dyn Subject>>, QemuError> {
    let subject = |policy| Ok(Box::new(QemuSubject::front(policy)?) as Box<_>);
    [Peer::Qemu, Peer::Spec].map(subject).into_iter().collect()
}

#[cfg(not(all(feature = "kvm", target_arch = "x86_64")))]
fn front() -> Result<Vec<Box<dyn Subject>>, String> {
    Err("the qtest front takes feature `kvm`".into())
}

/// The whole function on this machine's KVM, and MSI-X alone.
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
fn on_kvm() -> Result<Vec<Box<dyn Subject>>, String> {
    use msix_tests::conformance::{function_on_kvm, msix_on_kvm};
    Ok(vec![Box::new(function_on_kvm()?), Box::new(msix_on_kvm()?)])
}

#[cfg(not(all(feature = "kvm", target_arch = "x86_64")))]
fn on_kvm() -> Result<Vec<Box<dyn Subject>>, String> {
    Err("the test machine takes feature `kvm` and x86-64".into())
}
