//! The cases for MSI, INTx and the modes: the function and its model, QEMU's edu device, and that a
//! broken function is caught.

use msix_conformance::{FUNCTION_CASES, FunctionSubject, Verdict, judge_function};
use msix_tests::conformance::{EduSubject, function_deviations, function_subjects};
use std::path::Path;

/// What is wrong with the verdicts on a subject that fails `expected` and does not show `unseen`.
fn surprises(subject: &dyn FunctionSubject, expected: &[&str], unseen: &[&str]) -> Vec<String> {
    let mut surprises = Vec::new();
    for case in &FUNCTION_CASES {
        let verdict = judge_function(subject, case);
        let known = match verdict {
            Verdict::Passed { .. } => !expected.contains(&case.id) && !unseen.contains(&case.id),
            Verdict::Failed { .. } => expected.contains(&case.id),
            Verdict::NotObservable { .. } => unseen.contains(&case.id),
        };
        surprises.extend((!known).then(|| format!("{case:?}: {verdict:#?}")));
    }
    surprises
}

#[test]
fn the_function_and_its_model_pass_all_but_what_qemus_policy_does_otherwise() {
    for subject in function_subjects() {
        let name = subject.name();
        let expected: Vec<&str> = function_deviations(&name).map(|d| d.case).collect();
        let of_the_policy = expected.iter().filter(|case| **case != "M17").count();
        assert_eq!(of_the_policy == 0, name.contains(", SPEC,"), "{name}");
        // The model has no bytes that it is saved as.
        let unseen: &[&str] = if name.starts_with("naive") { &RESTORES } else { &[] };
        assert_eq!(surprises(subject.as_ref(), &expected, unseen), [""; 0], "{name}");
    }
}

/// The cases about snapshots.
const RESTORES: [&str; 3] = ["M18", "L11", "L12"];

/// The same, with events written to eventfds that the kernel has.
#[test]
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
fn the_function_on_kvm_passes_all_that_need_no_device_behind_it() {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        let why = format!("/dev/kvm: {error}");
        let remedy = "needs KVM and leave to open /dev/kvm";
        return msix_tests::peers::skipped("MSI and INTx on KVM", &why, remedy);
    }
    let subject = msix_tests::conformance::function_on_kvm().expect("KVM");
    // No log of what is armed, which L08 asks for too, and no physical line.
    assert_eq!(surprises(&subject, &[], &["L08", "L09", "L10"]), [""; 0]);
}

/// One vector, no masks, no MSI-X, no reset of the function alone, and no snapshot of its own.
const EDU_UNSEEN: &[&str] = &[
    "M06", "M07", "M09", "M10", "M11", "M12", "M13", "M16", "M18", "L08", "L09", "L10", "L11",
    "L12",
];

#[test]
fn qemus_edu_device_does_what_its_column_says() {
    let program = "qemu-system-x86_64";
    if std::process::Command::new(program).arg("--version").output().is_err() {
        let remedy = "apt-get install qemu-system-x86";
        return msix_tests::peers::skipped("MSI and INTx of QEMU", program, remedy);
    }
    let subject = EduSubject::find(Path::new(program)).expect("a QEMU that starts");
    let deviations: Vec<&str> = function_deviations(&subject.name()).map(|d| d.case).collect();
    assert_eq!(deviations, ["L06"]);
    assert_eq!(surprises(&subject, &deviations, EDU_UNSEEN), [""; 0]);
}

#[test]
fn ids_are_in_order_and_the_list_in_words_is_this_one() {
    let words = include_str!("../CONFORMANCE.md");
    for case in FUNCTION_CASES {
        let line = format!("- {} {}", case.id, case.intent);
        assert!(words.lines().any(|known| known == line), "CONFORMANCE.md has no `{line}`");
    }
    assert!(FUNCTION_CASES.map(|case| case.id)[..18].is_sorted());
    assert!(FUNCTION_CASES.map(|case| case.id)[18..].is_sorted());
}
