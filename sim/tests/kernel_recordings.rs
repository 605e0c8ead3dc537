//! Recordings of the kernel's events that are shipped, whole and tampered with.

use flate2::read::GzDecoder;
use msix_sim::replay::{Machine, Peer, replay_bytes, replay_of};
use msix_sim::report::ReplayReport;
use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/kernel")
}

fn text(name: &str) -> String {
    let mut text = String::new();
    let file = File::open(folder().join(name)).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn boot() -> Vec<String> {
    text("linux-6.1-virtio-boot.trace.gz").lines().map(str::to_owned).collect()
}

fn replay(lines: &[String]) -> ReplayReport {
    replay_bytes((lines.join("\n") + "\n").as_bytes(), Peer::Spec).unwrap()
}

#[test]
fn a_booting_guest_and_its_vmm_agree_in_every_read_and_every_delivery() {
    for peer in [Peer::Qemu, Peer::Spec] {
        let recording = text("linux-6.1-virtio-boot.trace.gz");
        let report = replay_bytes(recording.as_bytes(), peer).unwrap();
        assert_eq!((report.mismatches, report.lines), (0, 8159), "{:?}", report.mismatch_list);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        // name, BDF, vectors, table writes, reads compared, deliveries
        let figures: Vec<_> = report
            .devices
            .iter()
            .map(|d| {
                assert_eq!(d.messages.expected, d.messages.matched);
                assert_eq!((d.raises.inferred, d.undecided.messages), (d.messages.matched, 0));
                let reads = d.table_reads.compared;
                (&*d.name, &*d.bdf, d.vectors, d.table_writes, reads, d.messages.matched)
            })
            .collect();
        let expected = [
            ("virtio-blk", "00:01.0", 3, 33, 9, 52),
            ("virtio-net", "00:02.0", 4, 44, 13, 13),
            ("virtio-rng", "00:03.0", 2, 22, 6, 6),
        ];
        assert_eq!(figures, expected);
        // Those of the VMM's own I/O APIC, with the redirection hint.
        let hints = recording.lines().filter(|line| line.ends_with("|rh)")).count();
        assert_eq!((report.messages_not_ours, hints), (758, 758));
    }
}

#[test]
fn a_delivery_that_is_moved_to_where_its_entry_is_blocked_is_found_on_its_line() {
    let lines = boot();
    let delivery = lines.iter().position(|line| line.contains("dst 1 vec 34 (Fixed")).unwrap();
    let pair = [lines[delivery].clone(), lines[delivery + 1].clone()];
    assert!(pair[1].contains("kvm_apic_accept_irq"), "{}", pair[1]);
    // The entry holds its message, is masked, and the guest goes on to read it back.
    let programmed =
        lines.iter().rposition(|line| line.contains("write len 4 gpa 0xe7f88028 val 0x22"));
    let at = programmed.unwrap() + 2;
    assert!(lines[at - 1].contains("unsatisfied-read"), "{}", lines[at - 1]);
    let mut moved = lines.clone();
    moved.drain(delivery..delivery + 2);
    moved.splice(at..at, pair);
    let report = replay(&moved);
    assert_eq!(report.mismatches, 1, "{:?}", report.mismatch_list);
    let found = &report.mismatch_list[0];
    assert_eq!((found.line, found.vector), (at as u64 + 1, Some(2)));
    assert_eq!(&*found.device, "virtio-blk 00:01.0");
    assert_eq!(found.expected, "no message while it is masked");
}

#[test]
fn a_read_that_is_changed_is_found_on_its_line() {
    let mut lines = boot();
    let at = lines.iter().position(|line| line.contains("mmio read len 4 gpa 0xe7f88018")).unwrap();
    lines[at] = lines[at].replace("val 0x", "val 0x1");
    let report = replay(&lines);
    assert_eq!(report.mismatches, 1, "{:?}", report.mismatch_list);
    let found = &report.mismatch_list[0];
    assert_eq!((found.line, found.vector), (at as u64 + 1, Some(1)));
}

#[test]
fn a_recording_cut_at_any_byte_is_usable_or_says_why_not() {
    let recording = text("linux-6.1-virtio-boot.trace.gz");
    for length in (1..recording.len()).step_by(49_999) {
        match replay_bytes(&recording.as_bytes()[..length], Peer::Spec) {
            Ok(report) => assert_eq!(report.mismatches, 0, "{length}: {:?}", report.mismatch_list),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn every_vmm_that_does_one_thing_wrong_is_found_by_its_lines() {
    let verdicts = fs::read_to_string(folder().join("verdicts.txt")).unwrap();
    let mut names = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = file.strip_suffix(".trace.gz") else { continue };
        let Some(name) = ["linux-6.1-", "linux-6.12-"].iter().find_map(|s| stem.strip_prefix(s))
        else {
            continue;
        };
        if ["virtio-boot", "looked-at"].contains(&name) {
            continue;
        }
        names += 1;
        let recording = text(&file);
        let report = replay_bytes(recording.as_bytes(), Peer::Spec).unwrap();
        let got: Vec<String> = report
            .mismatch_list
            .iter()
            .map(|mismatch| {
                let line = recording.lines().nth(mismatch.line as usize - 1).unwrap();
                let event = line[line.find("kvm_").unwrap()..].trim_end();
                let vector = mismatch.vector.map_or("-".to_owned(), |vector| vector.to_string());
                let (expected, got) = (&mismatch.expected, &mismatch.got);
                format!("vector {vector}: expected {expected}, got {got} [{event}]")
            })
            .collect();
        let prefix = format!("{name}: ");
        let expected: Vec<&str> =
            verdicts.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(got, expected, "{file}");
        assert_eq!(expected.is_empty(), name == "right", "{file}");
    }
    assert!(names >= 7, "{names}");
}

#[test]
fn the_text_of_tracefs_of_trace_cmd_and_of_perf_is_read_as_it_is() {
    for program in ["tracefs", "trace-cmd", "perf"] {
        let recording = text(&format!("two-guests.{program}.txt.gz"));
        let function = "00:04.0,vectors=1,table=0xe0100000,enabled".parse().unwrap();
        let machine = Machine { functions: vec![function], ..Machine::default() };
        let log = Cursor::new(recording.as_bytes());
        let (report, _) = replay_of(&machine, None, log, Peer::Spec, false, |_| true).unwrap();
        assert_eq!(report.mismatches, 0, "{program}: {:?}", report.mismatch_list);
        let device = &report.devices[0];
        assert_eq!((device.messages.matched, device.table_writes), (40, 8), "{program}");
        // perf and trace-cmd give no flags, and all three have the time.
        assert_eq!(serde_json::to_value(report.unit).unwrap(), "seconds", "{program}");
    }
}
