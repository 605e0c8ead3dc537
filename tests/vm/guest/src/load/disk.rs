//! Disks: blocks are written and read back, one request a queue at a time, so that each request needs an
//! interrupt of its own.

use super::{PROCESSORS, Shared, await_found};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a request: the kernel makes one of it.
const BLOCK: usize = 4096;
/// Blocks that each thread has to itself.
const BLOCKS: usize = 512;
/// Past the page cache, which has no interrupts.
const O_DIRECT: i32 = 0o40000;
/// Kinds of disks, a line each: its name, and its queues.
const KINDS: [(&str, usize); 3] = [("vda", PROCESSORS), ("nvme0n1", PROCESSORS), ("sda", 1)];

pub(super) struct Disk {
    /// As in /dev.
    pub(super) name: &'static str,
    /// What the names of its queues' interrupts begin with.
    pub(super) interrupts: String,
    /// Threads that load it, each on a processor of its own.
    pub(super) queues: usize,
    file: File,
}

/// Memory that a disk can read and write by itself.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

impl Disk {
    /// Waits for all disks that the host promised.
    pub(super) fn all() -> Result<Vec<Self>, String> {
        let promised = std::env::var("MSIX_VM_LOAD").unwrap_or_default();
        let promised = |kind: &&(&str, usize)| promised.split(',').any(|name| name == kind.0);
        KINDS.iter().filter(promised).map(|(name, queues)| Self::open(name, *queues)).collect()
    }

    fn open(name: &'static str, queues: usize) -> Result<Self, String> {
        let file = await_found(name, || {
            let mut options = File::options();
            Ok(options
                .read(true)
                .write(true)
                .custom_flags(O_DIRECT)
                .open(format!("/dev/{name}"))
                .ok())
        })?;
        let interrupts = match name {
            "sda" => "xhci_hcd".to_owned(),
            "vda" => {
                let device = Path::new("/sys/block").join(name).join("device");
                let device = fs::read_link(device).map_err(|error| format!("{name}: {error}"))?;
                let device = device.file_name().unwrap_or_default().to_string_lossy();
                format!("{device}-req.")
            }
            // Queue 0 is the controller's own.
            _ => "nvme0q".to_owned(),
        };
        Ok(Self { name, interrupts, queues, file })
    }

    /// Returns the reads and writes that the kernel saw completed.
    pub(super) fn requests(&self) -> Result<u64, String> {
        let path = format!("/sys/block/{}/stat", self.name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let fields: Vec<u64> =
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match fields[..] {
            [reads, _, _, _, writes, ..] => Ok(reads + writes),
            _ => Err(format!("{path}: {text}")),
        }
    }

    /// Writes and reads the blocks of a part, and looks at all of them at the end.
    pub(super) fn work(
        &self,
        part: usize,
        shared: &Shared,
        done: &AtomicU64,
    ) -> Result<(), String> {
        let mut processor = CpuSet::new();
        processor.set(part);
        sched_setaffinity(None, &processor).map_err(|error| error.to_string())?;
        let mut block = Block([0; BLOCK]);
        let mut versions = [0_u32; BLOCKS];
        let mut random = 0x1234_5678 + part as u64;
        while shared.goes_on() {
            random = mix(random);
            let slot = random as usize % BLOCKS;
            if random >> 63 == 0 {
                versions[slot] += 1;
                fill(&mut block.0, part, slot, versions[slot]);
                let place = place(part, slot);
                let wrote = self.file.write_all_at(&block.0, place);
                wrote.map_err(|error| format!("{}: write at {place}: {error}", self.name))?;
                done.fetch_add(1, Ordering::Relaxed);
            } else if versions[slot] > 0 {
                self.look(&mut block, part, slot, versions[slot], done)?;
            }
        }
        for (slot, version) in versions.into_iter().enumerate().filter(|(_, version)| *version > 0)
        {
            self.look(&mut block, part, slot, version, done)?;
        }
        Ok(())
    }

    /// Reads a block, which must hold what was written last.
    fn look(
        &self,
        block: &mut Block,
        part: usize,
        slot: usize,
        version: u32,
        done: &AtomicU64,
    ) -> Result<(), String> {
        let place = place(part, slot);
        let read = self.file.read_exact_at(&mut block.0, place);
        read.map_err(|error| format!("{}: read at {place}: {error}", self.name))?;
        done.fetch_add(1, Ordering::Relaxed);
        let mut expected = [0; BLOCK];
        fill(&mut expected, part, slot, version);
        if block.0 == expected {
            return Ok(());
        }
        Err(format!("{}: a bad block at {place}: not version {version}", self.name))
    }
}

fn place(part: usize, slot: usize) -> u64 {
    ((part * BLOCKS + slot) * BLOCK) as u64
}

/// Fills a block with what only this version of it holds.
fn fill(block: &mut [u8; BLOCK], part: usize, slot: usize, version: u32) {
    let mut word = place(part, slot) << 32 | u64::from(version);
    for bytes in block.chunks_exact_mut(8) {
        word = mix(word);
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// A step of a generator of numbers that look random.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
