//! The C interface: a program in C and one in C++, judged by every case of the conformance suite.

use msix_conformance::{CASES, Case, Verdict, judge};
use msix_core::Policy;
use msix_tests::c_programs::Compiler;
use msix_tests::conformance::{CSubject, EffectPath, EventPath, deviations};
use msix_tests::peers::skipped;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What cannot be observed: the model host has no kernel.
const UNSEEN: &[&str] = &["C37", "C38"];

/// Threads, most of which wait for their adapter.
const WORKERS: usize = 4;

/// The compilers that are there; notes the skip of test `test` for each that is not.
fn compilers(test: &str) -> impl Iterator<Item = Compiler> {
    Compiler::ALL.into_iter().filter(move |compiler| {
        if !compiler.is_there() {
            skipped(test, &format!("compiler for {}", compiler.language()), "install g++");
        }
        compiler.is_there()
    })
}

#[test]
fn programs_in_c_and_cpp_pass_the_conformance_cases() {
    let mut subjects = Vec::new();
    for compiler in compilers("programs_in_c_and_cpp_pass_the_conformance_cases") {
        let program = Arc::new(compiler.build("tests/c/adapter.c"));
        let (callbacks, list) = (EffectPath::Callbacks, EffectPath::List);
        let judged = match compiler {
            Compiler::C => [
                (Policy::SPEC, callbacks, EventPath::Irqfd),
                (Policy::QEMU, list, EventPath::Userspace),
            ],
            Compiler::Cpp => [
                (Policy::SPEC, list, EventPath::Userspace),
                (Policy::QEMU, callbacks, EventPath::Irqfd),
            ],
        };
        for (policy, effects, events) in judged {
            let (program, language) = (Arc::clone(&program), compiler.language());
            subjects.push(CSubject { program, language, policy, effects, events });
        }
    }
    let judged = subjects.iter().flat_map(|subject| CASES.iter().map(move |case| (subject, case)));
    let judged: Vec<(&CSubject, &Case)> = judged.collect();
    let (next, surprises) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((subject, case)) = judged.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let surprise = surprise(subject, case);
                    surprises.lock().expect("no case panics").extend(surprise);
                }
            });
        }
    });
    let surprises = surprises.into_inner().expect("no case panics");
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// What is wrong with a verdict, if it is not the one of the engine in Rust.
fn surprise(subject: &CSubject, case: &Case) -> Option<String> {
    use msix_conformance::Subject as _;
    let name = subject.name();
    let deviates = deviations(&name).any(|deviation| deviation.case == case.id);
    let unseen = UNSEEN.contains(&case.id);
    match (judge(subject, case), deviates, unseen) {
        (Verdict::Passed { sizes, .. }, false, false) if sizes == case.sizes => None,
        (Verdict::Failed { .. }, true, false) => None,
        (Verdict::NotObservable { .. }, false, true) => None,
        (verdict, ..) => Some(format!("{name}: {case:?}: {verdict:#?}")),
    }
}
