#![cfg_attr(docsrs, feature(doc_cfg))]
//! Visits every reachable state of the engine together with its environment, nearest first, and checks
//! what must hold in each state and of each step.
//!
//! - [`explore_msix`] explores MSI-X alone, with 1 to [`MAX_EXPLORED`] vectors. The environment is a host
//!   that can fail any Arm, hold events of vectors it does not deliver, and answer late; a guest that
//!   writes every register bit; a device; and a platform that attaches, detaches, saves, loads, resumes
//!   and resets at any point. Every [`Property`] is checked. A violation comes with the shortest
//!   [`script`] that shows it.
//! - [`explore_function`] explores a whole function, with INTx, MSI and MSI-X, and the switching between
//!   them, in a smaller environment.
//!
//! Either can put a seeded defect into the engine: a search that finds none of them would mean nothing.
//!
//! # The environment of MSI-X
//! Every dword of a message has two values that differ in every bit. A vector is claimed at most twice.
//! The host's events of one vector are one, as in an eventfd (K8). A load is of the engine's own
//! snapshot, in either encoding, or of one of three that another engine saved. Broken snapshots, accesses
//! of other widths and vectors that do not exist are tried in every state. The host reports a failed Arm
//! at any later time, but not after the Disarm of that Arm.
//!
//! # Which states are one
//! States that differ only in the values of their messages are one, as long as the host knows the same
//! of them. With [`MsixOptions::symmetry`], so are states that differ only in the order of their vectors.
//! This is sound if states with one key have successors with the same keys, which is tested on random
//! walks.
//!
//! # Features
//! `stateright` offers the same states as a model of [Stateright](https://www.stateright.rs): a second
//! checker, and a web page to walk through them. `clap` makes [`Peer`] and the defects arguments of a
//! program.
//!
//! ```
//! use msix_explorer::{MsixOptions, explore_msix};
//!
//! let mut options = MsixOptions::default();
//! options.max_states = 1000;
//! let outcome = explore_msix(&options, |_| ())?;
//! assert!(outcome.violation.is_none());
//! # Ok::<(), msix_explorer::Unexplorable>(())
//! ```

mod function;
mod msix;
mod peer;
pub mod script;
mod search;

pub use function::{
    FunctionDefect, FunctionOptions, FunctionOutcome, FunctionViolation, explore_function,
};
pub use msix::{
    MAX_EXPLORED, MsixDefect, MsixOptions, MsixOutcome, MsixViolation, Property, Unexplorable,
    explore_msix, placed,
};
#[cfg(feature = "stateright")]
pub use msix::{check_with_stateright, serve_with_stateright};
pub use peer::Peer;
pub use search::{Extent, Reached};
