//! The fuzzer finds the same defects without being told where to look, and its scripts show them.

use super::{FAULTS, Fault, Faulty, passing};
use msix_conformance::fuzz::{Exceptions, Fuzz, fuzz, replay};
use msix_core::Policy;
use msix_explorer::script::Script;
use msix_tests::conformance::{EngineSubject, EventPath};

/// Defects that no sequence of operations shows, and why.
const NOT_OF_A_DEVICE: &[(Fault, &str)] = &[
    (Fault::CountIsTruncated, "of a device that cannot be"),
    (Fault::PbaRightBehindTheTable, "of a layout"),
    (Fault::OverlapAccepted, "of a layout"),
];

fn options() -> Fuzz {
    Fuzz { sequences: 2000, vectors: vec![2, 65], ..Fuzz::default() }
}

#[test]
fn every_defect_of_a_device_is_found_by_fuzzing_and_its_script_shows_it() {
    for (id, fault) in FAULTS {
        if NOT_OF_A_DEVICE.iter().any(|(other, _)| other == fault) {
            continue;
        }
        for path in passing(id) {
            let subject = Faulty::new(*fault, path);
            let fuzzed = fuzz(&subject, &options()).expect("a device");
            let finding = fuzzed.finding.unwrap_or_else(|| {
                panic!("{fault:?}, {path:?}: not found in {} sequences", fuzzed.sequences)
            });
            let text = finding.to_string();
            println!("{fault:?}, {path:?}, after {} sequences:\n{text}", fuzzed.sequences);
            let again = replay(&subject, &text, &Exceptions::default()).expect("a script");
            let again =
                again.unwrap_or_else(|| panic!("{fault:?}: the script shows nothing:\n{text}"));
            assert_eq!(again.what, finding.difference.what, "{fault:?}:\n{text}");
            let without = EngineSubject::new(Policy::SPEC, path);
            let none = replay(&without, &text, &Exceptions::default()).expect("a script");
            assert_eq!(none, None, "{fault:?}: the engine does what the script shows:\n{text}");
            Script::parse(&text).expect("a script that `msix replay` takes");
        }
    }
}

#[test]
fn without_a_defect_nothing_is_found() {
    for path in [EventPath::Userspace, EventPath::Irqfd] {
        let fuzzed = fuzz(&Faulty::new(Fault::None, path), &options()).expect("a device");
        if let Some(finding) = fuzzed.finding {
            panic!("{path:?}: after {} sequences:\n{finding}", fuzzed.sequences);
        }
        assert_eq!(fuzzed.sequences, 4000);
    }
}
