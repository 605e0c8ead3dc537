//! Where a message has to arrive, and whether it did. Pure.

use crate::replay::backend::{DeliveryDifference, DeliveryOutcome};
use msix_core::Message;
use std::collections::BTreeSet;
use std::fmt;

/// Something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arrival {
    /// A bit in the IRR of a local APIC.
    Interrupt { vcpu: u8, vector: u8 },
    /// A write that the device would do as a bus master.
    Write { address: u64, data: u32 },
}

/// What has to arrive for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of these; nothing, when the message is for nobody.
    All(Vec<Arrival>),
    /// One of these, which KVM chooses: the lowest priority.
    One(Vec<Arrival>),
    /// Something that cannot be seen.
    Unseen,
}

impl Wanted {
    /// For `vcpus` local APICs in xAPIC mode with flat logical ids (K11).
    pub(super) fn of(message: Message, vcpus: u8) -> Self {
        let Message { address, data } = message;
        if !is_interrupt(message) {
            return Self::All(vec![Arrival::Write { address, data }]);
        }
        let mode = data >> 8 & 7;
        if address & REMAPPABLE != 0 || mode > LOWEST_PRIORITY {
            return Self::Unseen; // an IOMMU's to read; or an NMI, SMI, INIT: no bit in an IRR
        }
        let [vector, ..] = data.to_le_bytes();
        let to = destination(address);
        let takes = |&id: &u8| match address & LOGICAL {
            _ if to == BROADCAST => true,
            0 => id == to,
            _ => id < 8 && to >> id & 1 != 0,
        };
        let all = (0..vcpus).filter(takes).map(|vcpu| Arrival::Interrupt { vcpu, vector });
        if mode == LOWEST_PRIORITY || address & REDIRECTION_HINT != 0 {
            Self::One(all.collect())
        } else {
            Self::All(all.collect())
        }
    }

    /// Those that it is about.
    pub(super) fn arrivals(&self) -> &[Arrival] {
        match self {
            Self::All(arrivals) | Self::One(arrivals) => arrivals,
            Self::Unseen => &[],
        }
    }

    fn has_arrived(&self, seen: &BTreeSet<Arrival>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|arrival| seen.contains(arrival)),
            Self::One(any) => any.is_empty() || any.iter().any(|arrival| seen.contains(arrival)),
            Self::Unseen => true,
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt { vcpu, vector } => write!(f, "interrupt {vector:#x} at APIC {vcpu}"),
            Self::Write { address, data } => write!(f, "a write of {data:#x} to {address:#x}"),
        }
    }
}

/// The highest APIC id that `message` names.
pub(super) fn highest_target(message: Message) -> Option<u8> {
    let Message { address, .. } = message;
    let to = destination(address);
    if !is_interrupt(message) || address & REMAPPABLE != 0 || to == BROADCAST {
        return None;
    }
    if address & LOGICAL == 0 { Some(to) } else { u8::try_from(to.checked_ilog2()?).ok() }
}

/// Whether there is nothing left to wait for.
pub(super) fn is_complete(wanted: &[(u16, Wanted)], seen: &BTreeSet<Arrival>) -> bool {
    wanted.iter().all(|(_, wanted)| wanted.has_arrived(seen))
}

/// Sets what a step's messages should have led to, by vector of the device, against what it has.
pub(super) fn compare(wanted: &[(u16, Wanted)], seen: &BTreeSet<Arrival>) -> DeliveryOutcome {
    let mut outcome = DeliveryOutcome::default();
    let mut unexpected = seen.clone();
    for (vector, wanted) in wanted {
        if *wanted == Wanted::Unseen {
            outcome.not_compared += 1;
            continue;
        }
        outcome.expected += 1;
        wanted.arrivals().iter().for_each(|arrival| _ = unexpected.remove(arrival));
        if wanted.has_arrived(seen) {
            outcome.delivered += 1;
        } else {
            let expected = wanted.arrivals().iter().map(Arrival::to_string);
            let joint = if matches!(wanted, Wanted::One(_)) { " or " } else { " and " };
            outcome.differences.push(DeliveryDifference {
                vector: Some(*vector),
                expected: expected.collect::<Vec<_>>().join(joint),
                got: listed(wanted.arrivals().iter().filter(|arrival| seen.contains(arrival))),
            });
        }
    }
    if outcome.not_compared == 0 && !unexpected.is_empty() {
        let [expected, got] = ["no more".to_owned(), listed(&unexpected)];
        outcome.differences.push(DeliveryDifference { vector: None, expected, got });
    }
    outcome
}

fn listed<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>) -> String {
    let all: Vec<String> = arrivals.into_iter().map(Arrival::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" and ") }
}

const fn is_interrupt(message: Message) -> bool {
    message.address >> 20 == 0xfee
}

const fn destination(address: u64) -> u8 {
    (address >> 12 & 0xff) as u8
}

const BROADCAST: u8 = 0xff;
const LOGICAL: u64 = 1 << 2;
const REDIRECTION_HINT: u64 = 1 << 3;
const REMAPPABLE: u64 = 1 << 4;
/// Delivery mode; 0 is fixed.
const LOWEST_PRIORITY: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(vcpu: u8, vector: u8) -> Arrival {
        Arrival::Interrupt { vcpu, vector }
    }

    fn wanted(address: u64, data: u32) -> Wanted {
        Wanted::of(Message { address, data }, 3)
    }

    #[test]
    fn c11_a_message_goes_where_its_bits_say() {
        let cases = [
            (0xfee0_1000, 0x41, Wanted::All(vec![at(1, 0x41)])),
            (0xfee0_2004, 0x41, Wanted::All(vec![at(1, 0x41)])),
            (0xfee0_5004, 0xc041, Wanted::All(vec![at(0, 0x41), at(2, 0x41)])),
            (0xfee0_5004, 0x141, Wanted::One(vec![at(0, 0x41), at(2, 0x41)])),
            (0xfee0_500c, 0x41, Wanted::One(vec![at(0, 0x41), at(2, 0x41)])),
            (0xfeef_f000, 0x41, Wanted::All(vec![at(0, 0x41), at(1, 0x41), at(2, 0x41)])),
            (0xfee0_9000, 0x41, Wanted::All(vec![])),
            (0xfee0_0004, 0x41, Wanted::All(vec![])),
            (0xfee0_1000, 0x441, Wanted::Unseen),
            (0xfee0_1010, 0x41, Wanted::Unseen),
            (0x1000, 7, Wanted::All(vec![Arrival::Write { address: 0x1000, data: 7 }])),
        ];
        for (address, data, expected) in cases {
            assert_eq!(wanted(address, data), expected, "{data:#x} to {address:#x}");
        }
    }

    #[test]
    fn the_machine_grows_to_the_highest_processor_that_a_message_names() {
        let highest = |address| highest_target(Message { address, data: 0x41 });
        assert_eq!(highest(0xfee0_3000), Some(3));
        assert_eq!(highest(0xfeef_e000), Some(254));
        assert_eq!(highest(0xfee8_1004), Some(7), "logical");
        assert_eq!(highest(0xfee0_0004), None, "nobody");
        assert_eq!(highest(0xfeef_f000), None, "everybody there is");
        assert_eq!(highest(0x3000), None, "memory");
    }

    #[test]
    fn what_arrives_elsewhere_twice_or_not_at_all_is_a_difference() {
        let one = [(5, wanted(0xfee0_1000, 0x41))];
        let shown = |wanted: &[(u16, Wanted)], seen: &[Arrival]| {
            let seen = seen.iter().copied().collect();
            let outcome = compare(wanted, &seen);
            assert_eq!(is_complete(wanted, &seen), outcome.delivered == outcome.expected);
            let text = |d: DeliveryDifference| format!("{:?}: {}, {}", d.vector, d.expected, d.got);
            outcome.differences.into_iter().map(text).collect::<Vec<_>>()
        };
        let missing = "Some(5): interrupt 0x41 at APIC 1, none";
        assert_eq!(shown(&one, &[at(1, 0x41)]), [""; 0]);
        assert_eq!(shown(&one, &[]), [missing]);
        let other = "None: no more, interrupt 0x42 at APIC 1";
        assert_eq!(shown(&one, &[at(1, 0x42)]), [missing, other]);
        assert_eq!(shown(&one, &[at(1, 0x41), at(1, 0x42)]), [other]);
        assert_eq!(shown(&[], &[at(1, 0x42)]), [other], "masked");
        assert_eq!(shown(&[(5, Wanted::Unseen)], &[at(1, 0x42)]), [""; 0]);

        let both = "interrupt 0x41 at APIC 0 and interrupt 0x41 at APIC 2";
        let all = [(0, wanted(0xfee0_5004, 0x41))];
        assert_eq!(
            shown(&all, &[at(0, 0x41)]),
            [format!("Some(0): {both}, interrupt 0x41 at APIC 0")]
        );
        let any = [(0, wanted(0xfee0_5004, 0x141))];
        assert_eq!(shown(&any, &[at(2, 0x41)]), [""; 0]);
        assert_eq!(shown(&any, &[]), [format!("Some(0): {}, none", both.replace("and", "or"))]);
    }
}
