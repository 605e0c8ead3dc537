//! The C interface: programs in C and C++, judged by every case of the conformance suite; what it refuses;
//! the examples, of which one is a monitor with a guest.

use msix_conformance::{CASES, Case, Verdict, judge};
use msix_core::Policy;
use msix_tests::c_programs::Compiler;
use msix_tests::conformance::{CSubject, EffectPath, EventPath, deviations};
use msix_tests::peers::skipped;
use std::process::Command;
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

/// Runs a program to its end. Returns what it wrote.
fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_is_wrong_is_answered_with_an_error() {
    for compiler in compilers("what_is_wrong_is_answered_with_an_error") {
        assert_eq!(output_of(&mut compiler.build("tests/c/refuses.c").command()), "");
    }
}

#[test]
fn the_example_of_the_readme_sends_a_message() {
    let example = include_str!("../../backends/capi/examples/engine.c");
    let (_, code) = example.split_once("*/\n").expect("a comment and a program");
    let readme = include_str!("../../backends/capi/README.md");
    assert!(readme.contains(code), "the README has another example than examples/engine.c");
    if compilers("the_example_of_the_readme_sends_a_message").any(|found| found == Compiler::C) {
        let said = output_of(&mut Compiler::C.build("backends/capi/examples/engine.c").command());
        assert_eq!(said, "vector 0: write 0x23 to 0xfee01000\n");
    }
}

#[test]
fn a_monitor_in_c_boots_a_guest_and_counts_its_interrupts() {
    let name = "a_monitor_in_c_boots_a_guest_and_counts_its_interrupts";
    if !cfg!(target_arch = "x86_64") || !compilers(name).any(|found| found == Compiler::C) {
        return;
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return skipped(
            name,
            &format!("/dev/kvm: {error}"),
            "needs KVM and leave to open /dev/kvm",
        );
    }
    let monitor = Compiler::C.build("backends/capi/examples/vmm.c");
    let said = output_of(monitor.command().arg("2000"));
    let (guest, kernel) = said.split_once('\n').expect("three lines");
    assert_eq!(guest, "2003 rings, 2001 interrupts, PBA 0x1 while masked");
    // Armed at the first unmask and at the second; the pending event was sent by itself.
    assert!(kernel.contains(" 2 irqfds, 1 messages from userspace, 0 failures"), "{kernel}");
    let counted = "vector 0: 2000 events given to KVM, 3 taken while masked, 1 messages sent";
    assert_eq!(kernel.lines().nth(1), Some(counted));
}
