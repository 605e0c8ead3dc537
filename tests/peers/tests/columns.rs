//! The published columns are what the peers do. After a change on purpose, `MSIX_UPDATE=1` writes them anew.

use msix_conformance::fuzz::{Exceptions, replay};
use msix_conformance::{Subject, Verdict};
use msix_registry_peers::peer::{Peer, alioth, alioth_virtio, usbvfiod, usbvfiod_events};
use msix_registry_peers::usbvfiod::counted;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Sequences of the fuzzer for each count of vectors.
const SEQUENCES: u32 = 200;

/// Where usbvfiod is, if it could be built: `tests/run long` says so.
fn program() -> Option<PathBuf> {
    let program = env::var_os("MSIX_USBVFIOD").map(PathBuf::from);
    if program.is_none() {
        println!("skipped: usbvfiod (MSIX_USBVFIOD does not say where it is)");
        assert_ne!(env::var("MSIX_REQUIRE_ALL").as_deref(), Ok("1"), "usbvfiod is missing");
    }
    program
}

fn is_current<S: Subject>(peer: &Peer<S>) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("columns").join(peer.name).with_extension("txt");
    let new = peer.text(SEQUENCES).expect("a device");
    if env::var("MSIX_UPDATE").as_deref() == Ok("1") {
        fs::write(&path, &new).expect("a column");
    }
    let old = fs::read_to_string(&path).expect("a column");
    let (mut old_lines, mut new_lines) = (old.lines(), new.lines());
    while let (Some(old), Some(new)) = (old_lines.next(), new_lines.next()) {
        assert_eq!(new, old, "{} is not current", path.display());
    }
    assert_eq!(new.len(), old.len(), "{} is not current", path.display());
}

/// Each failure is in PEERS.md with a rule that exists, and nothing else is.
fn rules_are_named<S: Subject>(peer: &Peer<S>) {
    let document = include_str!("../PEERS.md");
    let rules = include_str!("../../../core/RULES.md");
    for result in peer.report().results {
        let line = format!("| {} | {} | ", peer.name, result.id);
        let rows: Vec<&str> = document.lines().filter(|row| row.starts_with(&line)).collect();
        let failed = matches!(result.verdict, Verdict::Failed { .. });
        assert_eq!(rows.len(), usize::from(failed), "{line}: {rows:?}");
        for row in rows {
            let rule = row.split(" | ").nth(2).expect("a rule");
            assert!(rules.contains(&format!("\n### {rule}\n")), "{row}");
        }
    }
}

/// Every script of the column shows its difference again.
fn scripts_show<S: Subject>(peer: &Peer<S>) {
    let findings = peer.findings(SEQUENCES).expect("a device");
    for finding in findings.into_iter().filter_map(|(_, finding)| finding) {
        let again = replay(&peer.subject, &finding.to_string(), &Exceptions::default());
        assert_eq!(again.expect("a script"), Some(finding.difference.clone()), "{finding}");
    }
}

#[test]
fn the_column_of_alioth_is_current() {
    is_current(&alioth());
}

#[test]
fn the_failures_of_alioth_name_their_rules() {
    rules_are_named(&alioth());
}

#[test]
fn what_was_found_in_alioth_is_seen_again() {
    scripts_show(&alioth());
}

#[test]
fn the_column_of_a_virtio_device_of_alioth_is_current() {
    is_current(&alioth_virtio());
}

#[test]
fn the_failures_of_a_virtio_device_of_alioth_name_their_rules() {
    rules_are_named(&alioth_virtio());
}

#[test]
fn what_was_found_in_a_virtio_device_of_alioth_is_seen_again() {
    scripts_show(&alioth_virtio());
}

#[test]
fn the_column_of_the_events_of_usbvfiod_is_current() {
    if let Some(program) = program() {
        is_current(&usbvfiod_events(program));
    }
}

#[test]
fn the_events_of_usbvfiod_name_their_rules() {
    if let Some(program) = program() {
        rules_are_named(&usbvfiod_events(program));
    }
}

#[test]
fn usbvfiod_writes_its_eventfd_once_for_each_event_and_loses_those_without() {
    if let Some(program) = program() {
        assert_eq!(counted(&program), Ok([100, 1]));
    }
}

#[test]
fn the_column_of_usbvfiod_is_current() {
    if let Some(program) = program() {
        is_current(&usbvfiod(program));
    }
}

#[test]
fn the_failures_of_usbvfiod_name_their_rules() {
    if let Some(program) = program() {
        rules_are_named(&usbvfiod(program));
    }
}
