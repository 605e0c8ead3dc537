//! What holds the engine to its rules: a naive model of it, ways to run both side by side, and
//! generators of operation sequences.
//!
//! [`reference::Reference`] and [`strategy`] are those of `msix_conformance`: the engine once more, as simple
//! as possible, and operation sequences that look for a difference. [`lockstep::Lockstep`] runs engine and
//! model side by side and reports the first one. [`lone_engine::LoneEngine`]
//! is an engine alone, for properties that need no second opinion. [`whole_function`] does the same
//! for a function with INTx, MSI and MSI-X. [`conformance`] has the adapters that the conformance suite
//! (`msix_conformance`) judges. [`server_model`] holds the client of the ivshmem server protocol to its
//! rules. [`stock_guest`] and [`initramfs`] are what a machine with a stock kernel boots.

pub mod c_programs;
pub mod conformance;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub mod functions;
pub mod initramfs;
pub mod lockstep;
pub mod lone_engine;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub mod machine;
pub mod peers;
pub mod server_model;
pub mod stock_guest;
pub mod whole_function;

pub use msix_conformance::model::{self as reference, policies, vector_effects};
pub use msix_conformance::strategy;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
