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

/// Returns everything in this project that has an adapter, except QEMU.
#[must_use]
pub fn function_subjects() -> Vec<Box<dyn FunctionSubject>> {
    vec![
        Box::new(EngineFunctionSubject::new(Policy::SPEC)),
        Box::new(EngineFunctionSubject::new(Policy::QEMU)),
        Box::new(NaiveFunctionSubject::new(Policy::SPEC)),
        Box::new(NaiveFunctionSubject::new(Policy::QEMU)),
    ]
}

/// What QEMU, and with it `Policy::QEMU`, fails.
pub const FUNCTION_DEVIATIONS: &[Deviation] = &[Deviation {
    irqfd_only: false,
    case: "L06",
    rule: "H27",
    why: "the level is forgotten where MSI is enabled, and the device must raise it again",
}];

/// Returns the deviations to expect of a subject with that name.
pub fn function_deviations(subject: &str) -> impl Iterator<Item = &'static Deviation> {
    let as_qemu = subject.starts_with("QEMU ") || subject.ends_with(", QEMU");
    FUNCTION_DEVIATIONS.iter().filter(move |_| as_qemu)
}
