//! How often each interrupt was taken, and moving interrupts between processors.

use super::{PROCESSORS, Shared};
use std::fs;
use std::time::Duration;

/// Pause between two moves.
const PAUSE: Duration = Duration::from_millis(10);

/// Every MSI and MSI-X interrupt of the kernel.
pub(super) struct Counts(Vec<Line>);

struct Line {
    number: u32,
    taken: u64,
    name: String,
}

impl Counts {
    pub(super) fn read() -> Result<Self, String> {
        let text = fs::read_to_string("/proc/interrupts").map_err(|error| error.to_string())?;
        Ok(Self(text.lines().filter_map(Line::read).collect()))
    }

    /// Takes the sum of those whose names begin so; the kernel's own queue of nvme is left out.
    pub(super) fn take(&mut self, name: &str) -> u64 {
        let mine = |line: &Line| line.name.starts_with(name) && line.name != "nvme0q0";
        self.0.iter().filter(|line| mine(line)).map(|line| line.taken).sum()
    }
}

impl Line {
    /// A line such as `25:  123  4  PCI-MSI 49152-edge  virtio0-req.0`.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let number = words.next()?.strip_suffix(':')?.parse().ok()?;
        let words: Vec<&str> = words.collect();
        if !words.iter().any(|word| word.contains("MSI")) {
            return None;
        }
        let counts = words.iter().take_while(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        let taken = counts.filter_map(|word| word.parse::<u64>().ok()).sum();
        Some(Self { number, taken, name: (*words.last()?).to_owned() })
    }
}

/// Moves the interrupts with these names, and those of the USB controller, from one processor to the
/// other and back: the kernel masks an entry, writes its message and unmasks it. Those of disks' queues
/// are the kernel's to place.
pub(super) fn move_about(names: &[String], shared: &Shared) -> Result<(), String> {
    let mine = |name: &str| {
        name.starts_with("xhci_hcd") || names.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut lines = Counts::read()?.0;
    lines.retain(|line| mine(&line.name));
    if lines.len() < 4 {
        return Err(format!("only {} interrupts to move", lines.len()));
    }
    for (turn, line) in (0..).zip(lines.iter().cycle()) {
        if !shared.goes_on() {
            break;
        }
        let processor: usize = turn / lines.len() % PROCESSORS;
        let path = format!("/proc/irq/{}/smp_affinity_list", line.number);
        fs::write(&path, processor.to_string()).map_err(|error| format!("{path}: {error}"))?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
