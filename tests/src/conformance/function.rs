//! Whole functions as subjects: the engine, its naive model, and QEMU's `edu` device.

mod edu;
mod engine;
mod naive;

pub use edu::EduSubject;
pub use engine::EngineFunctionSubject;
pub use naive::NaiveFunctionSubject;

use super::subjects::Deviation;
use msix_conformance::FunctionSubject;
use msix_core::Policy;
use msix_subjects::EventPath;

/// Returns everything in this project that has an adapter, except QEMU.
#[must_use]
pub fn function_subjects() -> Vec<Box<dyn FunctionSubject>> {
    let mut subjects: Vec<Box<dyn FunctionSubject>> = Vec::new();
    for policy in [Policy::SPEC, Policy::QEMU] {
        for path in [EventPath::Userspace, EventPath::Irqfd] {
            subjects.push(Box::new(EngineFunctionSubject::new(policy, path)));
            subjects.push(Box::new(NaiveFunctionSubject::new(policy, path)));
        }
    }
    subjects
}

/// What the function fails when it drives a host of irqfds and nobody helps, as MSI-X alone does.
const ALONE: Deviation = Deviation {
    case: "M17",
    irqfd_only: true,
    rule: "H4",
    why: "a rewrite is told when it is complete: until then the host has the message from before. \
          The function on KVM takes the vector back meanwhile",
};

/// What QEMU, and with it `Policy::QEMU`, fails.
pub const FUNCTION_DEVIATIONS: &[Deviation] = &[
    Deviation {
        irqfd_only: false,
        case: "L06",
        rule: "H27",
        why: "the level is forgotten where MSI is enabled, and the device must raise it again",
    },
    Deviation {
        irqfd_only: true,
        case: "M11",
        rule: "H13",
        why: "a withdrawal does not reach the event that an eventfd holds",
    },
    Deviation {
        irqfd_only: true,
        case: "M14",
        rule: "H16",
        why: "delivery by irqfd ignores bus master",
    },
    Deviation {
        irqfd_only: true,
        case: "M16",
        rule: "E8",
        why: "an eventfd's counter outlives a reset",
    },
];

/// Returns the deviations to expect of a subject with that name.
pub fn function_deviations(subject: &str) -> impl Iterator<Item = &'static Deviation> {
    let as_qemu = subject.starts_with("QEMU ") || subject.contains(", QEMU,");
    let irqfd = subject.contains("irqfd");
    let qemus = FUNCTION_DEVIATIONS.iter().filter(move |d| as_qemu && (irqfd || !d.irqfd_only));
    qemus.chain([&ALONE].into_iter().filter(move |_| irqfd && !as_qemu))
}
