//! `msix qtest` beside a real QEMU: the same lines to both, the same answers of both.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use fastrand::Rng;
use msix_core::operation::Operation;
use msix_core::{Policy, Vector};
use msix_explorer::script::ScriptInput as _;
use msix_peers::{Qemu, Setup};
use msix_sim::diff::{Compared, DiffOptions, PeerDifference, run, run_script};
use msix_sim::qtest::player;
use msix_sim::replay::Peer;

const VECTORS: u16 = 5;
/// Where the messages go, and how much of it is compared.
const WINDOW: u64 = 0x20_0000;
const WINDOW_LEN: u64 = 64;

/// Two machines with one device each.
struct Both {
    qemu: Qemu,
    front: Qemu,
    history: Vec<String>,
}

impl Both {
    fn start() -> Self {
        let start = |program| {
            let setup = Setup { player: program, vectors: vec![VECTORS], incoming: None };
            Qemu::start(&setup).expect("a machine that starts")
        };
        let front = start(player(Peer::Qemu));
        Self { qemu: start("qemu-system-x86_64".into()), front, history: Vec::new() }
    }

    /// Gives a line to both; their one answer.
    fn line(&mut self, line: String) -> String {
        self.history.push(line.clone());
        let theirs = self.qemu.qtest().command(&line).expect("QEMU answers");
        let ours = self.front.qtest().command(&line).expect("the front answers");
        if ours != theirs {
            let last = self.history.len().saturating_sub(40);
            panic!("`{line}`: {ours}, QEMU {theirs}; after {:#?}", &self.history[last..]);
        }
        theirs
    }

    fn raise(&mut self, vector: u16) {
        self.history.push(format!("(event of vector {vector})"));
        self.qemu.raise(0, vector).expect("QEMU takes it");
        self.front.raise(0, vector).expect("the front takes it");
    }

    /// After a ring of its own doorbell.
    fn settle(&mut self) {
        for vector in 0..VECTORS {
            self.qemu.await_taken(0, vector).expect("QEMU takes it");
            self.front.await_taken(0, vector).expect("the front takes it");
        }
    }
}

/// Random lines about a device in slot 4.
struct Lines {
    rng: Rng,
    /// Where the BARs are, or were before the last reset.
    bars: [u64; 3],
    /// Where configuration space is in memory, if the bridge says so.
    ecam: u64,
}

impl Lines {
    fn select(&mut self, both: &mut Both, register: u8) {
        both.line(format!("outl 0xcf8 {:#x}", 0x8000_2000 | u32::from(register)));
    }

    fn place(&mut self, both: &mut Both) {
        let high = [0_u64, 1][self.rng.usize(0..2)] << 32;
        let base = [0xe000_0000, 0xe200_0000, 0x1000_0000][self.rng.usize(0..3)];
        // Also in the hole of RAM, and one over the other.
        let registers = [base, base, 0xc_0000, high | (base + 0x80_0000)][self.rng.usize(0..4)];
        let values = [registers, base + 0x10_0000, high | (base + 0x80_0000)];
        let mut order = [(0x10, values[0]), (0x14, values[1]), (0x18, values[2])];
        self.rng.shuffle(&mut order);
        for (register, value) in order {
            self.select(both, register);
            both.line(format!("outl 0xcfc {:#x}", value & 0xffff_ffff));
            if register == 0x18 {
                self.select(both, 0x1c);
                both.line(format!("outl 0xcfc {:#x}", value >> 32));
            }
        }
        self.select(both, 4);
        both.line(format!("outw 0xcfc {:#x}", [6, 6, 6, 7, 2, 0x406, 0][self.rng.usize(0..7)]));
        self.find_bars(both);
    }

    /// Reads where the BARs are. Where QEMU's machine has something of its own there is none left.
    fn find_bars(&mut self, both: &mut Both) {
        let mut found = [0_u64; 4];
        for (register, found) in [0x10, 0x14, 0x18, 0x1c].into_iter().zip(&mut found) {
            self.select(both, register);
            let answer = both.line("inl 0xcfc".to_owned());
            *found = u64::from_str_radix(&answer[2..], 16).expect("a number");
        }
        self.bars = [found[0], found[1], found[3] << 32 | found[2] & !0xf];
        let lengths = [0x100, 0x1000, 1 << 20];
        for (index, (bar, len)) in self.bars.into_iter().zip(lengths).enumerate() {
            let taken = [(0xe_0000, 0x10_0000), (0xfe00_0000, 1 << 32), (0xb000_0000, 0xc000_0000)];
            if taken.iter().any(|&(start, end)| bar < end && bar + len > start) {
                let register = [0x10, 0x14, 0x18][index];
                self.select(both, register);
                both.line(format!("outl 0xcfc {:#x}", 0x1800_0000 + (index << 20)));
                return self.find_bars(both);
            }
        }
    }

    /// An access to a port of configuration space, of any width and however aligned; at any register of
    /// any function, or none.
    fn config(&mut self, both: &mut Both) {
        let register = self.rng.u32(0..256);
        let function = match self.rng.u32(0..16) {
            0 => 0,         // the bridge
            1 => 0x07 << 3, // nobody
            2 => 0x04 << 3 | self.rng.u32(1..8),
            3 => 0x1_0004 << 3,
            _ => 0x04 << 3,
        };
        let high = [0x8000_0000, 0x8000_0000, 0xff00_0000, 0xa500_0000, 0][self.rng.usize(0..5)];
        both.line(format!("outl 0xcf8 {:#x}", high | function << 8 | register));
        for _ in 0..self.rng.u32(1..4) {
            self.port(both, function == 0);
        }
        self.find_bars(both);
    }

    fn port(&mut self, both: &mut Both, is_bridge: bool) {
        let (suffix, len) = [('b', 1), ('w', 2), ('l', 4)][self.rng.usize(0..3)];
        let port =
            [0xcfc, self.rng.u16(0xcfc..0xd00), self.rng.u16(0xcf8..0xd00)][self.rng.usize(0..3)];
        // The registers of QEMU's bridge that move RAM; what crosses the end is behind it.
        if self.rng.bool() || is_bridge || port == 0xcf8 && len == 4 {
            both.line(format!("in{suffix} {port:#x}"));
        } else {
            let value = self.rng.u32(..) & if port == 0xcf9 { !4 } else { u32::MAX };
            both.line(format!("out{suffix} {port:#x} {value:#x}"));
        }
        both.line("inl 0xcf8".to_owned());
        both.line("inl 0xcfc".to_owned());
    }

    /// Configuration space in memory, which the bridge shows when it is asked to.
    fn config_in_memory(&mut self, both: &mut Both) {
        if self.rng.u32(0..4) == 0 {
            let enabled = self.rng.u32(0..2);
            both.line("outl 0xcf8 0x80000060".to_owned());
            both.line(format!("outl 0xcfc {:#x}", 0xb000_0000 | enabled));
        }
        let (suffix, _) = self.width();
        let function = [0x20, 0x20, 0x20, 0x21, 0x38, 0x120, 0][self.rng.usize(0..7)];
        let offset = [self.rng.u64(0..0x100), self.rng.u64(0..0x1000)][self.rng.usize(0..2)];
        let address = self.ecam + (function << 12) + offset;
        if self.rng.bool() || function == 0 {
            both.line(format!("read{suffix} {address:#x}"));
        } else {
            both.line(format!("write{suffix} {address:#x} {:#x}", self.rng.u64(..)));
            self.find_bars(both);
        }
    }

    /// Asks for a reset as a guest does.
    fn guest_reset(&mut self, both: &mut Both) {
        let line = ["outb 0xcf9 6", "outb 0xcf9 4", "outb 0x92 1", "outb 0x64 0xfe"];
        both.line(line[self.rng.usize(0..4)].to_owned());
        both.line("inl 0xcf8".to_owned());
        self.recover(both);
    }

    fn recover(&mut self, both: &mut Both) {
        self.place(both);
        // H8: QEMU's function mask is stale until the next control write.
        self.select(both, 0x40);
        both.line("outb 0xcff 0".to_owned());
    }

    /// Whether what is written there can be no doorbell, of which QEMU knows 8 bits of the vector (E3).
    fn is_safe(&self, address: u64) -> bool {
        !(self.bars[0].saturating_sub(32)..self.bars[0] + 0x100).contains(&address)
    }

    fn width(&mut self) -> (char, u64) {
        [('b', 1), ('w', 2), ('l', 4), ('l', 4), ('l', 4), ('q', 8)][self.rng.usize(0..6)]
    }

    fn registers(&mut self, both: &mut Both) {
        let (suffix, _) = self.width();
        let offset = self.rng.u64(0..24);
        let address = self.bars[0] + offset;
        if self.rng.bool() {
            both.line(format!("read{suffix} {address:#x}"));
        } else {
            // The vector has 8 bits: what QEMU does with more is a defect (E3).
            let value = self.rng.u64(..) & 0xffff_00ff_ffff_00ff;
            let peers = 0x0001_0007_0001_0007;
            let value = if self.rng.bool() { value & peers } else { value };
            let value = if offset.is_multiple_of(4) { value } else { value & 0xff };
            both.line(format!("write{suffix} {address:#x} {value:#x}"));
            both.settle();
        }
    }

    fn table(&mut self, both: &mut Both) {
        let field = self.rng.u64(0..4);
        let value = |rng: &mut Rng, field: u64| match field {
            0 => u64::from(WINDOW as u32) + rng.u64(0..WINDOW_LEN / 4) * 4,
            1 => 0,
            2 => rng.u64(0..1 << 32),
            _ => u64::from(rng.u32(..) & if rng.bool() { 1 } else { 0xffff_0001 }),
        };
        let low = value(&mut self.rng, field);
        let high = value(&mut self.rng, (field + 1) % 4);
        let vector = self.rng.u64(0..u64::from(VECTORS) + 1);
        let address = self.bars[1] + vector * 16 + field * 4;
        let safe = self.is_safe(address) && self.is_safe(self.bars[1] + vector * 16 + 12);
        match if safe { self.rng.u32(0..8) } else { self.rng.u32(1..3) } {
            0 => both.line(format!("writeq {address:#x} {:#x}", high << 32 | low)),
            1 => both.line(format!("readq {address:#x}")),
            2 => both.line(format!("read {:#x} {:#x}", self.bars[1], self.rng.u64(1..200))),
            3 => both.line(format!("writew {:#x} {low:#x}", address + self.rng.u64(0..4))),
            4 => both.line(format!("readl {:#x}", self.bars[1] + 0x800)),
            5 => both.line(format!("writel {:#x} 1", self.bars[1] + vector * 16 + 12)),
            6 => both.line(format!("writel {:#x} 0", self.bars[1] + vector * 16 + 12)),
            _ => both.line(format!("writel {address:#x} {low:#x}")),
        };
    }

    fn control(&mut self, both: &mut Both) {
        self.select(both, 0x40);
        let high = [0x80, 0x80, 0x80, 0xc0, 0x00][self.rng.usize(0..5)];
        both.line(format!("outb 0xcff {high:#x}"));
        both.line("inl 0xcfc".to_owned());
    }

    fn memory(&mut self, both: &mut Both) {
        let (suffix, len) = self.width();
        let base =
            [self.bars[2], 0x10_0000, 0xa_0000 - 8, 0x400_0000 - 4, self.bars[2] + (1 << 20) - 4]
                [self.rng.usize(0..5)];
        let address = base + self.rng.u64(0..16);
        match if self.is_safe(address) { self.rng.u32(0..4) } else { self.rng.u32(2..4) } {
            0 => both.line(format!("write{suffix} {address:#x} {:#x}", self.rng.u64(..))),
            1 => both.line(format!("memset {address:#x} {:#x} {:#x}", 2 * len, self.rng.u8(..))),
            2 => both.line(format!("b64read {address:#x} {len}")),
            _ => both.line(format!("read{suffix} {address:#x}")),
        };
    }

    fn next(&mut self, both: &mut Both) {
        match self.rng.u32(0..100) {
            0..3 => self.place(both),
            3..12 => self.config(both),
            12..15 => self.config_in_memory(both),
            15..35 => self.registers(both),
            35..70 => self.table(both),
            70..80 => self.control(both),
            80..90 => both.raise(self.rng.u16(0..VECTORS)),
            _ => self.memory(both),
        }
        both.line(format!("read {WINDOW:#x} {WINDOW_LEN}"));
    }
}

#[test]
fn the_same_lines_get_the_same_answers_of_qemu_and_of_the_front() {
    if std::process::Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        let remedy = "apt-get install qemu-system-x86";
        msix_tests::peers::skipped("the qtest front beside QEMU", "qemu-system-x86_64", remedy);
        return;
    }
    for seed in 0..4 {
        let mut both = Both::start();
        let mut lines = Lines { rng: Rng::with_seed(seed), bars: [0; 3], ecam: 0xb000_0000 };
        lines.place(&mut both);
        for round in 0..2500 {
            lines.next(&mut both);
            if round % 600 == 599 {
                both.qemu.reset().expect("QEMU resets");
                both.front.reset().expect("the front resets");
                both.line("inl 0xcf8".to_owned());
                lines.recover(&mut both);
            } else if round % 600 == 299 {
                lines.guest_reset(&mut both);
            }
        }
    }
}

#[test]
fn the_engine_and_the_front_agree_on_60_000_random_inputs() {
    for (vectors, seed) in [(1, 1), (65, 2), (300, 3)] {
        let options = DiffOptions::new(player(Peer::Qemu), 20_000, seed, vectors);
        let outcome = run(&options, |_| true).expect("the front answers");
        assert!(outcome.mismatch.is_none(), "{}", outcome.mismatch.expect("one").script);
        assert!(outcome.compared.messages > 500 && outcome.compared.resets > 0);
        // At most one wait before each event and after 64 inputs, and none between events that send nothing;
        // a reset is set up afresh.
        let Compared { events, operations, resets, .. } = outcome.compared;
        let most = events + operations / 64 + resets * 14 + 20;
        assert!(outcome.round_trips <= most, "{} waits, at most {most}", outcome.round_trips);
        assert!(outcome.round_trips * 10 < operations * 3, "{} waits", outcome.round_trips);
    }
}

#[test]
fn a_message_that_comes_too_early_is_not_taken_for_the_one_that_is_due() {
    let mut options = DiffOptions::new(player(Peer::Qemu), 0, 0, 1);
    options.policy = Policy { table_access: Policy::SPEC.table_access, ..Policy::QEMU };
    let write = |offset, len, value| Operation::WriteTable { offset, len, value };
    let operations = [
        Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 },
        write(0, 8, 0x20_0000),
        write(8, 4, 0x1234_5678),
        Operation::Notify(Vector::new(0)),
        write(9, 7, 0),  // only the front takes it, and sends
        write(12, 4, 0), // the engine sends the same
    ];
    let differs = run_script(1, operations, &options).expect("the front answers");
    let PeerDifference { what, input, .. } = differs.expect("it came too early");
    assert_eq!((what.as_str(), input), ("memory at 0x200000", operations[4].line()));
    options.policy = Policy::QEMU;
    assert_eq!(run_script(1, operations, &options).expect("the front answers"), None);
}
