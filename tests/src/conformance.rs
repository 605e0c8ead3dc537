//! This project's subjects of the conformance suite (`msix_conformance`), and where they knowingly
//! deviate.
//!
//! ```
//! use msix_conformance::{Verdict, case, judge};
//! use msix_core::Policy;
//! use msix_tests::conformance::{EngineSubject, EventPath};
//!
//! let engine = EngineSubject::new(Policy::SPEC, EventPath::Userspace);
//! let c13 = case("C13").unwrap();
//! assert!(matches!(judge(&engine, c13), Verdict::Passed { .. }));
//! ```

mod c_program;
mod function;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod kvm;
mod naive;
pub mod qemu;
pub mod recorded_stream;
mod subjects;

pub use c_program::{CSubject, EffectPath};
pub use function::{
    EduSubject, EngineFunctionSubject, FUNCTION_DEVIATIONS, NaiveFunctionSubject,
    function_deviations, function_subjects,
};
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub use kvm::{function_on_kvm, msix_on_kvm};
pub use msix_subjects::{EngineSubject, EventPath};
pub use naive::NaiveSubject;
pub use qemu::QemuSubject;
pub use subjects::{ALONE_DEVIATIONS, Deviation, deviations, subjects};
