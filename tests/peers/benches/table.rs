//! Times of the engine beside a peer's own table, in one process, turn about. Results, and what a reader may
//! conclude from them: README.md beside this file.

#[expect(dead_code, reason = "Alioth's table has fewer inputs")]
#[path = "../../../core/benches/shared/mod.rs"]
mod shared;

use alioth::hv::{self, IrqFd};
use alioth::mem::emulated::Mmio as _;
use alioth::pci::cap::{MsixTableMmio, MsixTableMmioEntry};
use msix_core::Inline;
use parking_lot::RwLock;
use shared::{Engine, Floor, Subject, run};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// An irqfd of a host that only counts, as the engine's sink does.
#[derive(Debug)]
struct Irqfd {
    fd: Arc<File>,
    told: Arc<AtomicU64>,
    /// Low address, high address, data: Alioth keeps an entry's message in its irqfd.
    message: [AtomicU32; 3],
    masked: AtomicBool,
}

impl Irqfd {
    fn set(&self, field: usize, value: u32) -> hv::Result<()> {
        self.message[field].store(value, Relaxed);
        if !self.masked.load(Relaxed) {
            self.tell();
        }
        Ok(())
    }

    fn tell(&self) {
        self.told.store(self.told.load(Relaxed) + 1, Relaxed);
    }
}

impl AsFd for Irqfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl IrqFd for Irqfd {
    fn set_addr_lo(&self, value: u32) -> hv::Result<()> {
        self.set(0, value)
    }
    fn get_addr_lo(&self) -> u32 {
        self.message[0].load(Relaxed)
    }
    fn set_addr_hi(&self, value: u32) -> hv::Result<()> {
        self.set(1, value)
    }
    fn get_addr_hi(&self) -> u32 {
        self.message[1].load(Relaxed)
    }
    fn set_data(&self, value: u32) -> hv::Result<()> {
        self.set(2, value)
    }
    fn get_data(&self) -> u32 {
        self.message[2].load(Relaxed)
    }
    fn set_masked(&self, masked: bool) -> hv::Result<bool> {
        let was = self.masked.load(Relaxed);
        self.masked.store(masked, Relaxed);
        if was != masked {
            self.tell();
        }
        Ok(was != masked)
    }
    fn get_masked(&self) -> bool {
        self.masked.load(Relaxed)
    }
}

/// Alioth's table. What it does not have costs nothing here, and is in no scenario.
struct Alioth(MsixTableMmio<Irqfd>);

impl Alioth {
    fn new(vectors: u16) -> Self {
        // Nobody reads or writes it: the trait takes something with a descriptor.
        let fd = Arc::new(File::open("/dev/null").expect("it is there"));
        let told = Arc::new(AtomicU64::new(0));
        let irqfd = || Irqfd {
            fd: Arc::clone(&fd),
            told: Arc::clone(&told),
            message: [0; 3].map(AtomicU32::new),
            masked: AtomicBool::new(true),
        };
        let entries = (0..vectors).map(|_| MsixTableMmioEntry::IrqFd(irqfd())).collect();
        Self(MsixTableMmio { entries: RwLock::new(entries) })
    }
}

impl Subject for Alioth {
    fn write_table(&mut self, offset: u64, value: u32) {
        self.0.write(offset, 4, u64::from(value)).expect("a dword of the table");
    }

    fn read_table(&mut self, offset: u64) -> u32 {
        self.0.read(offset, 4).expect("a dword of the table") as u32
    }

    fn write_control(&mut self, _: u8) {} // it has no effect on the table
    fn notify(&mut self, _: u16) {}
    fn read_pba(&mut self, _: u64) -> u64 {
        0
    }
    fn pend_all(&mut self) {}
    fn saved_len(&self) -> usize {
        0
    }
    fn save(&mut self, _: &mut [u8]) {}
    fn load(&mut self, _: &[u8], _: u8) {}
}

/// Rounds that are timed together: a clock read costs more than a write.
const ROUNDS: u16 = 2048;
const VECTORS: u16 = 64;
const TURNS: usize = 101;

/// What Alioth's table can do, too.
const SCENARIOS: [&str; 5] = ["address", "mask-unmask", "table-read", "bring-up", "affinity"];

/// Nanoseconds of a round, as the mean of `ROUNDS`.
fn time(scenario: &str, subject: &mut impl Subject) -> f64 {
    let start = Instant::now();
    assert!(run(scenario, subject, VECTORS, ROUNDS, &mut |subject, step| step(subject)));
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn main() {
    let mut engine = Engine::<Inline<64, 1>>::new();
    let mut floor = Floor::<64, 1>::new();
    let mut alioth = Alioth::new(VECTORS);
    println!(
        "| scenario | engine, ns, min / median | Alioth | floor | engine / Alioth | engine / floor |"
    );
    println!("|---|---|---|---|---|---|");
    for scenario in SCENARIOS {
        let turns: Vec<[f64; 3]> = (0..TURNS)
            .map(|_| {
                [
                    time(scenario, &mut engine),
                    time(scenario, &mut alioth),
                    time(scenario, &mut floor),
                ]
            })
            .collect();
        let [engine, alioth, floor] = [0, 1, 2].map(|side| {
            let times = sorted(turns.iter().map(|turn| turn[side]));
            format!("{:.1} / {:.1}", times[0], times[TURNS / 2])
        });
        let [to_alioth, to_floor] =
            [1, 2].map(|side| sorted(turns.iter().map(|turn| turn[0] / turn[side]))[TURNS / 2]);
        println!("| {scenario} | {engine} | {alioth} | {floor} | {to_alioth:.2} | {to_floor:.2} |");
    }
}
