//! `msix qtest` beside a real QEMU: the same lines to both, the same answers of both.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use fastrand::Rng;
use msix_peers::{Qemu, Setup};
use msix_sim::diff::{DiffOptions, run};
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
}

impl Lines {
    fn select(&mut self, both: &mut Both, register: u8) {
        both.line(format!("outl 0xcf8 {:#x}", 0x8000_2000 | u32::from(register & 0xfc)));
    }

    fn place(&mut self, both: &mut Both) {
        let high = [0_u64, 1][self.rng.usize(0..2)] << 32;
        let base = [0xe000_0000, 0xe200_0000, 0x1000_0000][self.rng.usize(0..3)];
        self.bars = [base, base + 0x10_0000, high | (base + 0x80_0000)];
        let [registers, table, memory] = self.bars;
        let values = [(0x10, registers), (0x14, table), (0x18, memory), (0x1c, memory >> 32)];
        for (register, value) in values {
            self.select(both, register);
            both.line(format!("outl 0xcfc {:#x}", value & 0xffff_ffff));
        }
        self.select(both, 4);
        both.line(format!("outw 0xcfc {:#x}", [6, 6, 6, 7, 2, 0x406, 0][self.rng.usize(0..7)]));
    }

    /// A configuration access of any width that fits into a dword.
    fn config(&mut self, both: &mut Both) {
        // BARs and Command are written by `place`.
        let register = [0, 4, 8, 0xc, 0x2c, 0x34, 0x3c, 0x40, 0x44, 0x48, 0x4c, 0x50, 0xfc]
            [self.rng.usize(0..13)];
        self.select(both, register);
        let (suffix, len) = [('b', 1), ('w', 2), ('l', 4)][self.rng.usize(0..3)];
        let port = 0xcfc + self.rng.u16(0..=4 - len);
        if self.rng.bool() || register == 4 {
            both.line(format!("in{suffix} {port:#x}"));
        } else {
            let value = self.rng.u32(..);
            both.line(format!("out{suffix} {port:#x} {value:#x}"));
        }
        both.line("inl 0xcfc".to_owned());
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
        match self.rng.u32(0..8) {
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
        let base = [self.bars[2], 0x10_0000, 0x400_0000 - 4, self.bars[2] + (1 << 20) - 4]
            [self.rng.usize(0..4)];
        let address = base + self.rng.u64(0..16);
        match self.rng.u32(0..4) {
            0 => both.line(format!("write{suffix} {address:#x} {:#x}", self.rng.u64(..))),
            1 => both.line(format!("memset {address:#x} {:#x} {:#x}", 2 * len, self.rng.u8(..))),
            2 => both.line(format!("b64read {address:#x} {len}")),
            _ => both.line(format!("read{suffix} {address:#x}")),
        };
    }

    fn next(&mut self, both: &mut Both) {
        match self.rng.u32(0..100) {
            0..3 => self.place(both),
            3..15 => self.config(both),
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
        let mut lines = Lines { rng: Rng::with_seed(seed), bars: [0; 3] };
        lines.place(&mut both);
        for round in 0..2500 {
            lines.next(&mut both);
            if round % 600 == 599 {
                both.qemu.reset().expect("QEMU resets");
                both.front.reset().expect("the front resets");
                // H8: QEMU's function mask is stale until the next control write.
                lines.place(&mut both);
                lines.select(&mut both, 0x40);
                both.line("outb 0xcff 0".to_owned());
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
    }
}
