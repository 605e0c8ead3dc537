#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::multiple_unsafe_ops_per_block,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used
)]
#![expect(
    unsafe_code,
    reason = "it exports symbols and takes pointers; every block is in `raw`, which a test checks"
)]
#![expect(
    clippy::missing_safety_doc,
    reason = "what a caller owes is the same for all functions and is said once, at the top of the header"
)]
//! The C interface: [`msix_core::Msix`] in memory of the caller.
//!
//! It is meant to be used from C and C++: `include/msix.h` says everything that a caller must know, and the
//! README how to build and link it. This page is for who maintains it.
//!
//! - Every function is `unsafe`, for what the top of the header asks of a caller: a pointer is null,
//!   misaligned, or good for what the function says. Null and misaligned ones are answered with an error.
//! - All `unsafe` blocks are in the module `raw`, small conversions that check what can be checked.
//! - Nothing is allocated for an engine. Its state, its list and its vectors lie in the caller's memory.
//! - A panic cannot unwind into C: a function that is `extern "C"` ends the process instead. No input of
//!   the engine panics; the abort is for a defect, after which nothing here can be trusted.
//! - C may pass any value for an enum, so each is taken as an integer and checked.
//! - A callback may call back in. No borrow of the state lives during a callback, and an input is refused
//!   there, because the effects of the present one must come first.

#[cfg(any(test, feature = "std"))]
extern crate std;

mod carry_out;
mod config;
mod counters;
mod device;
mod effects;
mod engine;
mod error;
mod guest;
#[cfg(feature = "kvm")]
mod kvm;
mod layout;
mod platform;
mod policy;
mod query;
mod raw;
mod version;

pub use config::*;
pub use counters::*;
pub use device::*;
pub use effects::*;
pub use engine::CEngine;
pub use error::{CError, msix_strerror};
pub use guest::*;
#[cfg(feature = "kvm")]
pub use kvm::*;
pub use layout::*;
pub use platform::*;
pub use policy::*;
pub use query::*;
pub use version::*;
