//! The engine as subjects of the conformance suite (`msix_conformance`): on a host that the suite can ask, and,
//! with feature `kvm`, MSI-X alone and the whole function on a real KVM of any processor, which a [`Machine`]
//! brings.

mod engine;
#[cfg(feature = "kvm")]
mod kvm;
mod model_host;
mod suite_host;

pub use engine::{EngineSubject, name_of, vector_of};
#[cfg(feature = "kvm")]
pub use kvm::{Fault, KvmFunctionSubject, KvmSubject, Machine};
pub use model_host::{EventPath, ModelHost};
pub use suite_host::SuiteHost;

use msix_core::{BarIndex, Layout, Policy};

/// The name of a policy in the names of subjects.
#[must_use]
pub fn policy_name(policy: &Policy) -> &'static str {
    match *policy {
        Policy::SPEC => "SPEC",
        Policy::QEMU => "QEMU",
        _ => "another policy",
    }
}

/// The engine's layout for `vectors` vectors (1 to 2048).
///
/// # Panics
/// Outside that range.
#[must_use]
pub fn layout(vectors: u16) -> Layout {
    let bar = BarIndex::new(0).expect("BAR 0 exists");
    Layout::exclusive_bar(u32::from(vectors), bar).expect("1 to 2048 vectors")
}
