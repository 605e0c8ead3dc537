//! What a replay found, for programs (as JSON) and for people (as a table).

use crate::plural::counted;
use crate::printable::printable;
use serde::Serialize;
use std::fmt;

/// All of it. Field names and types are the documented JSON.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// `qemu` or `spec`.
    pub policy: &'static str,
    /// The functions that have an MSI-X table in the log, by BDF.
    pub devices: Vec<DeviceReport>,
    /// Everything that contradicts the engine: in the log, and in what a backend delivered.
    pub mismatches: u64,
    /// The first [`MAX_LISTED`] of them, in the order in which they were noticed.
    pub mismatch_list: Vec<Mismatch>,
    /// Messages that equal no entry: of the IO-APIC, HPET, ...
    pub messages_not_ours: u64,
    /// What the log leaves open and no single device can be named for.
    pub unattributed: Unattributed,
    /// Unit of [`Masked::length`].
    pub unit: Unit,
    /// Whole lines in the log.
    pub lines: u64,
    /// Whether the replay was ended before the log was.
    pub interrupted: bool,
    /// What a reader of the figures should know.
    pub warnings: Vec<String>,
    /// What else is known of a recording of the kernel's events, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFacts>,
    /// What the log was replayed on, when it was on something that delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendReport>,
}

/// About a recording of the kernel's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KernelFacts {
    /// Whether it tells a message that was delivered from one that KVM looked at
    /// (`kvm_apic_accept_irq`).
    pub accepts_recorded: bool,
    /// Messages that KVM took apart and no local APIC took.
    pub not_accepted: u64,
}

/// One function.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeviceReport {
    /// The device's type name, such as `nvme`.
    pub name: String,
    /// Bus, device and function number; empty if the log has no configuration access of it.
    pub bdf: String,
    /// Number of vectors.
    pub vectors: u16,
    /// Writes to its table.
    pub table_writes: u64,
    /// Reads of its table.
    pub table_reads: Reads,
    /// Reads of its PBA; QEMU's log does not show them.
    pub pba_reads: Reads,
    /// Events of the device.
    pub raises: Raises,
    /// Interrupt messages.
    pub messages: Messages,
    /// What a host backend would have been asked to do.
    pub effects: EffectCounts,
    /// Control bits in the log that contradict the write that set them.
    pub control_mismatched: u64,
    /// What the log leaves open.
    pub undecided: Undecided,
    /// The longest time a vector that had been unmasked stayed masked.
    pub longest_masked: Option<Masked>,
    /// Whether a message that it lost would show.
    pub lost_shows: LostShows,
    /// Its messages as a backend delivered them, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Deliveries>,
}

/// Whether a message that a device lost would show. A device whose events are told by its messages only
/// cannot show one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LostShows {
    /// No event is told but by its message.
    #[default]
    No,
    /// Some events are told otherwise: named, or seen to be pending.
    Some,
    /// Every event is named.
    Yes,
}

/// Reads of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reads {
    /// Compared with the engine.
    pub compared: u64,
    /// Of these, how many differ.
    pub mismatched: u64,
}

/// Events of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Raises {
    /// The log names the vector.
    pub named: u64,
    /// Told by a message that equals exactly one live entry.
    pub inferred: u64,
    /// Told by a pending bit that was read.
    pub pending: u64,
}

/// Interrupt messages of a device: `expected` is `matched` and `lost` together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// The engine sent it.
    pub expected: u64,
    /// And the device did.
    pub matched: u64,
    /// And the device did not: a mismatch.
    pub lost: u64,
    /// The device sent what the engine holds back: a mismatch.
    pub unexpected: u64,
}

/// Vectors named in effects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EffectCounts {
    /// To be routed and armed.
    #[serde(rename = "use")]
    pub uses: u64,
    /// To be disarmed.
    pub release: u64,
    /// To be routed anew.
    pub reroute: u64,
    /// To be delivered from userspace.
    pub send: u64,
    /// To be asked for kept events.
    pub poll: u64,
}

/// What the log leaves open about one device; not counted as agreement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// Reads of dwords that the log does not tell the content of.
    pub reads: u64,
    /// Named raises of a vector whose state the log does not tell.
    pub raises: u64,
    /// Messages that may or may not be the device's, or may or may not have been due.
    pub messages: u64,
}

/// What the log leaves open and cannot be put down to one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unattributed {
    /// Reads of a table whose owner is not known.
    pub reads: u64,
    /// Writes of a table whose owner is not known.
    pub writes: u64,
    /// Named raises of one of several devices.
    pub raises: u64,
    /// Messages that equal entries of several devices.
    pub messages: u64,
}

/// Messages that a backend delivered for real.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    /// The engine sent it, and it leaves a trace where the backend looks.
    pub expected: u64,
    /// It was seen to arrive.
    pub delivered: u64,
    /// It did not, or something arrived that the engine did not send.
    pub mismatched: u64,
    /// The engine sent it, but nobody can see whether it arrived: an NMI, or a message that an
    /// interrupt remapper would change.
    pub not_compared: u64,
}

/// What a replay did on a backend.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackendReport {
    /// Which.
    pub name: &'static str,
    /// Virtual processors whose local APICs were looked at.
    pub vcpus: u64,
    /// The devices' [`DeviceReport::deliveries`], summed.
    pub messages: Deliveries,
    /// Eventfds written: events of devices.
    pub raises: u64,
    /// Of these, how many were for vectors that sent nothing at once: nothing may have arrived.
    pub held: u64,
    /// Messages that arrived once more than they were sent, which is allowed when several events
    /// waited for an unmask: pending is a bit in two places then, and repeats are legal (A12, H20).
    pub repeated: u64,
    /// Messages that KVM delivered by itself, through an irqfd.
    pub by_irqfd: u64,
    /// Messages that userspace delivered, through KVM_SIGNAL_MSI.
    pub by_signal: u64,
    /// Messages that are writes to guest memory.
    pub to_memory: u64,
    /// System calls.
    pub ioctls: Ioctls,
    /// GSIs in use at the end.
    pub gsis: u64,
}

/// System calls of a backend, failures included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ioctls {
    /// KVM_SET_GSI_ROUTING.
    pub set_gsi_routing: u64,
    /// KVM_IRQFD.
    pub irqfd_assign: u64,
    /// KVM_IRQFD with KVM_IRQFD_FLAG_DEASSIGN.
    pub irqfd_deassign: u64,
    /// KVM_SIGNAL_MSI.
    pub signal_msi: u64,
    /// Those of the four above that failed.
    pub failed: u64,
    /// KVM_GET_LAPIC, to look.
    pub get_lapic: u64,
    /// KVM_SET_LAPIC, to clear what was seen.
    pub set_lapic: u64,
}

/// How long a vector stayed masked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Masked {
    /// Which.
    pub vector: u16,
    /// In the report's unit.
    pub length: f64,
}

/// What lengths are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Every event in the log has a timestamp.
    Seconds,
    /// Lines of the log.
    Lines,
}

/// One contradiction between the log and the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Line of the read, of the message, or of what should have caused a message.
    pub line: u64,
    /// Name and BDF.
    pub device: String,
    /// The vector, if it is about one.
    pub vector: Option<u16>,
    /// By the engine.
    pub expected: String,
    /// From the log, or a backend.
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, printable(&self.device))?;
        if let Some(vector) = self.vector {
            write!(f, " vector {vector}")?;
        }
        write!(f, ": expected {}, got {}", self.expected, self.got)
    }
}

/// Most mismatches that are listed one by one.
pub const MAX_LISTED: usize = 1000;

impl ReplayReport {
    /// Everything undecided, of all kinds.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        let Unattributed { reads, writes, raises, messages } = self.unattributed;
        let devices = self.devices.iter().map(|device| device.undecided);
        devices.fold(reads + writes + raises + messages, |sum, undecided| {
            sum + undecided.reads + undecided.raises + undecided.messages
        })
    }

    /// One line that says it all.
    #[must_use]
    pub fn verdict(&self) -> String {
        let sum = |of: fn(&DeviceReport) -> u64| self.devices.iter().map(of).sum::<u64>();
        let disagree = |device: &&DeviceReport| {
            device.table_reads.mismatched
                + device.pba_reads.mismatched
                + device.messages.lost
                + device.messages.unexpected
                + device.control_mismatched
                + device.deliveries.map_or(0, |deliveries| deliveries.mismatched)
                > 0
        };
        let (all, wrong) = (self.devices.len(), self.devices.iter().filter(disagree).count());
        let devices = match (wrong, all) {
            (0, 0) => "no device could be told apart".to_owned(),
            (0, 1) => "the 1 device agrees".to_owned(),
            (0, _) => format!("all {all} devices agree"),
            (1, _) => format!("1 of {all} devices disagrees"),
            _ => format!("{wrong} of {all} devices disagree"),
        };
        let interrupted = if self.interrupted {
            format!("interrupted after line {}: ", self.lines)
        } else {
            String::new()
        };
        format!(
            "{interrupted}{devices}: {} expected, {} matched, {} compared, {} ({} named, {} inferred, \
             {} undecided){}",
            counted(sum(|d| d.messages.expected), "message"),
            sum(|d| d.messages.matched),
            counted(sum(|d| d.table_reads.compared), "table read"),
            counted(self.mismatches, "mismatch"),
            counted(sum(|d| d.raises.named), "raise"),
            sum(|d| d.raises.inferred),
            self.undecided(),
            self.lost_shows(),
        )
    }

    /// Of which devices a lost message would not show, as the end of a sentence.
    fn lost_shows(&self) -> String {
        let of = |shows| {
            let devices = self.devices.iter().filter(|device| device.lost_shows == shows);
            listed(devices.map(|device| format!("{} {}", device.name, device.bdf)).collect())
        };
        match (of(LostShows::No), of(LostShows::Some)) {
            _ if self.devices.is_empty() => String::new(),
            (None, None) => "; a lost message would have shown".to_owned(),
            (None, Some(part)) => format!("; lost messages would show only in part for {part}"),
            (Some(none), None) => format!("; lost messages cannot be judged here for {none}"),
            (Some(none), Some(part)) => {
                format!(
                    "; lost messages cannot be judged here for {none}, and only in part for {part}"
                )
            }
        }
    }
}

/// Names in a sentence; of many, the first.
fn listed(mut names: Vec<String>) -> Option<String> {
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    if more > 0 {
        names.push(counted(more, "other"));
    }
    let last = names.pop()?;
    let last = last.trim_end();
    Some(if names.is_empty() {
        last.to_owned()
    } else {
        format!("{} and {last}", names.join(", "))
    })
}

const MOST_NAMES: usize = 4;

impl BackendReport {
    /// What was delivered, and at what cost, in two lines.
    #[must_use]
    pub fn verdict(&self) -> String {
        let Self { name, vcpus, messages, raises, held, ioctls, .. } = self;
        let Deliveries { expected, delivered, mismatched, not_compared } = messages;
        format!(
            "{name}: {} expected in the local APICs of {}, {delivered} delivered ({} by irqfd, {} by \
             KVM_SIGNAL_MSI, {} to memory), {not_compared} not compared, {}\n\
             {name}: {} ({held} held back, {} repeated), KVM_SET_GSI_ROUTING {}, KVM_IRQFD {} to \
             assign and {} to deassign, KVM_SIGNAL_MSI {}, {} failed, {}",
            counted(*expected, "message"),
            counted(*vcpus, "vCPU"),
            self.by_irqfd,
            self.by_signal,
            self.to_memory,
            counted(*mismatched, "mismatch"),
            counted(*raises, "eventfd write"),
            counted(self.repeated, "message"),
            ioctls.set_gsi_routing,
            ioctls.irqfd_assign,
            ioctls.irqfd_deassign,
            ioctls.signal_msi,
            ioctls.failed,
            counted(self.gsis, "GSI"),
        )
    }
}

/// A bounded list of warnings.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: Vec<String>,
    more: u64,
}

impl Warnings {
    pub(crate) fn push(&mut self, warning: impl Into<String>) {
        if self.list.len() < MAX_WARNINGS {
            self.list.push(warning.into());
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn list(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {}", counted(self.more, "more warning")));
        self.list.iter().cloned().chain(more).collect()
    }
}

const MAX_WARNINGS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_in_words_and_not_without_end() {
        let names = |count: usize| (1..=count).map(|n| format!("d{n}")).collect();
        let words = [1, 2, 3, 4, 5, 9].map(|count| listed(names(count)).unwrap());
        let expected = [
            "d1",
            "d1 and d2",
            "d1, d2 and d3",
            "d1, d2, d3 and d4",
            "d1, d2, d3, d4 and 1 other",
            "d1, d2, d3, d4 and 5 others",
        ];
        assert_eq!(words, expected);
        assert_eq!(listed(Vec::new()), None);
    }
}
