//! The subjects of this project, and where they knowingly deviate.

use super::naive::NaiveSubject;
use msix_conformance::Subject;
use msix_core::Policy;
use msix_subjects::{EngineSubject, EventPath};

/// Returns the engine and the reference model, under both policies and with both paths of events.
#[must_use]
pub fn subjects() -> Vec<Box<dyn Subject>> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for policy in [Policy::SPEC, Policy::QEMU] {
        for path in [EventPath::Userspace, EventPath::Irqfd] {
            subjects.push(Box::new(EngineSubject::new(policy, path)));
        }
    }
    for policy in [Policy::SPEC, Policy::QEMU] {
        for path in [EventPath::Userspace, EventPath::Irqfd] {
            subjects.push(Box::new(NaiveSubject::new(policy, path)));
        }
    }
    subjects
}

/// A case that a policy fails on purpose, because what it imitates fails it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// The case.
    pub case: &'static str,
    /// Only with a host that delivers by itself.
    pub irqfd_only: bool,
    /// The rule that describes it.
    pub rule: &'static str,
    /// What is different.
    pub why: &'static str,
}

/// The cases that [`Policy::QEMU`] fails, as QEMU does.
const QEMU: &[Deviation] = &[
    Deviation {
        case: "C01",
        irqfd_only: true,
        rule: "E8",
        why: "an eventfd's counter outlives a reset",
    },
    Deviation {
        case: "C22",
        irqfd_only: true,
        rule: "H13",
        why: "a withdrawal does not reach the event that an eventfd holds",
    },
    Deviation {
        case: "C24",
        irqfd_only: true,
        rule: "E8",
        why: "an eventfd's counter outlives the last claim, as it outlives a reset",
    },
    Deviation {
        case: "C26",
        irqfd_only: true,
        rule: "H16",
        why: "delivery by irqfd ignores bus master",
    },
    Deviation {
        case: "C43",
        irqfd_only: false,
        rule: "H15",
        why: "PBA bits past the last vector are ignored, not refused",
    },
    Deviation {
        case: "C46",
        irqfd_only: false,
        rule: "H17",
        why: "INTx is deasserted at every control write while enabled, and not re-evaluated",
    },
    Deviation {
        case: "C50",
        irqfd_only: false,
        rule: "H17",
        why: "INTx is not re-evaluated, at a restore either",
    },
];

/// The cases that MSI-X alone fails under [`Policy::SPEC`] when it drives a host that delivers by itself,
/// such as KVM. The whole function on KVM fails none, and without such a host neither does MSI-X alone.
pub const ALONE_DEVIATIONS: &[Deviation] = &[Deviation {
    case: "C49",
    irqfd_only: true,
    rule: "H4",
    why: "a rewrite is told when it is complete: until then the host has the message from before. \
          The function on KVM takes the vector back meanwhile",
}];

/// Returns the deviations to expect of a subject with that name.
pub fn deviations(subject: &str) -> impl Iterator<Item = &'static Deviation> {
    let on_kvm = subject.ends_with(", KVM") && !subject.starts_with("function");
    let (qemu, irqfd) = (subject.contains(", QEMU, "), subject.contains("irqfd"));
    let imitated = QEMU.iter().filter(move |deviation| qemu && (irqfd || !deviation.irqfd_only));
    let alone = ALONE_DEVIATIONS.iter().filter(move |_| irqfd && !qemu || on_kvm);
    let real = subject.starts_with("QEMU ");
    imitated.chain(alone).chain(super::qemu::DEVIATIONS.iter().filter(move |_| real))
}
