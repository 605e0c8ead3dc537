//! The embedded recording, whole and tampered with.

mod common;

use common::{joined, msix, recording, replayed};
use msix_sim::RECORDING;
use msix_sim::replay::{Peer, replay_bytes};
use msix_sim::report::ReplayReport;

fn report(lines: &[String]) -> ReplayReport {
    replay_bytes(joined(lines).as_bytes(), Peer::Qemu).unwrap()
}

/// The only mismatch: line, device, vector, expected, got.
fn mismatch(lines: &[String]) -> (u64, String, Option<u16>, String, String) {
    let report = report(lines);
    assert_eq!(report.mismatches, 1, "{:?}", report.mismatch_list);
    let m = report.mismatch_list[0].clone();
    (m.line, m.device, m.vector, m.expected, m.got)
}

/// Indices of the lines that begin with this.
fn all(lines: &[String], begin: &str) -> Vec<usize> {
    (0..lines.len()).filter(|&at| lines[at].starts_with(begin)).collect()
}

#[test]
fn under_both_policies_every_read_and_every_message_agrees() {
    for peer in [Peer::Qemu, Peer::Spec] {
        let report = replay_bytes(RECORDING, peer).unwrap();
        assert_eq!((report.mismatches, report.undecided(), report.lines), (0, 0, 7739));
        // name, vectors, table writes, reads, named, inferred, messages, uses
        let figures: Vec<_> = report
            .devices
            .iter()
            .map(|d| {
                assert_eq!(d.messages.expected, d.messages.matched);
                assert_eq!((d.table_reads.mismatched, d.messages.unexpected), (0, 0));
                assert_eq!(d.effects.send, d.messages.expected);
                let raises = (d.raises.named, d.raises.inferred);
                let reads = d.table_reads.compared;
                (&*d.name, d.vectors, d.table_writes, reads, raises, d.messages.matched)
            })
            .collect();
        let expected = [
            ("nvme", 65, 587, 91, (250, 0), 250),
            ("virtio-blk-pci", 3, 141, 59, (0, 188), 188),
            ("virtio-net-pci", 4, 163, 66, (0, 8), 8),
            ("e1000e", 5, 97, 44, (12, 3), 15),
            ("qemu-xhci", 16, 199, 69, (0, 70), 70),
        ];
        assert_eq!(figures, expected);
        assert_eq!(report.messages_not_ours, 4780);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    }
}

#[test]
fn every_table_access_and_every_message_of_the_log_is_accounted_for() {
    let report = replay_bytes(RECORDING, Peer::Qemu).unwrap();
    let text = std::str::from_utf8(RECORDING).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count() as u64;
    let sum =
        |of: fn(&msix_sim::report::DeviceReport) -> u64| report.devices.iter().map(of).sum::<u64>();
    let accesses = sum(|d| d.table_writes + d.table_reads.compared);
    assert_eq!(accesses, count("'msix-table'"));
    assert_eq!(sum(|d| d.messages.matched) + report.messages_not_ours, count("'apic-msi'"));
    assert_eq!(sum(|d| d.raises.named), count("irq_msix"));
}

#[test]
fn a_changed_read_is_found_on_its_line() {
    let mut lines = recording();
    let reads = all(&lines, "memory_region_ops_read");
    let at = reads[200];
    let value = lines[at].split(' ').nth(8).unwrap().to_owned();
    lines[at] = lines[at].replace(&format!("value {value} "), "value 0x1234 ");
    let (line, _, vector, expected, got) = mismatch(&lines);
    assert_eq!((line, vector.is_some(), got), (at as u64 + 1, true, "0x1234".to_owned()));
    assert!(expected.starts_with(&format!("{value} read")), "{expected}");
}

#[test]
fn a_message_that_was_removed_is_missed_on_the_line_of_its_raise() {
    let whole = recording();
    for nth in [0, 1, 100, 120, 200, 249] {
        let mut lines = whole.clone();
        let at = all(&lines, "pci_nvme_irq_msix")[nth];
        let message = lines.remove(at + 1);
        assert!(message.contains("'apic-msi'"));
        let (line, device, _, expected, got) = mismatch(&lines);
        assert_eq!((line, &*device), (at as u64 + 1, "nvme 00:04.0"), "raise {nth}");
        assert!(expected.contains("of the raise") && got.starts_with("none"), "{expected} {got}");
    }
}

#[test]
fn a_message_that_was_altered_is_missed() {
    let mut lines = recording();
    let at = all(&lines, "e1000e_irq_msix_notify_vec")[5];
    lines[at + 1] = lines[at + 1].replace("value 0x", "value 0xf");
    let (line, device, ..) = mismatch(&lines);
    assert_eq!((line, &*device), (at as u64 + 1, "e1000e 00:07.0"));
}

#[test]
fn a_doubled_message_of_a_device_that_names_its_raises_is_unexpected() {
    let mut lines = recording();
    let at = all(&lines, "pci_nvme_irq_msix")[77] + 1;
    lines.insert(at, lines[at].clone());
    let (line, device, vector, expected, got) = mismatch(&lines);
    assert_eq!((line, &*device, vector), (at as u64 + 2, "nvme 00:04.0", Some(1)));
    assert_eq!(expected, "no message without a raise before it");
    assert!(got.starts_with("message 0x"), "{got}");
}

#[test]
fn a_message_that_was_moved_into_a_masked_time_is_missed_and_unexpected() {
    let mut lines = recording();
    // nvme vector 0 moves to another CPU: masked on line 4082, unmasked on line 4088.
    assert!(lines[4081].contains("addr 0xfebc200c value 0x1"));
    assert!(lines[4087].contains("addr 0xfebc200c value 0x0"));
    let raises = all(&lines[..4081], "pci_nvme_irq_msix raising MSI-X IRQ vector 0");
    let message = lines[raises.last().unwrap() + 1].clone();
    lines.insert(4082, "pci_nvme_irq_msix raising MSI-X IRQ vector 0".to_owned());
    lines.insert(4083, message);
    let report = report(&lines);
    let found: Vec<_> = report.mismatch_list.iter().map(|m| (m.line, &*m.expected)).collect();
    assert_eq!(found[0], (4084, "no message while it is masked"));
    assert_eq!(found[1].0, 4090, "the unmask should have sent it: {found:?}");
    assert!(found[1].1.contains("that was pending"), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_message_held_back_by_a_mask_is_expected_at_the_unmask() {
    let mut lines = recording();
    lines.insert(4082, "pci_nvme_irq_msix raising MSI-X IRQ vector 0".to_owned());
    let (line, _, vector, ..) = mismatch(&lines);
    assert_eq!((line, vector), (4089, Some(0)), "the line that unmasks");
    // With the message that QEMU then sends, all is well: address and data are those just written.
    let field = |name: &str| {
        let write =
            lines[4081..4088].iter().rev().find(|l| l.contains("_write") && l.contains(name));
        write.unwrap().split(' ').nth(8).unwrap().to_owned()
    };
    let (address, data) = (field("addr 0xfebc2000"), field("addr 0xfebc2008"));
    lines.insert(
        4089,
        format!("memory_region_ops_write cpu 0 mr 0x1 addr {address} value {data} size 4 name 'apic-msi'"),
    );
    assert_eq!(report(&lines).mismatches, 0);
}

#[test]
fn control_bits_that_contradict_the_write_are_a_mismatch() {
    let mut lines = recording();
    let at = all(&lines, "msix_write_config dev virtio-net-pci enabled 1 masked 1")[0];
    lines[at] = lines[at].replace("masked 1", "masked 0");
    let (line, device, vector, expected, got) = mismatch(&lines);
    assert_eq!((line, &*device, vector), (at as u64 + 1, "virtio-net-pci 00:06.0", None));
    assert_eq!((&*expected, &*got), ("enabled 1 masked 1", "enabled 1 masked 0"));
}

#[test]
fn a_recording_cut_anywhere_at_a_line_end_has_no_mismatch() {
    let lines = recording();
    for keep in (640..lines.len()).step_by(173) {
        let report = report(&lines[..keep]);
        assert_eq!(report.mismatches, 0, "first {keep} lines: {:?}", report.mismatch_list);
    }
}

#[test]
fn a_recording_that_begins_late_has_no_mismatch() {
    let lines = recording();
    for skip in (1..lines.len()).step_by(311) {
        let Ok(report) = replay_bytes(joined(&lines[skip..]).as_bytes(), Peer::Qemu) else {
            continue; // no table left
        };
        assert_eq!(report.mismatches, 0, "after line {skip}: {:?}", report.mismatch_list);
    }
}

#[test]
fn timestamps_change_the_unit_and_nothing_else() {
    let lines = recording();
    let stamp = |(n, line): (usize, &String)| format!("77@1700000000.{:06}:{line}", n * 100);
    let stamped: Vec<String> = lines.iter().enumerate().map(stamp).collect();
    let (plain, timed) = (report(&lines), report(&stamped));
    assert_eq!(plain.verdict(), timed.verdict());
    let masked = |report: &ReplayReport| report.devices[0].longest_masked.unwrap();
    assert_eq!(masked(&plain).vector, masked(&timed).vector);
    assert!((masked(&plain).length * 100e-6 - masked(&timed).length).abs() < 1e-9);
    assert_eq!(serde_json::to_value(timed.unit).unwrap(), "seconds");
    assert_eq!(serde_json::to_value(plain.unit).unwrap(), "lines");
}

#[test]
fn a_lost_message_of_a_device_that_names_no_events_does_not_show_and_the_report_says_so() {
    let mut lines = recording();
    // The first message of virtio-blk's live vector.
    let report_of = report(&lines);
    let shows: Vec<_> = report_of.devices.iter().map(|device| device.lost_shows).collect();
    use msix_sim::report::LostShows::{No, Some as Part, Yes};
    assert_eq!(shows, [Yes, No, No, Part, No]);
    let blk = report_of.devices[1].raises.inferred;
    let at = all(&lines, "memory_region_ops_write")
        .into_iter()
        .find(|&at| {
            let mut without = lines.clone();
            lines[at].contains("'apic-msi'") && {
                without.remove(at);
                report(&without).devices[1].raises.inferred < blk
            }
        })
        .unwrap();
    lines.remove(at);
    let report = report(&lines);
    assert_eq!(report.mismatches, 0, "nothing tells that it is missing");
    let verdict = report.verdict();
    assert!(verdict.contains("cannot be judged here for virtio-blk-pci 00:05.0,"), "{verdict}");
    // The table says the same on the device's own row.
    let table = msix_sim::report_table::table(&report);
    let row = table.lines().find(|line| line.contains("virtio-blk-pci")).unwrap();
    assert!(row.trim_end_matches(['│', ' ']).ends_with("no"), "{table}");
}

#[test]
fn without_arguments_the_program_replays_it_and_says_so_at_the_end() {
    let output = msix(&[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let verdict = text.replace('\n', " ");
    assert!(
        verdict.trim_end().ends_with(
            "all 5 devices agree: 531 messages expected, 531 matched, 329 table reads compared, \
             0 mismatches (262 raises named, 269 inferred, 0 undecided); lost messages cannot be \
             judged here for virtio-blk-pci 00:05.0, virtio-net-pci 00:06.0 and qemu-xhci 00:08.0, \
             and only in part for e1000e 00:07.0"
        ),
        "{verdict}"
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn a_mismatch_is_printed_with_file_line_expected_and_got_and_gives_status_1() {
    let mut lines = recording();
    let at = all(&lines, "pci_nvme_irq_msix")[120];
    lines.remove(at + 1);
    let (status, stdout, stderr) = replayed(joined(&lines), &[]);
    assert_eq!(status, 1);
    let place = format!("guest.log:{}: nvme 00:04.0 vector 2: expected message 0x24 to", at + 1);
    assert!(stderr.contains(&place) && stderr.contains(", got none within 64 lines"), "{stderr}");
    assert!(stdout.contains("1 of 5 devices disagrees"), "{stdout}");
}
