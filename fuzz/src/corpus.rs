//! The committed inputs: every file runs, and those of `guest_ops` are what this module says they
//! are. With `MSIX_WRITE_CORPUS=1` the tests write them.

use crate::guest::{HEAD, decode, vectors};
use msix_core::operation::Operation;
use msix_core::{Message, Vector, Vectors};
use msix_tests::lockstep::COUNTS;
use std::path::PathBuf;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Runs every file of a corpus folder.
pub(crate) fn run_all(target: &str, run: fn(&[u8])) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder(target)).expect("the folder is committed") {
        let path = entry.expect("it can be listed").path();
        run(&std::fs::read(&path).expect("it can be read"));
        files += 1;
    }
    assert!(files > 0, "{target} has no corpus");
}

#[test]
fn every_guest_in_the_corpus_agrees_with_the_model() {
    run_all("guest_ops", crate::guest_ops);
    run_all("engine_ops", crate::engine_ops);
}

#[test]
fn every_adapter_in_the_corpus_agrees_with_the_model() {
    run_all("adapter", crate::adapter);
}

#[test]
fn one_input_in_64_has_the_largest_table_and_all_other_numbers_occur() {
    let all: Vec<u16> = (0..=u8::MAX).map(vectors).collect();
    assert_eq!(all.iter().filter(|&&vectors| vectors == 2048).count(), 4);
    assert!(COUNTS.iter().all(|count| all.contains(count)));
}

#[test]
fn every_snapshot_in_the_corpus_is_loaded_or_refused_cleanly() {
    run_all("snapshot_load", crate::snapshot_load);
}

#[test]
fn every_log_in_the_corpus_is_replayed_or_refused_cleanly() {
    run_all("trace_import", crate::trace_import);
}

#[test]
fn every_layout_in_the_corpus_is_judged_rightly() {
    run_all("layout", crate::layout);
    run_all("config_bytes", crate::config_bytes);
}

#[test]
fn every_server_in_the_corpus_is_survived() {
    run_all("ivshmem_server", crate::ivshmem_server);
}

#[test]
#[cfg(feature = "kvm")]
fn every_life_of_a_device_in_the_corpus_is_survived() {
    run_all("ivshmem_device", crate::ivshmem_device);
}

#[test]
fn the_servers_in_the_corpus_are_these() {
    // A message in one chunk, with so many descriptors.
    let whole = |value: i64, with: u8| [&[with << 4 | 8][..], &value.to_le_bytes()].concat();
    let setup = [vec![2], whole(0, 0), whole(3, 0), whole(-1, 1)].concat();
    let peers: Vec<u8> = [7, 7, 3, 7, 3, 3].into_iter().flat_map(|id| whole(id, 1)).collect();
    committed("ivshmem_server", "setup", &setup);
    committed(
        "ivshmem_server",
        "peers",
        &[&setup[..], &peers, &whole(7, 0), &whole(7, 1)].concat(),
    );
    committed("ivshmem_server", "crowded", &[&setup[..], &whole(9, 2)].concat());
    committed("ivshmem_server", "version", &[vec![1], whole(1, 0), whole(0, 0)].concat());
    let mut pieces = vec![1];
    for (at, byte) in 0_i64.to_le_bytes().into_iter().chain(5_i64.to_le_bytes()).enumerate() {
        pieces.extend([if at == 12 { 0x11 } else { 1 }, byte]);
    }
    committed("ivshmem_server", "pieces", &pieces);
}

/// Random lives: what an `arbitrary` enum takes is no text to write by hand.
#[test]
fn the_lives_of_devices_in_the_corpus_are_these() {
    for choice in [0_u8, 1, 4, 15] {
        let mut rng = fastrand::Rng::with_seed(choice.into());
        let mut bytes = vec![choice];
        bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(1500));
        committed("ivshmem_device", &format!("life-{choice}"), &bytes);
    }
}

#[test]
fn the_layouts_and_capabilities_in_the_corpus_are_these() {
    // vectors, table and PBA as BAR and offset, six BAR sizes, bytes used: as `arbitrary` reads it.
    let layout = |vectors: u32, table: (u8, u64), pba: (u8, u64), size: u64, used: u64| {
        let mut bytes = vectors.to_le_bytes().to_vec();
        for (bar, offset) in [table, pba] {
            bytes.push(bar);
            bytes.extend(offset.to_le_bytes());
        }
        bytes.extend([size; 6].iter().flat_map(|size| size.to_le_bytes()));
        bytes.extend(used.to_le_bytes());
        bytes
    };
    for (name, bytes) in [
        ("exclusive", layout(64, (1, 0), (1, 0x800), 0x1000, 0)),
        ("two-bars", layout(2048, (0, 0x1000), (2, 0), 0x1_0000, 0x1800)),
        ("overlap", layout(64, (1, 0), (1, 0x3f8), 0x1000, 2)),
        ("outside", layout(65, (1, 0xc00), (1, 0), 0x1000, 2)),
        ("misaligned", layout(1, (1, 4), (1, 0x800), 0x1000, 2)),
        ("reserved-bar", layout(1, (6, 0), (1, 0x800), 0x1000, 2)),
        ("past-32-bits", layout(1, (4, 1 << 32), (4, 0), u64::MAX, 1)),
        ("used-to-the-end", layout(1, (0, 0), (0, 0x800), u64::MAX, u64::MAX)),
    ] {
        committed("layout", name, &bytes);
    }
    let capability = [0x11, 0, 0x40, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0];
    let accesses = [3, 1, 0xc0, 2, 2, 0xff, 0x80, 0, 4, 0xff, 0xff, 0xff, 0x40, 11, 3, 1, 2, 3];
    committed("config_bytes", "nvme", &[&capability[..], &accesses].concat());
    let mut other = capability;
    other[4] = 7;
    committed("config_bytes", "reserved-bar", &other);
    other[0] = 5;
    committed("config_bytes", "another-capability", &other);
}

/// Compares a committed file with what it should be, or writes it.
pub(crate) fn committed(target: &str, name: &str, bytes: &[u8]) {
    let path = folder(target).join(name);
    if std::env::var_os("MSIX_WRITE_CORPUS").is_some() {
        std::fs::create_dir_all(folder(target)).expect("it can be made");
        std::fs::write(&path, bytes).expect("it can be written");
    }
    let found = std::fs::read(&path).expect("the file is committed");
    assert!(found == bytes, "{target}/{name} is out of date: MSIX_WRITE_CORPUS=1 cargo test");
}

pub(crate) const SPEC: u32 = 2 << 30;
pub(crate) const QEMU: u32 = 3 << 30;

#[test]
fn the_guests_in_the_corpus_are_these() {
    let (v0, v1) = (Vector::new(0), Vector::new(1));
    let control = |high| Operation::WriteConfig { offset: 3, len: 1, value: high };
    let entry =
        |v: u16, field, len, value| Operation::WriteTable { offset: 16 * v + field, len, value };
    let program = |v| [entry(v, 0, 4, 0xfee0_1000), entry(v, 4, 4, 0), entry(v, 8, 4, 0x41)];
    let linux = [
        &[Operation::Attach, Operation::Claim(v0), Operation::Claim(v1), control(0xc0)][..],
        &program(0),
        &program(1),
        &[entry(0, 12, 4, 1), entry(1, 12, 4, 1), control(0x80), entry(0, 12, 4, 0)],
        &[Operation::Notify(v0), Operation::Notify(v1), entry(0, 12, 4, 1)],
        &program(0),
        &[Operation::Notify(v0), entry(0, 12, 4, 0), control(0)],
    ]
    .concat();
    let freebsd = [
        &[Operation::Attach, Operation::Claim(v0)][..],
        &program(0),
        &[entry(0, 12, 4, 0), Operation::Notify(v0), control(0x80)],
        &[Operation::PollPba { offset: 0, len: 4 }, Operation::ReadPba { offset: 0, len: 4 }],
    ]
    .concat();
    let rewritten = [
        Operation::Attach,
        control(0x80),
        Operation::SetMessage(v1, Message { address: 0xfee0_2000, data: 7 }),
        entry(1, 0, 8, 0xfee0_3000),
        entry(1, 8, 8, 9),
        entry(1, 8, 4, 8),
        entry(0, 12, 8, 0), // across two entries
        entry(1, 8, 8, 1 << 32),
    ];
    let host = [
        Operation::Attach,
        Operation::Claim(v0),
        control(0x80),
        Operation::SetMask(v0, false),
        Operation::ReportFailed(Vectors::one(v0)),
        Operation::PrepareSave,
        Operation::ReportHeld(Vectors::new(0, u64::MAX)),
        Operation::SetBusMaster(false),
        Operation::Notify(v0),
        Operation::SetBusMaster(true),
        Operation::Detach,
    ];
    let saved = [
        Operation::Claim(v0),
        Operation::Notify(v0),
        Operation::Attach,
        control(0x80),
        Operation::SaveAndLoad,
        Operation::SetMask(v0, false),
        Operation::Resume,
        Operation::SaveAndLoadQemu,
        Operation::Reset,
        Operation::Unclaim(v0),
        Operation::UnclaimAll,
        Operation::Withdraw(v0),
    ];
    let odd = [
        Operation::ReadTable { offset: 6, len: 4 },
        Operation::ReadTable { offset: 12, len: 8 },
        Operation::ReadConfig { offset: 10, len: 8 },
        Operation::WritePba { offset: 0, len: 8 },
        Operation::ReadPba { offset: 4, len: 8 },
        Operation::WriteTable { offset: 65535, len: 8, value: 1 },
    ];
    let seeds: [(&str, u8, u32, &[Operation]); 9] = [
        ("linux-spec", 1, SPEC, &linux),
        ("linux-qemu-2048", 63, QEMU, &linux),
        ("freebsd-spec", 0, SPEC, &freebsd),
        ("freebsd-mixed", 7, 0x1_ffff, &freebsd),
        ("rewritten-spec", 1, SPEC, &rewritten),
        ("rewritten-qemu", 1, QEMU, &rewritten),
        ("host-spec", 7, SPEC, &host),
        ("saved-mixed", 4, 0x0_5555, &saved),
        ("odd-qemu", 2, QEMU, &odd),
    ];
    for (name, count, policy, operations) in seeds {
        let mut bytes = vec![count, count];
        bytes.extend(policy.to_le_bytes());
        bytes.push(0);
        operations.iter().for_each(|operation| encode(operation, &mut bytes));
        let decoded: Vec<Operation> = decode(&bytes[HEAD..]).collect();
        assert_eq!(decoded, operations, "{name}: the encoding of `arbitrary` has changed");
        committed("guest_ops", name, &bytes);
        committed("engine_ops", name, &bytes);
        // Without the kind of memory.
        committed("adapter", name, &[&bytes[..1], &bytes[2..]].concat());
    }
}

#[test]
fn the_snapshots_in_the_corpus_are_these() {
    let save = |n, qemu| {
        let mut subject = msix_tests::lone_engine::LoneEngine::new(n, msix_core::Policy::SPEC);
        let v = Vector::new(n - 1);
        subject.run(&[Operation::Claim(v), Operation::Notify(v), Operation::SetMask(v, false)]);
        if qemu { subject.saved_qemu() } else { subject.saved() }
    };
    let native = save(1, false);
    let mut older = native[..native.len() - 4].to_vec();
    older[4] = 1; // the version
    let older = msix_tests::reference::sealed(older);
    let mut tail = save(33, true);
    tail.extend([0xff]);
    let head = |count, encoding, control: u16, policy: u32| {
        [&[count, encoding][..], &control.to_le_bytes(), &policy.to_le_bytes()].concat()
    };
    let seeds = [
        ("native", head(0, 0, 0, SPEC), &native[..]),
        ("native-version-1", head(0, 0, 0, SPEC), &older),
        ("native-short-and-none", head(0, 0, 0, SPEC), b"ELF\x7f\x01\0\0\0\0\0\0\0\0"),
        ("native-short", head(0, 0, 0, SPEC), &native[..20]),
        ("native-of-another-count", head(1, 0, 0, QEMU), &native),
        ("native-65", head(7, 0, 0, QEMU), &save(65, false)),
        ("sealed", head(1, 1, 0x8001, SPEC), b"0123456789abcdef0123456789abcdef\x03"),
        ("sealed-version-2", head(1, 4, 0x8001, SPEC), b"0123456789abcdef0123456789abcdef\x03"),
        ("sealed-with-a-tail", head(1, 1, 0x8001, SPEC), &[0xff; 48]),
        ("qemu", head(4, 2, 0x8020, QEMU), &save(33, true)),
        ("qemu-of-another-count", head(4, 2, 0x8021, QEMU), &save(33, true)),
        ("qemu-with-a-tail", head(0, 2, 0xc000, QEMU), &[0xff; 17]),
        ("qemu-long", head(4, 2, 0x8020, SPEC), &tail),
    ];
    for (name, head, body) in seeds {
        committed("snapshot_load", name, &[&head, body].concat());
    }
}

#[test]
fn the_logs_in_the_corpus_are_these() {
    let recording = str::from_utf8(msix_sim::RECORDING).expect("a log is text");
    let lines = |wanted: fn(&&str) -> bool, count| -> String {
        recording.lines().filter(wanted).take(count).map(|line| format!("{line}\n")).collect()
    };
    let nvme =
        lines(|l| l.contains(" nvme ") || l.contains("msix-table") || l.contains("_irq_"), 260);
    let timed: String = (0..)
        .zip(nvme.lines().take(40))
        .map(|(i, line)| format!("7@1700000000.{i:06}:{line}\n"))
        .collect();
    let report = msix_sim::replay::replay_bytes(nvme.as_bytes(), Default::default());
    let report = report.expect("the excerpt holds all that a replay needs");
    assert!(report.devices.iter().any(|device| device.table_writes > 0), "{report:?}");
    let cut = format!("{}pci_cfg_write nvme 00:04.0 @0x1", lines(|_| true, 12));
    let seeds = [
        ("one-device", nvme.as_str()),
        ("first-lines", &lines(|_| true, 60)),
        ("with-timestamps", &timed),
        ("cut-short", &cut),
        ("malformed", "pci_cfg_write nvme 00:04.0 @0xzz <- 0x1\nfoo\n"),
        ("not-text", "pci_cfg_read \0\n\n"),
        ("empty", ""),
        ("of-the-kernel", OF_THE_KERNEL),
    ];
    let report = msix_sim::replay::replay_bytes(OF_THE_KERNEL.as_bytes(), Default::default());
    assert_eq!(report.expect("it has a function").mismatches, 1, "it holds a stale message");
    for (name, log) in seeds {
        committed("trace_import", name, log.as_bytes());
    }
}

/// A function is found, takes an event, is masked, pending, rewritten and unmasked.
const OF_THE_KERNEL: &str = "\
 task-1 [000] d..1. 0.000001: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000800 
 task-1 [000] d..1. 0.000002: kvm_pio: pio_read at 0xcfc size 4 count 1 val 0x10421af4 
 task-1 [000] d..1. 0.000003: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000834 
 task-1 [000] d..1. 0.000004: kvm_pio: pio_read at 0xcfc size 1 count 1 val 0x40 
 task-1 [000] d..1. 0.000005: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000840 
 task-1 [000] d..1. 0.000006: kvm_pio: pio_read at 0xcfc size 2 count 1 val 0x11 
 task-1 [000] d..1. 0.000007: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000840 
 task-1 [000] d..1. 0.000008: kvm_pio: pio_read at 0xcfe size 2 count 1 val 0x0 
 task-1 [000] d..1. 0.000009: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000844 
 task-1 [000] d..1. 0.000010: kvm_pio: pio_read at 0xcfc size 4 count 1 val 0x0 
 task-1 [000] d..1. 0.000011: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000848 
 task-1 [000] d..1. 0.000012: kvm_pio: pio_read at 0xcfc size 4 count 1 val 0x800 
 task-1 [000] d..1. 0.000013: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000810 
 task-1 [000] d..1. 0.000014: kvm_pio: pio_write at 0xcfc size 4 count 1 val 0xffffffff 
 task-1 [000] d..1. 0.000015: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000810 
 task-1 [000] d..1. 0.000016: kvm_pio: pio_write at 0xcfc size 4 count 1 val 0x0 
 task-1 [000] d..1. 0.000017: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000810 
 task-1 [000] d..1. 0.000018: kvm_pio: pio_write at 0xcfc size 4 count 1 val 0xd0000000 
 task-1 [000] d..1. 0.000019: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000804 
 task-1 [000] d..1. 0.000020: kvm_pio: pio_write at 0xcfc size 2 count 1 val 0x6 
 task-1 [000] d..1. 0.000021: kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000840 
 task-1 [000] d..1. 0.000022: kvm_pio: pio_write at 0xcfe size 2 count 1 val 0x8000 
 task-1 [000] d..1. 0.000023: kvm_mmio: mmio write len 4 gpa 0xd0000000 val 0xfee00000
 task-1 [000] d..1. 0.000024: kvm_mmio: mmio write len 4 gpa 0xd0000004 val 0x0
 task-1 [000] d..1. 0.000025: kvm_mmio: mmio write len 4 gpa 0xd0000008 val 0x40
 task-1 [000] d..1. 0.000026: kvm_mmio: mmio write len 4 gpa 0xd000000c val 0x0
 task-2 [000] d..1. 0.000027: kvm_msi_set_irq: dst 0 vec 64 (Fixed|physical|edge)
 task-2 [000] d..1. 0.000028: kvm_apic_accept_irq: apicid 0 vec 64 (Fixed|edge)
 task-1 [000] d..1. 0.000029: kvm_mmio: mmio write len 4 gpa 0xd000000c val 0x1
 task-1 [000] d..1. 0.000030: kvm_mmio: mmio read len 4 gpa 0xd000000c val 0x1
 task-1 [000] d..1. 0.000031: kvm_mmio: mmio read len 4 gpa 0xd0000800 val 0x1
 task-1 [000] d..1. 0.000032: kvm_mmio: mmio write len 4 gpa 0xd0000008 val 0x41
 task-1 [000] d..1. 0.000033: kvm_mmio: mmio write len 4 gpa 0xd000000c val 0x0
 task-1 [000] d..1. 0.000034: kvm_mmio: mmio read len 4 gpa 0xd000000c val 0x0
 task-2 [000] d..1. 0.000035: kvm_msi_set_irq: dst 0 vec 65 (Fixed|physical|edge)
 task-2 [000] d..1. 0.000036: kvm_apic_accept_irq: apicid 0 vec 65 (Fixed|edge)
 task-2 [000] d..1. 0.000037: kvm_msi_set_irq: dst 0 vec 64 (Fixed|physical|edge)
 task-2 [000] d..1. 0.000038: kvm_apic_accept_irq: apicid 0 vec 64 (Fixed|edge)
";

/// Number of variants of [`Operation`].
const KINDS: u64 = 24;

/// Writes what `arbitrary` decodes to `operation`: 32 bits that scale to the variant, then the
/// fields.
fn encode(operation: &Operation, bytes: &mut Vec<u8>) {
    let kind = |bytes: &mut Vec<u8>, index: u64| {
        let scaled = u32::try_from((index << 32).div_ceil(KINDS)).expect("below the last variant");
        bytes.extend(scaled.to_le_bytes());
    };
    let access = |bytes: &mut Vec<u8>, index, offset: u16, len| {
        kind(bytes, index);
        bytes.extend(offset.to_le_bytes());
        bytes.push(len);
    };
    let vector = |bytes: &mut Vec<u8>, index, v: Vector| {
        kind(bytes, index);
        bytes.extend(v.index().to_le_bytes());
    };
    let set = |bytes: &mut Vec<u8>, index, set: Vectors| {
        kind(bytes, index);
        bytes.extend(set.word().to_le_bytes());
        bytes.extend(set.bits().to_le_bytes());
    };
    match *operation {
        Operation::WriteConfig { offset, len, value } => {
            kind(bytes, 0);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        Operation::ReadConfig { offset, len } => {
            kind(bytes, 1);
            bytes.extend([offset, len]);
        }
        Operation::WriteTable { offset, len, value } => {
            access(bytes, 2, offset, len);
            bytes.extend(value.to_le_bytes());
        }
        Operation::ReadTable { offset, len } => access(bytes, 3, offset, len),
        Operation::PollPba { offset, len } => access(bytes, 4, offset, len),
        Operation::ReadPba { offset, len } => access(bytes, 5, offset, len),
        Operation::WritePba { offset, len } => access(bytes, 6, offset, len),
        Operation::Notify(v) => vector(bytes, 7, v),
        Operation::Withdraw(v) => vector(bytes, 8, v),
        Operation::Claim(v) => vector(bytes, 9, v),
        Operation::Unclaim(v) => vector(bytes, 10, v),
        Operation::UnclaimAll => kind(bytes, 11),
        Operation::SetMask(v, masked) => {
            vector(bytes, 12, v);
            bytes.push(u8::from(masked));
        }
        Operation::SetMessage(v, message) => {
            vector(bytes, 13, v);
            bytes.extend(message.address.to_le_bytes());
            bytes.extend(message.data.to_le_bytes());
        }
        Operation::Attach => kind(bytes, 14),
        Operation::Detach => kind(bytes, 15),
        Operation::ReportFailed(vectors) => set(bytes, 16, vectors),
        Operation::ReportHeld(vectors) => set(bytes, 17, vectors),
        Operation::SetBusMaster(on) => {
            kind(bytes, 18);
            bytes.push(u8::from(on));
        }
        Operation::Reset => kind(bytes, 19),
        Operation::PrepareSave => kind(bytes, 20),
        Operation::SaveAndLoad => kind(bytes, 21),
        Operation::SaveAndLoadQemu => kind(bytes, 22),
        Operation::Resume => kind(bytes, 23),
    }
}
