//! Judges everything in this project by the conformance suite, the engine on KVM where there is one.
//! `--kvm`: that alone. `--qemu`: the installed QEMU instead. `--front`: `msix qtest` instead. `--json`: for programs. Case ids: those
//! cases only.

#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
use msix_sim::{
    qemu::{Program, QemuError},
    replay::Peer,
};
use msix_tests::conformance::{
    CASES, CaseReport, QemuSubject, Report, Subject, Verdict, deviations, judge, subjects,
};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = |word: &str| arguments.iter().any(|argument| argument == word);
    let subjects: Vec<Box<dyn Subject>> = if said("--qemu") {
        vec![Box::new(QemuSubject::find("qemu-system-x86_64")?)]
    } else if said("--front") {
        front()?
    } else if said("--kvm") {
        vec![on_kvm()?]
    } else {
        let kvm = on_kvm().inspect_err(|why| eprintln!("not on KVM: {why}"));
        subjects().into_iter().chain(kvm.ok()).collect()
    };
    let ids: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    let report = |subject: &dyn Subject| Report {
        subject: subject.name(),
        results: CASES
            .iter()
            .filter(|case| ids.is_empty() || ids.contains(&case.id))
            .map(|case| CaseReport {
                id: case.id,
                intent: case.intent,
                verdict: judge(subject, case),
            })
            .collect(),
    };
    let reports: Vec<Report> = subjects.iter().map(|subject| report(subject.as_ref())).collect();
    if said("--json") {
        println!("{}", serde_json::to_string_pretty(&reports)?);
        return Ok(());
    }
    for report in reports {
        println!("{report}");
        for deviation in deviations(&report.subject) {
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
    let subject = |policy| Ok(Box::new(QemuSubject::find(Program::Front(policy))?) as Box<_>);
    [Peer::Qemu, Peer::Spec].map(subject).into_iter().collect()
}

#[cfg(not(all(feature = "kvm", target_arch = "x86_64")))]
fn front() -> Result<Vec<Box<dyn Subject>>, String> {
    Err("the qtest front takes feature `kvm`".into())
}

/// The engine on this machine's KVM.
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
fn on_kvm() -> Result<Box<dyn Subject>, String> {
    Ok(Box::new(msix_tests::conformance::KvmSubject::open()?))
}

#[cfg(not(all(feature = "kvm", target_arch = "x86_64")))]
fn on_kvm() -> Result<Box<dyn Subject>, String> {
    Err("the test machine takes feature `kvm` and x86-64".into())
}
