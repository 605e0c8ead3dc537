//! The image of `tests/firmware`, which judges the engine without an operating system: it is built, and
//! booted in QEMU and as a guest of KVM.

#![cfg(target_arch = "x86_64")]

mod image;
#[cfg(feature = "kvm")]
mod kvm;
mod qemu;

use image::{Image, image_or_skip};
use msix_conformance::{CASES, FUNCTION_CASES};
use msix_tests::conformance::{ALONE_DEVIATIONS, function_deviations};

/// The checked-in figures, one a row of a table.
const README: &str = include_str!("../../firmware/README.md");

/// What a machine said on its debug console, and what the image ended with.
struct Ended {
    said: String,
    result: u8,
}

impl Ended {
    /// The figure in the line that begins with `name`.
    fn figure(&self, name: &str) -> u64 {
        let line = self.said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let line = line.unwrap_or_else(|| panic!("no {name} in:\n{}", self.said));
        line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
    }

    /// The cases with this verdict, of the subject whose name ends so.
    fn cases(&self, subject: &str, verdict: &str) -> Vec<&str> {
        let of_subject = self.said.lines().skip_while(|line| !line.ends_with(subject)).skip(1);
        let verdicts = of_subject.map_while(|line| line.strip_prefix("  "));
        verdicts
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, said)| said.starts_with(verdict))
            .map(|(case, _)| case)
            .collect()
    }
}

/// The kinds of memory of the image, with the cases that need more than it has.
const MEMORIES: [(&str, &[&str]); 2] =
    [("inline memory", &["C11", "C37", "C38"]), ("static memory", &["C37", "C38"])];

/// Every case of `cases` passes in every one of `memories`, but those that need more, and every other one for
/// the whole function.
fn assert_conforms(ended: &Ended, memories: &[(&str, &[&'static str])], cases: &[&str]) {
    for (path, as_named_elsewhere) in [("engine", "userspace"), ("backend", "irqfd-like host")] {
        let alone = ALONE_DEVIATIONS.iter().filter(|_| path == "backend").map(|known| known.case);
        let alone: Vec<&str> = alone.collect();
        for (memory, unseen) in memories {
            let subject = format!("{memory}, events by the {path}");
            let of_msix = cases.iter().copied().filter(|case| case.starts_with('C')).collect();
            assert_verdicts(ended, &subject, of_msix, &alone, unseen);
        }
        let name = format!("function, SPEC, {as_named_elsewhere}");
        let alone: Vec<&str> = function_deviations(&name).map(|known| known.case).collect();
        let of_function = cases.iter().copied().filter(|case| !case.starts_with('C')).collect();
        let subject = format!("function, events by the {path}");
        assert_verdicts(ended, &subject, of_function, &alone, &[]);
    }
    assert_eq!(ended.result, 0, "{}", ended.said);
}

fn assert_verdicts(
    ended: &Ended,
    subject: &str,
    cases: Vec<&str>,
    alone: &[&str],
    unseen: &[&str],
) {
    let seen = |verdict| ended.cases(subject, verdict);
    let of = |some: &[&str]| -> Vec<String> {
        some.iter().filter(|case| cases.contains(case)).map(ToString::to_string).collect()
    };
    assert_eq!(seen("failed as known"), of(alone), "{}", ended.said);
    assert_eq!(seen("failed"), of(alone), "{}", ended.said);
    assert_eq!(seen("not observable"), of(unseen), "{}", ended.said);
    let passed = cases.len() - of(alone).len() - of(unseen).len();
    assert_eq!(seen("passed").len(), passed, "{}", ended.said);
}

fn all_cases() -> Vec<&'static str> {
    let of_function = FUNCTION_CASES.iter().map(|case| case.id);
    CASES.iter().map(|case| case.id).chain(of_function).collect()
}

#[test]
fn firmware_conforms_in_qemu() {
    let Some(image) = image_or_skip("firmware_conforms_in_qemu") else { return };
    let Some(ended) = qemu::boot_or_skip("firmware_conforms_in_qemu", image, "") else { return };
    assert_conforms(&ended, &MEMORIES, &all_cases());
}

/// All cases where the processor runs guests. A KVM that emulates every instruction of them, as where
/// there is no nested virtualization, is a thousand times slower: there it is a few cases at 64 vectors.
#[test]
#[cfg(feature = "kvm")]
fn firmware_conforms_as_a_guest_of_kvm() {
    let test = "firmware_conforms_as_a_guest_of_kvm";
    let Some(image) = image_or_skip(test) else { return };
    let (memories, cases, word) = match kvm::has_hardware() {
        true => (&MEMORIES[..], all_cases(), ""),
        false => (&MEMORIES[..1], FEW_CASES.to_vec(), "inline "),
    };
    let command_line = format!("{word}only={}", cases.join(","));
    let Some(ended) = kvm::boot_or_skip(test, image, &command_line) else { return };
    assert_conforms(&ended, memories, &cases);
}

/// Registers, delivery, and a withdrawal of what the backend holds.
#[cfg(feature = "kvm")]
const FEW_CASES: [&str; 4] = ["C02", "C05", "C13", "C22"];

#[test]
fn firmware_says_what_a_defect_breaks() {
    let Some(image) = image_or_skip("firmware_says_what_a_defect_breaks") else { return };
    let booted = qemu::boot_or_skip("firmware_says_what_a_defect_breaks", image, "seeded-defect");
    let Some(ended) = booted else { return };
    assert_eq!(ended.result, 1, "{}", ended.said);
    let failed = ended.cases("static memory, events by the backend", "failed");
    assert!(["C22", "C24"].iter().all(|case| failed.contains(case)), "{}", ended.said);
    let failed = ended.cases("static memory, events by the engine", "failed");
    assert!(failed.is_empty(), "nothing is held there: {}", ended.said);
}

#[test]
fn firmware_grows_by_no_more_than_5_percent() {
    let Some(image) = image_or_skip("firmware_grows_by_no_more_than_5_percent") else { return };
    let booted = qemu::boot_or_skip("firmware_grows_by_no_more_than_5_percent", image, "");
    let Some(ended) = booted else { return };
    let mut grown = Vec::new();
    for (name, recorded) in figures() {
        let measured = measured(image, &ended, name);
        println!("| {name} | {measured} |");
        if measured * 100 > recorded * 105 {
            grown.push(format!("{name}: {measured} bytes, {recorded} in tests/firmware/README.md"));
        }
    }
    assert!(grown.is_empty(), "more than 5 % more than recorded:\n{}", grown.join("\n"));
}

/// The rows of the table in README.md: a name and bytes.
fn figures() -> Vec<(&'static str, u64)> {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| row.split_once(" | "));
    let figures: Vec<_> =
        rows.filter_map(|(name, bytes)| Some((name, bytes.parse().ok()?))).collect();
    assert_eq!(figures.len(), 8, "rows of figures in README.md");
    figures
}

fn measured(image: &Image, ended: &Ended, name: &str) -> u64 {
    if name.starts_with("machine code of the engine") {
        image.section(".text.engine")
    } else if name.starts_with("machine code of the backend") {
        image.section(".text.image")
    } else if name.starts_with("machine code of the cases") {
        image.section(".text")
    } else if name == "constants" {
        image.section(".rodata")
    } else if name == "data" {
        image.section(".data")
    } else {
        ended.figure(name)
    }
}
