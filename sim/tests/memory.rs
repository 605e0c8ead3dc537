//! A long log is streamed.

mod common;

use common::process::Process;
use common::{joined, recording};
use std::io::{BufWriter, Write};

/// Bytes of log to make; a debug build gets less so that the suite stays quick.
const SIZE: u64 = if cfg!(debug_assertions) { 20 << 20 } else { 100 << 20 };
/// Far less than the log, far more than the program needs.
const LIMIT_KIB: u64 = 4 << 10;

#[test]
fn a_long_log_is_replayed_in_a_small_part_of_its_size() {
    let lines = recording();
    // Lines 3499 to 3800: nothing but raises and messages, of vectors set up before.
    let steady = joined(&lines[3498..3800]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.log");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(joined(&lines[..3800]).as_bytes()).unwrap();
    let mut repeats = 0;
    while repeats * (steady.len() as u64) < SIZE {
        file.write_all(steady.as_bytes()).unwrap();
        repeats += 1;
    }
    file.into_inner().unwrap().sync_all().unwrap();

    let ended = Process::msix(&["replay", "--json", path.to_str().unwrap()]).ended();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["mismatches"], 0);
    assert_eq!(report["lines"], 3800 + repeats * 302);
    assert!(ended.peak > 0, "it ran long enough to be seen");
    assert!(
        ended.own_peak < LIMIT_KIB,
        "{} KiB at the peak for {SIZE} bytes of log",
        ended.own_peak
    );
}
