use super::memory_line::memory_line;
use super::trace_line::parse_any;
use super::*;
use crate::testing::for_damaged;
use std::io::Read as _;

fn what(line: &str) -> What<'_> {
    parse_line(line.as_bytes()).unwrap().unwrap().what
}

fn refused(line: &str) -> String {
    parse_line(line.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_kind_of_line_of_ours_is_understood() {
    let nvme = ConfigAccess {
        name: "nvme",
        bdf: Bdf { bus: 0, device: 4, function: 0 },
        offset: 0x42,
        value: 0xc040,
    };
    assert_eq!(what("pci_cfg_write nvme 00:04.0 @0x42 <- 0xc040"), What::ConfigWrite(nvme));
    assert_eq!(what("pci_cfg_read nvme 00:04.0 @0x42 -> 0xc040"), What::ConfigRead(nvme));
    assert_eq!(
        what("msix_write_config dev nvme enabled 1 masked 0"),
        What::Control { name: "nvme", enabled: true, masked: false }
    );
    let line = "memory_region_ops_write cpu -1 mr 0x5618 addr 0xfee01004 value 0x23 size 4 name 'apic-msi'";
    let message = MemoryAccess {
        region: TracedRegion::Messages,
        mr: 0x5618,
        address: 0xfee0_1004,
        value: 0x23,
        size: 4,
    };
    assert_eq!(what(line), What::Write(message));
    let line =
        "memory_region_ops_read cpu 1 mr 0x5618 addr 0xfebc200c value 0x1 size 4 name 'msix-table'";
    let read = MemoryAccess {
        region: TracedRegion::Table,
        mr: 0x5618,
        address: 0xfebc_200c,
        value: 1,
        size: 4,
    };
    assert_eq!(what(line), What::Read(read));
    let [nvme, e1000e, megasas] = &RaiseEvent::ALL;
    for (line, event, vector) in [
        ("pci_nvme_irq_msix raising MSI-X IRQ vector 17", nvme, 17),
        ("e1000e_irq_msix_notify_vec MSI-X notify vector 0x12", e1000e, 0x12),
        ("megasas_msix_raise vector 3", megasas, 3),
    ] {
        assert_eq!(what(line), What::Raise { event, vector });
    }
}

#[test]
fn a_timestamp_prefix_is_read() {
    let line = b"4711@1700000000.000042:pci_nvme_irq_msix raising MSI-X IRQ vector 1\r";
    assert_eq!(parse_line(line).unwrap().unwrap().time, Some(1_700_000_000_000_042));
}

#[test]
fn the_date_of_newer_versions_is_read() {
    let rest = "msix_write_config dev nvme enabled 1 masked 0";
    for (date, time) in [
        ("1970-01-01T00:00:00.000042Z", 42),
        ("2000-02-29T12:00:00.000000Z", 951_825_600_000_000),
        ("2026-09-24T23:20:21.173273Z", 1_790_292_021_173_273),
    ] {
        let line = format!("{date} {rest}");
        let event = parse_line(line.as_bytes()).unwrap().unwrap();
        assert_eq!(event.time, Some(time), "{date}");
        assert!(matches!(event.what, What::Control { name: "nvme", .. }));
    }
    for date in [
        "0000-01-01T00:00:00.000000Z",
        "2026-13-24T23:20:21.173273Z",
        "2026-09-24T24:20:21.173273Z",
        "2026-09-24T23:20:21.17Z",
        "99999999999999999999-09-24T23:20:21.173273Z",
        "2026-09-24T23:20:21.173273",
    ] {
        let line = format!("{date} {rest}");
        assert_eq!(parse_line(line.as_bytes()), Ok(None), "{date}");
        assert_eq!(QemuTrace::displaced(line.as_bytes()), Some("msix_write_config"));
    }
}

#[test]
fn a_queue_is_told_by_both_events_of_virtio() {
    for event in ["virtio_notify", "1@2.000003:virtio_notify_irqfd"] {
        let line = format!("{event} vdev 0x5618159136f0 vq 0x7fb173ed8140");
        let what = parse_line(line.as_bytes()).unwrap().unwrap().what;
        assert_eq!(what, What::QueueNotify { queue: 0x7fb1_73ed_8140 });
        assert!(parse_line(line.replace("vq 0x", "vq ").as_bytes()).is_err());
    }
}

#[test]
fn other_text_is_foreign() {
    for line in [
        "",
        "virtio_queue_notify vdev 0x5618159136f0 n 1 vq 0x7fb173ed8140",
        "qemu-system-x86_64: warning: host doesn't support requested feature",
        "cfg_write nvme 00:04.0 @0x42 <- 0xc040",
        "4711@1700000000.000042:some_event pci_cfg_write",
        "\u{1b}[0m pci_cfg_write",
    ] {
        assert_eq!(parse_line(line.as_bytes()), Ok(None), "{line}");
    }
}

#[test]
fn a_line_of_ours_that_does_not_parse_says_what_is_wrong() {
    for (line, reason) in [
        (
            "pci_cfg_write",
            "pci_cfg_write: a device name of at most 128 bytes expected, got nothing",
        ),
        ("pci_cfg_write nvme 04:0 @0x4 <- 0x1", "BUS:DEVICE.FUNCTION expected, got '04:0'"),
        ("pci_cfg_write nvme 00:20.0 @0x4 <- 0x1", "BUS:DEVICE.FUNCTION"),
        ("pci_cfg_write nvme 00:04.0 @0x1000 <- 0x1", "below 4096 expected, got '@0x1000'"),
        ("pci_cfg_write nvme 00:04.0 @0x4 -> 0x1", "<- expected, got '->'"),
        ("pci_cfg_write nvme 00:04.0 @0x4 <- 0x100000000", "a 32-bit value"),
        ("pci_cfg_write nvme 00:04.0 @0x4 <- 0x1 more", "the end of the line expected, got 'more'"),
        ("pci_cfg_write nvme 00:04.0 @0x4 <- 0x+1", "a 32-bit value expected, got '0x+1'"),
        ("msix_write_config dev nvme enabled 2 masked 0", "0 or 1 expected, got '2'"),
        ("memory_region_ops_read cpu x mr 0x1", "a CPU number expected, got 'x'"),
        ("memory_region_ops_read cpu 0 mr 0x1 addr 0x0 value 0x0 size 3", "a size of 1, 2, 4 or 8"),
        ("memory_region_ops_read cpu 0 mr 0x1 addr 0x0 value 0x0 size 4 name 'a", "name 'REGION'"),
        ("pci_nvme_irq_msix raising MSI-X IRQ vector -1", "a vector number expected, got '-1'"),
        ("pci_nvme_irq_msix raising MSI-X IRQ vector 4294967296", "a vector number"),
        ("12@now:pci_nvme_irq_msix raising MSI-X IRQ vector 1", "'12@now' is not a PID@SECONDS"),
    ] {
        let error = refused(line);
        assert!(error.contains(reason), "{line}: {error}");
    }
}

#[test]
fn a_name_longer_than_any_device_has_is_refused() {
    let [longest, longer] = [128, 129].map(|len| "x".repeat(len));
    let line = |name: &str| format!("pci_cfg_write {name} 00:04.0 @0x42 <- 0xc040");
    assert!(matches!(what(&line(&longest)), What::ConfigWrite(write) if write.name == longest));
    assert!(refused(&line(&longer)).contains("at most 128 bytes expected, got 'xxxx"));
    let control = format!("msix_write_config dev {longer} enabled 1 masked 0");
    assert!(refused(&control).contains("at most 128 bytes"));
}

#[test]
fn bytes_that_are_not_text_are_named() {
    let error = parse_line(b"ab\xffcd").unwrap_err();
    assert_eq!(error, ParseError::NotText { at: 3, byte: 0xff });
    assert_eq!(parse_line(b"a\0").unwrap_err(), ParseError::NotText { at: 2, byte: 0 });
}

#[test]
fn what_a_log_says_reaches_a_terminal_shortened_and_without_control_characters() {
    let line = format!("pci_cfg_write nvme \u{1b}[31m{} @0x4 <- 0x1", "x".repeat(100));
    let error = refused(&line);
    assert!(!error.contains('\u{1b}') && error.contains("...") && error.len() < 150, "{error}");
}

#[test]
fn no_bytes_panic() {
    let seeds: [&[u8]; 4] = [
        b"pci_cfg_write nvme 00:04.0 @0x42 <- 0xc040",
        b"1@2.000003:msix_write_config dev nvme enabled 1 masked 0",
        b"memory_region_ops_write cpu -1 mr 0x5 addr 0xfee01004 value 0x23 size 4 name 'apic-msi'",
        b"e1000e_irq_msix_notify_vec MSI-X notify vector 0x12",
    ];
    for_damaged(&seeds, |line| _ = parse_line(line));
}

/// Whether the short way has something to say of `line`, which is then what the long way says.
fn is_short(line: &[u8]) -> bool {
    let short = memory_line(line);
    if let Some(event) = short {
        assert_eq!(parse_any(line), Ok(Some(event)), "{}", String::from_utf8_lossy(line));
    }
    short.is_some()
}

#[test]
fn the_short_way_reads_every_memory_event_of_the_recordings_as_the_long_way_does() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../data");
    let mut recordings = std::fs::read(format!("{data}/linux-6.1-q35.log")).unwrap();
    let packed = std::fs::File::open(format!("{data}/linux-6.1-virtio-blk.log.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut recordings).unwrap();
    let mut memory = 0;
    for line in recordings.split(|byte| *byte == b'\n') {
        let is_memory = line.windows(18).any(|part| part == b"memory_region_ops_");
        assert_eq!(is_short(line), is_memory, "{}", String::from_utf8_lossy(line));
        memory += usize::from(is_memory);
    }
    assert!(memory > 5000, "{memory}");
}

#[test]
fn the_short_way_never_contradicts_the_long_way() {
    let prefixes = [
        "",
        "4711@1700000000.000042:",
        "2026-09-24T23:20:21.173273Z ",
        "4711@1700000000.00042:",
        "2026-13-24T23:20:21.173273Z ",
        "47-1@1700000000.000042:",
        "2026-09-24T23:20:21.173273Z 4711@1700000000.000042:",
        "1 ",
        ":",
    ];
    let events = ["write", "read", "reader", "writ"];
    let cpus = ["-1", "0", "17", "", "-", "+1", "2147483647", "2147483648", "-0", "1a", "01"];
    let numbers = ["0x0", "0xfee01004", "0xffffffffffffffff", "0x00ffffffffffffffff", "0x", "12"]
        .into_iter()
        .chain(["0x1ffffffffffffffff", "0xFEE0", "0xg"]);
    let numbers: Vec<&str> = numbers.collect();
    let sizes = ["1", "2", "4", "8", "3", "42", ""];
    let regions = [
        " name 'msix-table'",
        " name 'apic-msi'",
        " name 'kvm-apic-msi'",
        " name 'pci bridge'",
        " name 'it's'",
        " name ''",
        " name '",
        " name 'x' ",
        " name 'x'\r",
        " name '\u{e9}'",
        " name '\0'",
        "",
        " ",
        "  name 'x'",
    ];
    let (mut short, mut all) = (0, 0);
    let mut tried = |line: String| {
        all += 1;
        short += usize::from(is_short(line.as_bytes()));
    };
    for (prefix, event) in prefixes.iter().flat_map(|p| events.iter().map(move |e| (p, e))) {
        for (cpu, number) in cpus.iter().flat_map(|c| numbers.iter().map(move |n| (c, n))) {
            for (size, region) in sizes.iter().flat_map(|s| regions.iter().map(move |r| (s, r))) {
                let start = format!("{prefix}memory_region_ops_{event} cpu {cpu}");
                tried(format!("{start} mr {number} addr 0x1 value 0x2 size {size}{region}"));
                if size == &"4" {
                    tried(format!("{start} mr 0x1 addr {number} value 0x2 size {size}{region}"));
                    tried(format!("{start} mr 0x1 addr 0x2 value {number} size {size}{region}"));
                }
            }
        }
    }
    assert!(short * 200 > all, "{short} of {all}");
    let line = b"4711@1700000000.000042:memory_region_ops_write cpu -1 mr 0x5618 addr 0xfee01004 value 0x23 size 4 name 'apic-msi'";
    for_damaged(&[line, &line[23..]], |line| _ = is_short(line));
}
