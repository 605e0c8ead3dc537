//! A long log is streamed.

mod common;

use common::{joined, recording};
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Bytes of log to make; a debug build gets less so that the suite stays quick.
const SIZE: u64 = if cfg!(debug_assertions) { 20 << 20 } else { 100 << 20 };
/// Far less than the log, far more than the program needs.
const LIMIT_KIB: u64 = 14 << 10;

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

    let child = Command::new(env!("CARGO_BIN_EXE_msix"))
        .args(["replay", "--json", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watcher = std::thread::spawn(move || {
        let mut peak = None;
        while let Ok(text) = std::fs::read_to_string(&status) {
            // A process that has ended has no memory to report.
            let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) else { break };
            peak = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let output = child.wait_with_output().unwrap();
    let peak = watcher.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mismatches"], 0);
    assert_eq!(report["lines"], 3800 + repeats * 302);
    let peak = peak.expect("the child ran long enough to be seen");
    assert!(peak < LIMIT_KIB, "{peak} KiB at the peak for {SIZE} bytes of log");
}
