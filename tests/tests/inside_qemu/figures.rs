//! What the guest says about its load, and what must be true of it.

use crate::machine::Disks;
use std::collections::BTreeMap;

/// Counters by name, of a line of progress.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<String, u64>);

impl Figures {
    /// Returns those of the last whole line of progress.
    pub(crate) fn last(console: &str) -> Option<Self> {
        let whole = &console[..=console.rfind('\n')?];
        let mut lines = whole.lines().filter_map(|line| line.strip_prefix("VM-PROGRESS: "));
        lines.next_back().and_then(|line| {
            let pair = |part: &str| {
                let (name, count) = part.trim().split_once(' ')?;
                Some((name.to_owned(), count.trim().parse().ok()?))
            };
            line.split(',').map(pair).collect::<Option<_>>().map(Self)
        })
    }

    /// Returns whether everything went on since `before`.
    pub(crate) fn all_beyond(&self, before: &Self) -> bool {
        self.0.iter().all(|(name, count)| before.0.get(name).copied().unwrap_or(0) < *count)
    }
}

/// Interrupts that a disk may have taken beside those of its requests, for each migration: a device may
/// raise one again when it goes on.
const AGAIN: u64 = 4;

/// Fails unless the guest ended well, and took an interrupt for each request of each disk.
pub(crate) fn judge(console: &str, disks: &Disks, migrations: usize) {
    assert!(console.lines().any(|line| line == "VM-DONE: ok"), "the guest failed:\n{console}");
    for disk in disks.names() {
        let figures = figure(console, disk);
        let (requests, interrupts) = (figures["requests"], figures["interrupts"]);
        assert!(requests >= 100, "{disk}: only {requests} requests");
        assert!(interrupts >= requests, "{disk}: {interrupts} interrupts for {requests} requests");
        if *disk != "sda" {
            // A request to a USB disk takes several interrupts.
            let most = requests + AGAIN * migrations as u64;
            assert!(interrupts <= most, "{disk}: {interrupts} interrupts for {requests} requests");
        }
    }
    let net = figure(console, "net");
    assert!(net["round-trips"] >= 100, "{net:?}");
    assert!(net["late"] == 0, "{net:?}: a card waited for its next interrupt");
    // QEMU does not migrate what is on the cable between the cards.
    assert!(net["lost"] <= migrations as u64, "{net:?}");
    for card in ["virtio", "e1000e"] {
        assert!(net[card] >= net["round-trips"], "{net:?}");
    }
}

/// The last figures of a device.
fn figure(console: &str, device: &str) -> BTreeMap<String, u64> {
    let begin = format!("VM-FIGURE: {device} ");
    let line = console.lines().filter_map(|line| line.strip_prefix(&begin)).next_back();
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let pairs = words.chunks_exact(2);
    pairs.map(|pair| (pair[0].to_owned(), pair[1].parse().expect("a count"))).collect()
}
