//! The engine on this machine's KVM, judged by every case at all sizes, beside the published column;
//! and a backend or a kernel with a fault, which must show.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_conformance::{CASES, Case, NoDevice, Subject, Verdict, case, judge};
use msix_subjects::{Fault, KvmFunctionSubject, KvmSubject};
use msix_tests::conformance::{ALONE_DEVIATIONS, deviations, function_on_kvm, msix_on_kvm};
use msix_tests::peers::skipped;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What cannot be observed of the function from outside: its own host, and encodings and lines that
/// are not MSI-X's alone.
const UNSEEN: &[&str] =
    &["C29", "C30", "C31", "C32", "C34", "C36", "C37", "C39", "C40", "C45", "C46", "C50"];

/// Whether there is a KVM; notes the skip of test `test` if there is none.
fn has_kvm(test: &str) -> bool {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        skipped(test, &format!("/dev/kvm: {error}"), "needs KVM and leave to open /dev/kvm");
        return false;
    }
    true
}

/// MSI-X alone on KVM; notes the skip of test `test` if there is none.
fn alone(test: &str) -> Option<KvmSubject> {
    has_kvm(test).then(|| msix_on_kvm().expect("a KVM that makes a machine"))
}

/// The whole function on KVM; notes the skip of test `test` if there is none.
fn function(test: &str) -> Option<KvmFunctionSubject> {
    has_kvm(test).then(|| function_on_kvm().expect("a KVM that makes a machine"))
}

/// What is wrong with a verdict, if it is not the published one.
fn surprise(subject: &dyn Subject, unseen: &[&str], case: &Case) -> Option<String> {
    let deviation = deviations(&subject.name()).find(|deviation| deviation.case == case.id);
    let unseen = unseen.iter().find(|id| **id == case.id);
    let verdict = judge(subject, case);
    match (&verdict, deviation, unseen) {
        (Verdict::Passed { sizes, .. }, None, None) => (sizes != case.sizes)
            .then(|| format!("{case:?}: run at {sizes:?} instead of {:?}", case.sizes)),
        (Verdict::Failed { .. }, Some(_), None) => None,
        (Verdict::NotObservable { .. }, None, Some(_)) => None,
        (_, Some(deviation), _) => Some(format!("{deviation:?} is stale: {verdict:#?}")),
        (_, None, Some(_)) => Some(format!("{case:?} can be observed: {verdict:#?}")),
        (_, None, None) => Some(format!("{case:?}: {verdict:#?}")),
    }
}

#[test]
fn the_function_on_kvm_does_what_its_column_says() {
    let name = "the_function_on_kvm_does_what_its_column_says";
    if let Some(subject) = function(name) {
        does_what_its_column_says(name, &subject, UNSEEN);
    }
}

#[test]
fn msix_alone_on_kvm_does_what_its_column_says() {
    let name = "msix_alone_on_kvm_does_what_its_column_says";
    if let Some(subject) = alone(name) {
        does_what_its_column_says(name, &subject, &[]);
    }
}

fn does_what_its_column_says(name: &str, subject: &(dyn Subject + Sync), unseen: &[&str]) {
    if let Err(NoDevice::NotOffered(why)) = subject.device(2048) {
        return skipped(name, &why, "raise the hard limit with `ulimit -Hn`");
    }
    let (next, surprises) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let surprise = surprise(subject, unseen, case);
                    surprises.lock().expect("no case panics").extend(surprise);
                }
            });
        }
    });
    let surprises = surprises.into_inner().expect("no case panics");
    assert!(surprises.is_empty(), "{surprises:#?}");
}

/// Cases at a time, each on a machine of its own.
const WORKERS: usize = 2;

/// The failure of a case.
fn failure(subject: &dyn Subject, id: &str) -> Option<String> {
    match judge(subject, case(id).expect("a case of the list")) {
        Verdict::Failed { did, expected, got } => Some(format!("{did}: {expected}: {got}")),
        Verdict::Passed { .. } | Verdict::NotObservable { .. } => None,
    }
}

#[test]
fn a_backend_with_a_fault_fails() {
    let name = "a_backend_with_a_fault_fails";
    let (Some(alone), Some(function)) = (alone(name), function(name)) else { return };
    let faults: [(Fault, &str, &[&str]); 6] = [
        (Fault::NeverAssigns, "never assigns", &["C12", "C13", "C28", "C32", "C35", "C39"]),
        (Fault::NeverDeassigns, "never deassigns", &["C12", "C32", "C33", "C34", "C40"]),
        (Fault::CommitsLate, "commits late", &["C12", "C28", "C37", "C38", "C39"]),
        (Fault::CommitsTwice, "commits twice", &["C34", "C38"]),
        (Fault::Misroutes, "misroutes", &["C12", "C28", "C32", "C34", "C39"]),
        (Fault::Swallows, "swallows", &["C13", "C33", "C35", "C39", "C42"]),
    ];
    for (backend, what, cases) in faults {
        let alone = alone.clone().with_backend(backend);
        let function = function.clone().with_backend(backend);
        for id in cases {
            assert!(failure(&alone, id).is_some(), "a backend that {what} passes {id}");
            let seen = UNSEEN.contains(id) || failure(&function, id).is_some();
            assert!(seen, "a backend of a function that {what} passes {id}");
        }
    }
}

/// The record says that all is well: what is wrong shows at the eventfds and the local APICs alone.
#[test]
fn a_kernel_with_a_fault_fails() {
    let name = "a_kernel_with_a_fault_fails";
    let (Some(alone), Some(function)) = (alone(name), function(name)) else { return };
    let (apics, messages) = ("the local APICs were asked for", "messages: 0xfee00000");
    let faults: [(Fault, &str, &str, &[&str]); 6] = [
        (Fault::NeverAssigns, "never assigns", messages, &["C12", "C35"]),
        (Fault::NeverAssigns, "never assigns", apics, &["C13"]),
        (Fault::NeverDeassigns, "never deassigns", apics, &["C12", "C32", "C33", "C37"]),
        (Fault::CommitsLate, "commits late", apics, &["C12", "C28", "C35", "C39"]),
        (Fault::Misroutes, "misroutes", apics, &["C12", "C32", "C34", "C39"]),
        (Fault::Swallows, "swallows", apics, &["C13", "C33", "C37", "C42"]),
    ];
    for (kernel, what, shows, cases) in faults {
        let alone = alone.clone().with_kernel(kernel);
        let function = function.clone().with_kernel(kernel);
        let subjects: [(&dyn Subject, &[&str]); 2] = [(&alone, &[]), (&function, UNSEEN)];
        for (subject, unseen) in subjects {
            for id in cases.iter().filter(|id| !unseen.contains(id)) {
                let failure = failure(subject, id);
                let seen = failure.as_ref().is_some_and(|failure| failure.contains(shows));
                assert!(seen, "a kernel that {what}, {id}, {}: {failure:?}", subject.name());
            }
        }
    }
}

#[test]
fn the_column_names_rules_and_every_case() {
    let rules = include_str!("../../core/RULES.md");
    for deviation in ALONE_DEVIATIONS {
        assert!(rules.contains(&format!("\n### {}\n", deviation.rule)), "{}", deviation.rule);
    }
    let column = include_str!("../KVM.md");
    for case in &CASES {
        let unseen = UNSEEN.contains(&case.id);
        let function = if unseen { "not observable" } else { "passed" };
        let fails = ALONE_DEVIATIONS.iter().any(|deviation| deviation.case == case.id);
        let alone = if fails { "FAILED" } else { "passed" };
        let line = format!("| {} | {function} | {alone} |", case.id);
        assert!(column.contains(&line), "{line}");
    }
}
