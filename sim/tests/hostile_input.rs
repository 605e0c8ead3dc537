//! Input that is meant to exhaust something.

mod common;

use common::process::Process;
use common::{Log, recording};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

const HEAD: &str = "msix-script 1\nvectors 8\n";

/// Far more than the program needs, in KiB, and far less than what is read.
const SMALL: u64 = 14 << 10;

#[test]
fn input_without_an_end_is_refused_at_its_first_line() {
    let ended = Process::with_small_files(&["replay", "/dev/zero"]).ended();
    let reason = "error: /dev/zero:1: malformed line: longer than 65536 bytes\n";
    assert_eq!((ended.status, &*ended.stderr), (Some(2), reason));
}

#[test]
fn text_without_an_event_is_refused_before_all_of_it_is_kept() {
    let mut process = Process::with_small_files(&["replay", "-"]);
    let mut stdin = process.stdin();
    let writer = std::thread::spawn(move || while stdin.write_all(&[b'\n'; 1 << 16]).is_ok() {});
    let ended = process.ended();
    writer.join().unwrap();
    let reason = "there is no event of a log in its first 16 MiB";
    assert!(ended.status == Some(2) && ended.stderr.contains(reason), "{ended:?}");
    assert!(ended.peak < SMALL, "{} KiB", ended.peak);
}

#[test]
fn a_malformed_line_is_refused_when_it_comes_and_not_at_the_end() {
    let mut process = Process::msix(&["replay", "-"]);
    let mut stdin = process.stdin(); // stays open
    let log = recording()[..100].join("\n") + "\npci_cfg_write\npci_cfg_write\n";
    stdin.write_all(log.as_bytes()).unwrap();
    // What is read at once is looked at when it is full.
    while stdin.write_all(&[b'\n'; 4096]).is_ok() {}
    let ended = process.ended();
    assert!(ended.stderr.contains("<stdin>:101: malformed line: pci_cfg_write"), "{ended:?}");
}

#[test]
fn a_long_script_is_run_in_a_small_part_of_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.script");
    let inputs = if cfg!(debug_assertions) { 400_000 } else { 2_000_000 };
    std::fs::write(&path, format!("{HEAD}{}", "notify 7\n".repeat(inputs))).unwrap();
    for json in [false, true] {
        let arguments = ["replay", path.to_str().unwrap(), "--json"];
        let ended = Process::msix(&arguments[..if json { 3 } else { 2 }]).ended();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        if json {
            let run: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(run["steps"].as_array().unwrap().len(), inputs);
        } else {
            assert!(ended.stdout.ends_with(&format!("{inputs} inputs, all invariants hold\n")));
        }
        assert!(ended.peak < SMALL, "{} KiB, JSON {json}", ended.peak);
    }
}

#[test]
fn a_sparse_script_is_refused_at_its_first_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.script");
    let mut file = File::create(&path).unwrap();
    file.write_all(HEAD.as_bytes()).unwrap();
    file.set_len(256 << 20).unwrap();
    let path = path.to_str().unwrap();
    for arguments in [&["replay", path][..], &["diff", "--script", path]] {
        let ended = Process::msix(arguments).ended();
        assert_eq!(ended.status, Some(2));
        assert!(ended.stderr.contains("line 3: longer than 65536 bytes"), "{}", ended.stderr);
        assert!(ended.peak < SMALL, "{} KiB", ended.peak);
    }
}

/// `functions` virtio devices of `vectors` vectors.
fn many(functions: u32, vectors: u16, mut each: impl FnMut(&mut Log, u64, u64)) -> Log {
    let mut log = Log::default();
    for number in 0..functions {
        let bdf = format!("{:02x}:{:02x}.{}", number >> 8, number >> 3 & 0x1f, number & 7);
        let (device, base) = (("virtio-net-pci", &*bdf), 0x8000_0000 + (number << 16));
        log.place(device, base).config(device, 0x98, u32::from(vectors - 1) << 16 | 0x8000_0000);
        log.control_line(device.0, 0x8000 | u32::from(vectors - 1));
        let (mr, table) = (0x1000 + u64::from(number), u64::from(base));
        log.write(mr, table, 0);
        each(&mut log, mr, table);
    }
    log
}

#[test]
fn a_message_that_many_entries_hold_costs_no_more_than_another() {
    let mut log = many(100, 300, |log, mr, table| {
        for vector in 0..300 {
            log.program(mr, table, vector, 0x40).mask(mr, table, vector, false);
        }
    });
    for _ in 0..20_000 {
        log.message(0x40);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.log");
    std::fs::write(&path, log.text).unwrap();
    // 600 million looks at an entry would not be done when patience is.
    let ended = Process::msix(&["replay", path.to_str().unwrap(), "--json"]).ended();
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.status, &report["unattributed"]["messages"]), (Some(0), &20_000.into()));
}

#[test]
fn vectors_without_number_are_refused_and_a_page_of_many_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let [path, page] = ["guest.log", "page.html"].map(|name| folder.path().join(name));
    let arguments =
        ["replay", path.to_str().unwrap(), "--timeline", page.to_str().unwrap(), "--json"];
    for (functions, status) in [(128, 0), (129, 2)] {
        std::fs::write(&path, many(functions, 2048, |_, _, _| {}).text).unwrap();
        let _ = std::fs::remove_file(&page);
        let ended = Process::msix(&arguments).ended();
        assert_eq!(ended.status, Some(status), "{}", ended.stderr);
        assert!(ended.peak < 100 << 10, "{} KiB", ended.peak);
        if status == 2 {
            let reason = "more than 262144 vectors of all functions together";
            assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        } else {
            assert!(page.metadata().unwrap().len() < 20 << 20, "200,000 states and marks");
        }
    }
}

#[test]
fn a_name_that_would_fill_a_report_is_refused() {
    let mut log = String::new();
    writeln!(log, "pci_cfg_write {} 00:04.0 @0x4 <- 0x7\n", "x".repeat(60_000)).unwrap();
    let (status, _, stderr) = common::replayed(log, &[]);
    assert_eq!(status, 2);
    assert!(
        stderr.contains("guest.log:1: malformed line: pci_cfg_write: a device name of at most")
    );
    assert!(stderr.len() < 300, "{stderr}");
}
