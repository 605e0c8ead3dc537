//! The memory of a search. Alone in its process, whose peak it reads.

#![cfg(target_os = "linux")]

use msix_explorer::{MsixOptions, explore_msix, placed};

/// A debug build needs some seconds for these. Most of them are not left when the search ends.
const STATES: usize = 10_000;
/// A key and an origin are 16; the rest is what a growing table and list have to spare.
const BYTES_A_STATE: usize = 64;

#[test]
fn a_state_takes_tens_of_bytes_whether_it_was_left_or_not() {
    let mut options = MsixOptions::default();
    options.at = placed(2);
    // What any search needs is there before.
    options.max_states = 10;
    assert!(explore_msix(&options, |_| true).unwrap().violation.is_none());
    let before = peak();
    options.max_states = STATES;
    let outcome = explore_msix(&options, |_| true).unwrap();
    assert_eq!((outcome.extent.states, outcome.violation.is_none()), (STATES, true));
    let bytes = (peak() - before) / STATES;
    assert!(bytes < BYTES_A_STATE, "{bytes} bytes for each state");
}

/// The most memory that this process ever had, bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
