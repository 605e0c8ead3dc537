//! The installed QEMU, judged by every case at small sizes, beside the published column.

use msix_conformance::fuzz::{Fuzz, fuzz};
use msix_conformance::{CASES, Case, NoDevice, Subject, Verdict, judge};
use msix_tests::conformance::QemuSubject;
use msix_tests::conformance::qemu::{DEVIATIONS, UNSEEN, exceptions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The QEMU of this machine; notes the skip if there is none.
fn qemu() -> Option<QemuSubject> {
    let program = "qemu-system-x86_64";
    if std::process::Command::new(program).arg("--version").output().is_err() {
        let remedy = "apt-get install qemu-system-x86";
        msix_tests::peers::skipped("conformance of QEMU", program, remedy);
        return None;
    }
    Some(QemuSubject::find(program).expect("a QEMU that starts"))
}

/// What is wrong with a verdict, if it is not the published one.
fn surprise(subject: &QemuSubject, case: &Case) -> Option<String> {
    let deviation = DEVIATIONS.iter().find(|deviation| deviation.case == case.id);
    let unseen = UNSEEN.iter().find(|(id, _)| *id == case.id);
    let verdict = judge(subject, case);
    match (&verdict, deviation, unseen) {
        (Verdict::Passed { sizes, .. }, None, None) => {
            let all: Vec<u16> = case.sizes.iter().copied().filter(|n| *n <= MOST).collect();
            (*sizes != all).then(|| format!("{case:?}: run at {sizes:?} instead of {all:?}"))
        }
        (Verdict::Failed { did, expected, got }, Some(_), None) => {
            let report = format!("{did} {expected} {got}");
            let seen = SEEN.iter().find(|(id, _)| *id == case.id).map(|(_, seen)| *seen);
            let as_known = seen.is_some_and(|seen| report.contains(seen));
            (!as_known).then(|| format!("{case:?} fails in another way than known: {verdict:#?}"))
        }
        (Verdict::NotObservable { .. }, None, Some(_)) => None,
        (_, Some(deviation), _) => Some(format!("{deviation:?} is stale: {verdict:#?}")),
        (_, None, Some(unseen)) => Some(format!("{unseen:?} is stale: {verdict:#?}")),
        (_, None, None) => Some(format!("{case:?}: {verdict:#?}")),
    }
}

/// What the failures show.
const SEEN: &[(&str, &str)] = &[
    ("C07", "past the table: [ff, ff, ff, ff] [0, 0, 0, 0]"),
    ("C11", "65537 vectors: QEMU ended (signal: 6 (SIGABRT))"),
    ("C43", "a field with a bit past the last vector: refused accepted"),
];

/// Largest count that is run here; `QEMU.md` says what 2048 are like.
const MOST: u16 = 65;

#[test]
fn qemu_does_what_its_column_says() {
    let Some(subject) = qemu().map(|subject| subject.up_to(u32::from(MOST))) else { return };
    let (next, surprises) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // C11 makes devices of its own choice.
                    let whole = subject.clone().up_to(2048);
                    let of = if case.id == "C11" { &whole } else { &subject };
                    let surprise = surprise(of, case);
                    surprises.lock().expect("no case panics").extend(surprise);
                }
            });
        }
    });
    let surprises = surprises.into_inner().expect("no case panics");
    assert!(surprises.is_empty(), "{}: {surprises:#?}", subject.name());
}

/// Cases at a time; each mostly waits for its QEMU.
const WORKERS: usize = 4;

#[test]
fn a_count_that_no_function_can_have_is_refused_in_the_words_of_qemu() {
    let Some(subject) = qemu() else { return };
    for vectors in [0, 2049, 4096] {
        match subject.device(vectors) {
            Err(NoDevice::Refused(why)) => println!("{vectors}: {why}"),
            Err(NoDevice::NotOffered(why)) => panic!("{vectors} vectors are not tried: {why}"),
            Ok(_) => panic!("a device with {vectors} vectors"),
        }
    }
}

#[test]
fn a_field_that_does_not_fit_is_refused_in_the_words_of_qemu() {
    let Some(subject) = qemu() else { return };
    let Ok(mut device) = subject.device(2) else { panic!("no device with 2 vectors") };
    device.write_config(2, &[0, 0x80]);
    device.fire(1).expect("a vector of the table");
    let qemu = device.qemu_field().expect("it is offered");
    let good = qemu.save_field();
    for (control, field) in [(0x8001, &good[..20]), (0x8002, &good), (0x8801, &good)] {
        let refused = qemu.load_field(control, field).expect_err("it does not fit");
        println!("{control:#x}, {} bytes: {}", field.len(), refused.0);
    }
    qemu.load_field(0x8001, &good).expect("it fits");
    let mut pba = [0; 8];
    device.read_pba(0, &mut pba);
    assert_eq!(u64::from_le_bytes(pba), 0b10, "pending as saved");
}

#[test]
fn fuzzed_qemu_does_what_the_model_does() {
    let Some(subject) = qemu() else { return };
    let (vectors, except) = (vec![2, 65], exceptions());
    let options = Fuzz { seed: 2, sequences: 3, vectors, shorten: 100, except };
    let fuzzed = fuzz(&subject, &options).expect("a device");
    assert_eq!(fuzzed.sequences, 6);
    if let Some(finding) = fuzzed.finding {
        panic!("{finding}");
    }
}

#[test]
fn the_column_names_rules_and_every_case() {
    let rules = include_str!("../../core/RULES.md");
    for deviation in DEVIATIONS {
        assert!(rules.contains(&format!("\n### {}\n", deviation.rule)), "{}", deviation.rule);
    }
    let column = include_str!("../QEMU.md");
    for case in &CASES {
        let fails = DEVIATIONS.iter().any(|deviation| deviation.case == case.id);
        let unseen = UNSEEN.iter().any(|(id, _)| *id == case.id);
        let verdict = match (fails, unseen) {
            (true, _) => "FAILED",
            (_, true) => "not observable",
            _ => "passed",
        };
        let line = format!("| {} | {verdict} |", case.id);
        assert!(column.contains(&line), "{line}");
    }
}
