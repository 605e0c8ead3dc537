#![cfg_attr(docsrs, feature(doc_cfg))]
//! Replays recorded guests through the MSI-X engine, and compares.
//!
//! QEMU can log what a guest does to its devices and what the devices do. [`replay::replay`] takes
//! such a log, finds every PCI function in it that has an MSI-X table, feeds the engine of
//! [`msix_core`] the same configuration writes, table writes and events, and compares what the
//! guest read and which messages were really sent. What the log cannot decide is counted as
//! undecided, never as agreement.
//!
//! ```
//! use msix_sim::replay::{Peer, replay_bytes};
//!
//! let report = replay_bytes(msix_sim::RECORDING, Peer::Qemu)?;
//! assert_eq!(report.mismatches, 0, "{:?}", report.mismatch_list);
//! assert_eq!(report.devices.len(), 5);
//! # Ok::<(), msix_sim::replay::Unusable>(())
//! ```
//!
//! The steps: [`msix_peers::trace`] reads the log, a first pass finds functions, tables and sizes, a
//! second one compares ([`replay`]); [`report`] and [`timeline`] show what came of it.
//! [`doctor`] says what this machine can test. The program is [`cli`].

pub mod cli;
#[cfg(feature = "kvm")]
pub mod demo;
pub mod diff;
pub mod doctor;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub mod lapic;
mod plural;
mod printable;
#[cfg(feature = "kvm")]
pub mod qtest;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub mod real_mode;
pub mod replay;
pub mod report;
pub mod report_table;
pub mod timeline;

/// QEMU's trace log of a Linux 6.1 guest on a q35 machine with nvme, virtio-blk, virtio-net,
/// e1000e and xhci: boot, affinity changes, CPU off and on, driver unbind and bind, suspend.
pub const RECORDING: &[u8] = include_bytes!("../data/linux-6.1-q35.log");
