//! What a recording of the kernel's events decides, and what it leaves open.

mod common;

use common::{joined, replayed, replayed_file};
use msix_sim::replay::{Machine, Peer, replay_bytes, replay_of};
use msix_sim::report::{DeviceReport, ReplayReport};
use std::fmt::{Display, Write as _};
use std::io::Cursor;

const BAR: u64 = 0xd000_0000;
const VCPU: u32 = 10;
const DEVICE: u32 = 20;

/// A recording, line by line; every line is a microsecond later than the one before, or more.
#[derive(Clone, Default)]
struct Recording {
    text: String,
    lines: u64,
    at: u64,
    accepts: bool,
    /// Where configuration space is in memory, if the guest reaches it so.
    ecam: Option<u64>,
}

impl Recording {
    /// A function with four vectors, as the guest finds it; both others are known by name.
    fn new() -> Self {
        Self::begun(Self { accepts: true, ..Self::default() })
    }

    fn begun(mut recording: Self) -> Self {
        recording.text.push_str("# tracer: nop\n");
        recording.lines += 1;
        for (register, size, value) in [
            (0x00, 4, 0x1042_1af4),
            (0x34, 1, 0x40),
            (0x40, 2, 0x11),
            (0x42, 2, 3),
            (0x44, 4, 0),
            (0x48, 4, 0x800),
        ] {
            recording.config("read", register, size, value);
        }
        for value in [0xffff_ffff, 0, BAR] {
            recording.config("write", 0x10, 4, value);
        }
        recording.config("write", 4, 2, 6);
        recording
    }

    /// The same with entry 0 live, with data 0x40 for processor 0.
    fn live() -> Self {
        Self::new().made_live()
    }

    fn made_live(mut self) -> Self {
        let recording = &mut self;
        recording.control(0xc003);
        recording.entry(0, 0xfee0_0000, 0x40);
        recording.mask(0, false).control(0x8003);
        self
    }

    fn line(&mut self, thread: u32, text: impl Display) -> &mut Self {
        self.at += 1;
        self.lines += 1;
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        writeln!(self.text, "     task-{thread:<6}  [000] d..1. {seconds:>5}.{micros:06}: {text}")
            .unwrap();
        self
    }

    fn config(&mut self, kind: &str, register: u32, size: u8, value: u64) -> &mut Self {
        if let Some(ecam) = self.ecam {
            let address = ecam + (1 << 15) + u64::from(register);
            let text = format!("kvm_mmio: mmio {kind} len {size} gpa {address:#x} val {value:#x}");
            return self.line(VCPU, text);
        }
        let address = 0x8000_0800 | (register & 0xfc);
        let port = 0xcfc + (register & 3);
        self.line(VCPU, format!("kvm_pio: pio_write at 0xcf8 size 4 count 1 val {address:#x} "));
        self.line(
            VCPU,
            format!("kvm_pio: pio_{kind} at {port:#x} size {size} count 1 val {value:#x} "),
        )
    }

    fn control(&mut self, value: u64) -> &mut Self {
        self.config("write", 0x42, 2, value)
    }

    fn memory(&mut self, kind: &str, offset: u64, value: u64) -> &mut Self {
        let address = BAR + offset;
        self.line(VCPU, format!("kvm_mmio: mmio {kind} len 4 gpa {address:#x} val {value:#x}"))
    }

    fn entry(&mut self, vector: u64, address: u64, data: u64) -> &mut Self {
        let at = vector * 16;
        self.memory("write", at, address).memory("write", at + 4, 0);
        self.memory("write", at + 8, data)
    }

    fn mask(&mut self, vector: u64, masked: bool) -> &mut Self {
        self.memory("write", vector * 16 + 12, masked.into())
    }

    /// The guest goes on.
    fn goes_on(&mut self) -> &mut Self {
        self.line(VCPU, "kvm_pio: pio_read at 0x71 size 1 count 1 val 0x0 ")
    }

    fn pba(&mut self, bits: u64) -> &mut Self {
        self.memory("read", 0x800, bits)
    }

    /// KVM takes a message apart.
    fn looks(&mut self, destination: u32, vector: u8) -> &mut Self {
        let kind = "(Fixed|physical|edge)";
        self.line(DEVICE, format!("kvm_msi_set_irq: dst {destination:x} vec {vector} {kind}"))
    }

    /// And delivers it. Returns the line of the message.
    fn delivers(&mut self, destination: u32, vector: u8) -> u64 {
        let line = self.looks(destination, vector).lines;
        if self.accepts {
            let text =
                format!("kvm_apic_accept_irq: apicid {destination:x} vec {vector} (Fixed|edge)");
            self.line(DEVICE, text);
        }
        line
    }

    /// Time enough for what is due.
    fn waits(&mut self) -> &mut Self {
        self.at += 200_000;
        for _ in 0..70 {
            self.goes_on();
        }
        self
    }
}

fn replay(recording: &Recording) -> ReplayReport {
    replay_bytes(recording.text.as_bytes(), Peer::Spec).unwrap()
}

/// The device of a recording without mismatches.
fn agrees(recording: &Recording) -> DeviceReport {
    let report = replay(recording);
    assert_eq!(report.mismatches, 0, "{:?}\n{}", report.mismatch_list, recording.text);
    report.devices[0].clone()
}

/// Line, vector, and what was expected, of every mismatch.
fn mismatches(recording: &Recording) -> Vec<(u64, Option<u16>, String)> {
    let report = replay(recording);
    report.mismatch_list.into_iter().map(|m| (m.line, m.vector, m.expected)).collect()
}

#[test]
fn a_delivery_of_one_live_entry_is_an_event_of_it() {
    let mut recording = Recording::live();
    recording.delivers(0, 0x40);
    recording.delivers(0, 0x40);
    let device = agrees(&recording);
    assert_eq!((&*device.name, &*device.bdf, device.vectors), ("virtio-blk", "00:01.0", 4));
    assert_eq!((device.raises.inferred, device.messages.matched), (2, 2));
    recording.delivers(1, 0x40);
    assert_eq!(replay(&recording).messages_not_ours, 1);
}

#[test]
fn a_delivery_while_something_blocks_it_is_a_mismatch_on_its_line() {
    type Blocks = fn(&mut Recording) -> &mut Recording;
    let ways: [(Blocks, &str); 4] = [
        (|r| r.mask(0, true), "no message while it is masked"),
        (|r| r.control(0xc003), "no message while the function is masked"),
        (|r| r.control(0x0003), "no message while MSI-X is disabled"),
        (|r| r.config("write", 4, 2, 2), "no message while the function does not master the bus"),
    ];
    for (block, expected) in ways {
        let mut recording = Recording::live();
        block(&mut recording).goes_on();
        let line = recording.delivers(0, 0x40);
        assert_eq!(mismatches(&recording), [(line, Some(0), expected.to_owned())]);
        // The event is pending then, whatever was delivered.
        let lie = recording.pba(0).lines;
        let both = mismatches(&recording);
        assert_eq!(both[1], (lie, Some(0), "its pending bit to read 1".to_owned()), "{expected}");
        assert_eq!(both.len(), 2);
    }
}

#[test]
fn until_the_guest_goes_on_the_vmm_may_not_have_seen_its_write() {
    let mut recording = Recording::live();
    recording.mask(0, true).delivers(0, 0x40);
    let device = agrees(&recording);
    assert_eq!((device.undecided.messages, device.messages.expected), (1, 0));
    // What another thread does says nothing of it.
    let mut other = Recording::live();
    other.mask(0, true).line(11, "kvm_mmio: mmio read len 4 gpa 0xd0000000 val 0xfee00000");
    other.delivers(0, 0x40);
    assert_eq!(agrees(&other).undecided.messages, 1);
    let mut entered = Recording::live();
    entered.mask(0, true).line(VCPU, "kvm_entry: vcpu 0, rip 0x1000").delivers(0, 0x40);
    assert_eq!(mismatches(&entered).len(), 1);
}

#[test]
fn a_message_that_no_apic_takes_was_only_looked_at() {
    let other = "kvm_apic_accept_irq: apicid 0 vec 236 (Fixed|edge)";
    let mut recording = Recording::live();
    recording.line(DEVICE, other).mask(0, true).goes_on().looks(0, 0x40).goes_on();
    agrees(&recording);
    assert_eq!(replay(&recording).kernel.unwrap().not_accepted, 1);
    // An interrupt that is accepted there later is another's.
    recording.line(DEVICE, other);
    agrees(&recording);
}

#[test]
fn without_accepts_every_message_is_a_delivery_and_a_warning_says_so() {
    let mut recording = Recording { accepts: false, ..Recording::live() };
    recording.delivers(0, 0x40);
    let line = recording.mask(0, true).goes_on().delivers(0, 0x40);
    assert_eq!(mismatches(&recording)[0].0, line);
    let report = replay(&recording);
    assert!(report.warnings[0].contains("no kvm_apic_accept_irq"), "{:?}", report.warnings);
}

#[test]
fn a_message_from_before_a_rewrite_is_stale_and_a_mixture_is_torn() {
    let mut recording = Recording::live();
    recording.mask(0, true).goes_on().entry(0, 0xfee0_1000, 0x50).mask(0, false).goes_on();
    let mut right = recording.clone();
    right.delivers(1, 0x50);
    assert_eq!(agrees(&right).messages.matched, 1);
    for (destination, vector, what) in
        [(0, 0x40, "rewritten"), (0, 0x50, "half"), (1, 0x40, "half")]
    {
        let mut wrong = recording.clone();
        let line = wrong.delivers(destination, vector);
        let found = mismatches(&wrong);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0, found[0].1), (line, Some(0)));
        assert!(found[0].2.contains(what), "{found:?}");
    }
    // The guest gives the interrupt to a pin of the I/O APIC that the VMM has.
    for (index, value) in [(0x19, 0), (0x18, 0x40)] {
        recording.line(VCPU, format!("kvm_mmio: mmio write len 4 gpa 0xfec00000 val {index:#x}"));
        recording.line(VCPU, format!("kvm_mmio: mmio write len 4 gpa 0xfec00010 val {value:#x}"));
    }
    recording.goes_on().delivers(0, 0x40);
    agrees(&recording);
}

#[test]
fn what_is_pending_must_be_sent_when_it_is_unmasked() {
    let mut recording = Recording::live();
    recording.mask(0, true).goes_on().pba(1);
    let unmask = recording.mask(0, false).goes_on().lines - 1;
    let mut sent = recording.clone();
    sent.delivers(0, 0x40);
    let device = agrees(sent.waits());
    assert_eq!((device.raises.pending, device.messages.matched), (1, 1));
    let found = mismatches(recording.clone().waits());
    let expected = "message dst 0 vec 64 (Fixed|physical|edge) that was pending until here";
    assert_eq!(found, [(unmask, Some(0), expected.to_owned())]);
    // A VMM that is slow is not wrong.
    for _ in 0..200 {
        recording.goes_on();
    }
    recording.delivers(0, 0x40);
    assert_eq!(agrees(recording.waits()).messages.matched, 1);
}

#[test]
fn registers_read_as_they_were_written() {
    let mut recording = Recording::live();
    recording.memory("read", 8, 0x40).config("read", 0x42, 2, 0x8003);
    assert_eq!(agrees(&recording).table_reads.compared, 1);
    let table = recording.memory("read", 8, 0x41).lines;
    let control = recording.config("read", 0x42, 2, 3).lines;
    let found = mismatches(&recording);
    assert_eq!(found[0], (table, Some(0), "0x40 read at +0x8 of the entry".to_owned()));
    assert_eq!(found[1], (control, None, "enabled 1 masked 0 read".to_owned()));
}

#[test]
fn a_pending_bit_that_was_set_and_reads_0_is_a_lie() {
    let mut recording = Recording::live();
    let line = recording.mask(0, true).goes_on().pba(1).pba(1).pba(0).lines;
    assert_eq!(mismatches(&recording), [(line, Some(0), "its pending bit to read 1".to_owned())]);
    assert_eq!(replay(&recording).devices[0].pba_reads.mismatched, 1);
}

#[test]
fn where_events_are_missing_everything_is_forgotten() {
    let mut recording = Recording::live();
    recording.mask(0, true).goes_on();
    recording.text.push_str("CPU:0 [LOST 12 EVENTS]\n");
    recording.lines += 1;
    recording.delivers(0, 0x40);
    agrees(&recording);
    let report = replay(&recording);
    assert!(report.warnings[0].contains("events are missing"), "{:?}", report.warnings);
}

#[test]
fn a_function_whose_table_is_not_told_leaves_the_others_undecided() {
    let mut recording = Recording::live();
    // Another function with MSI-X, whose capability the guest does not read on.
    for (register, value) in [(0x00, 0x1041_1af4_u32), (0x34, 0x40), (0x40, 0x11)] {
        let address = 0x8000_1000_u32 | register;
        recording
            .line(VCPU, format!("kvm_pio: pio_write at 0xcf8 size 4 count 1 val {address:#x} "));
        recording.line(VCPU, format!("kvm_pio: pio_read at 0xcfc size 4 count 1 val {value:#x} "));
    }
    recording.mask(0, true).goes_on().delivers(0, 0x40);
    assert_eq!(agrees(&recording).undecided.messages, 1);
    let warnings = replay(&recording).warnings;
    assert!(warnings[0].starts_with("virtio-net 00:02.0 has MSI-X"), "{warnings:?}");
    assert!(warnings[0].contains("--lspci"), "{warnings:?}");
}

const LSPCI: &str = "\
00:01.0 SCSI storage controller: A disk (rev 01)
\tRegion 0: Memory at d0000000 (32-bit, non-prefetchable) [size=4K]
\tCapabilities: [40] MSI-X: Enable+ Count=4 Masked-
\t\tVector table: BAR=0 offset=00000000
\t\tPBA: BAR=0 offset=00000800
";

#[test]
fn a_recording_that_begins_late_needs_lspci_or_a_function_by_hand() {
    let mut late = Recording { accepts: true, ..Recording::default() };
    late.mask(0, true).entry(0, 0xfee0_0000, 0x40);
    for vector in 1..4 {
        late.entry(vector, 0xfee0_0000, 0xef).mask(vector, true);
    }
    let line = late.goes_on().delivers(0, 0x40);
    let error = replay_bytes(late.text.as_bytes(), Peer::Spec).unwrap_err().to_string();
    assert!(error.contains("--lspci"), "{error}");
    let machine = Machine::read_lspci(LSPCI).unwrap();
    let (report, _) =
        replay_of(&machine, None, Cursor::new(&late.text), Peer::Spec, false, |_| true).unwrap();
    let found = &report.mismatch_list[0];
    assert_eq!((found.line, &*found.device), (line, "A disk 00:01.0"));
    let folder = tempfile::tempdir().unwrap();
    let lspci = folder.path().join("lspci.txt");
    std::fs::write(&lspci, LSPCI).unwrap();
    let lspci = lspci.to_str().unwrap();
    let (status, _, stderr) = replayed(&late.text, &["--lspci", lspci]);
    assert_eq!(status, 1, "{stderr}");
    let said = "00:01.0,vectors=4,table=0xd0000000,pba=0xd0000800,capability=0x40,enabled";
    let (status, stdout, _) = replayed(&late.text, &["--function", said]);
    assert_eq!(status, 0, "others may be there: {stdout}");
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let (status, _, stderr) =
        replayed(&late.text, &["--lspci", folder.path().join("x").to_str().unwrap()]);
    assert!(status == 2 && stderr.contains("x: there is no function with MSI-X"), "{stderr}");
}

#[test]
fn an_event_in_a_strange_place_is_told() {
    let mut recording = Recording::live();
    recording.text.push_str("2026-01-01 kvm_mmio: mmio write len 4 gpa 0xd000000c val 0x1\n");
    let warnings = replay(&recording).warnings;
    let line = recording.lines + 1;
    assert!(
        warnings.iter().any(|w| w.starts_with(&format!("line {line}: kvm_mmio stands"))),
        "{warnings:?}"
    );
}

#[test]
fn what_is_no_text_is_refused_by_name_and_what_is_gzipped_is_read() {
    for (start, name) in [(&b"PERFILE2"[..], "perf.data"), (b"\x17\x08Dtracing", "trace.dat")] {
        let (status, _, stderr) = replayed(start, &[]);
        assert!(status == 2 && stderr.contains(name), "{stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.gz");
    let whole = packed(Recording::live().text.as_bytes());
    std::fs::write(&path, &whole).unwrap();
    let (status, stdout, stderr) = replayed_file(&path, &[]);
    assert!(status == 0 && stdout.contains("the 1 device agrees"), "{stdout}{stderr}");
    std::fs::write(&path, &whole[..whole.len() - 12]).unwrap();
    let (status, _, stderr) = replayed_file(&path, &[]);
    assert!(status == 2 && stderr.contains("cannot be read"), "{stderr}");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn replaying_arbitrary_changes_of_a_recording_never_panics() {
    let mut recording = Recording::live();
    recording.delivers(0, 0x40);
    recording.mask(0, true).goes_on().pba(1).mask(0, false).delivers(0, 0x40);
    let lines: Vec<String> = recording.text.lines().map(str::to_owned).collect();
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..2000 {
        let mut lines = lines.clone();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (at, to) = (state as usize % lines.len(), (state >> 32) as usize % lines.len());
            match state >> 61 {
                0..3 => lines.swap(at, to),
                3..5 => drop(lines.remove(at)),
                5 => lines.push(lines[at].clone()),
                _ => {
                    let digit = char::from(b"0123456789abcdef"[(state >> 40) as usize % 16]);
                    let replaced = lines[at].replacen(char::is_numeric, "\u{1}", to % 9 + 1);
                    lines[at] = replaced.replace('\u{1}', &digit.to_string());
                }
            }
        }
        let _ = replay_bytes(joined(&lines).as_bytes(), Peer::Qemu);
    }
}

#[test]
fn configuration_space_in_memory_is_found_where_it_is_said_to_be() {
    let ecam = Some(0xb000_0000);
    let empty = Recording { accepts: true, ecam, ..Recording::default() };
    let mut recording = Recording::begun(empty).made_live();
    recording.delivers(0, 0x40);
    recording.control(0xc003).goes_on();
    let line = recording.delivers(0, 0x40);
    let replayed = |machine: &Machine| {
        let log = Cursor::new(recording.text.as_bytes());
        replay_of(machine, None, log, Peer::Spec, false, |_| true)
    };
    let error = replayed(&Machine::default()).unwrap_err().to_string();
    assert!(error.contains("--ecam"), "{error}");
    let (report, _) = replayed(&Machine { ecam, ..Machine::default() }).unwrap();
    let found: Vec<_> = report.mismatch_list.iter().map(|m| (m.line, &*m.expected)).collect();
    assert_eq!(found, [(line, "no message while the function is masked")]);
    assert_eq!(report.devices[0].messages.matched, 1);
}

#[test]
fn configuration_space_in_memory_is_found_where_a_q35_bridge_puts_it() {
    let mut recording = Recording { accepts: true, ..Recording::default() };
    for (register, kind, value) in
        [(0_u64, "read", 0x29c0_8086_u64), (0x64, "write", 0), (0x60, "write", 0xb000_0001)]
    {
        let address = 0x8000_0000 | register;
        recording
            .line(VCPU, format!("kvm_pio: pio_write at 0xcf8 size 4 count 1 val {address:#x} "))
            .line(VCPU, format!("kvm_pio: pio_{kind} at 0xcfc size 4 count 1 val {value:#x} "));
    }
    recording.ecam = Some(0xb000_0000);
    let mut recording = Recording::begun(recording).made_live();
    recording.delivers(0, 0x40);
    assert_eq!(agrees(&recording).messages.matched, 1);
}
