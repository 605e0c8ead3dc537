//! A world around the real function on KVM, and a judge of all that it does.
//!
//! The subject is [`kvm::Function`](msix_backends::kvm::Function) as an embedder has it: the engine, the
//! backend, [`Routes`](msix_backends::kvm::Routes), the real planners of VFIO
//! ([`DeviceMsix`](msix_backends::vfio::DeviceMsix), [`DeviceMsi`](msix_backends::vfio::DeviceMsi)), real
//! eventfds and the real loop. It is reached through its public interface alone, which is why the world
//! is a crate here and no module of the backends: tests and fuzz targets share one alphabet, and nobody
//! can look inside.
//!
//! # What is modelled
//! - The kernel: routes, irqfds, resampling irqfds and messages, and what it refuses (K1, K2, K4 to K12).
//!   An eventfd that is readable when it is assigned is injected and stays readable (K7). With a split
//!   irqchip it has no pins, keeps the routes of the I/O APIC in userspace, and refuses to resample.
//! - A device behind VFIO's three indices, one at a time, with its own pending bits, an automasked line
//!   and a host that may have too few vectors, or that cannot bind more than at first (D1 to D8, D12, D16).
//! - Others who write eventfds: the function's, or their own, connected at the start or at any later time.
//!   What such an eventfd holds is nobody's before it is connected.
//! - The guest's interrupt controllers: messages that arrived, and the pin.
//! - Who acts: [`Input`], in any order. [`Setup`] says which function it is and what it can get.
//!
//! # What is judged
//! After every input, against registers that are bytes with masks, under the strict policy:
//! - A message is sent for an event that was fired, by a vector that may send, as its registers are now,
//!   half written or not.
//! - An event is delivered, or held by the engine, an eventfd or the device. Pending bits say so. The
//!   loop delivers what can be delivered. What a reset, a withdrawal or the last unclaim drops does not
//!   come back.
//! - All registers read as the naive ones; Interrupt Status is whether the device asserts (A17).
//! - The index of the guest's mode is active, and what the guest is to get is bound (D2, D7, H11).
//! - The pin is high while it should be, and no longer (A10, A17).
//! - Between a load and its resume nobody is told anything (H15).
//!
//! At the end of every history ([`World::close`]) the loop runs, the guest stops writing and the next event
//! goes to what the registers say; a load is resumed; every mode is opened and used; the function goes, and
//! leaves no irqfd, GSI, active index or high pin.
//!
//! One message may stand for several events (A12), so the judge knows for every device vector how many
//! messages may still come and whether one must. Where a load replaces what was pending, and where both
//! capabilities exist and an eventfd is in either's hands, it allows both answers.
//!
//! # What is folded
//! [`search`] takes two histories for one state when all is equal that can be observed: the engine but for
//! its totals, what kernel and device were told, what eventfds hold, the levels, and what the judge knows.
//! It goes on from a state as it comes there, and counts the states to which the shortest way does not lead
//! as well (`unlike`): they show what observing does not.
//! - What the backend keeps to itself is not compared: which mode has what eventfds hold, what waits for
//!   the loop, and the plans. Random histories do not fold.
//! - The snapshot that was taken is no part of a state, for only a load uses it. Each snapshot that any
//!   history can take is loaded, here and in a new process, as if another function had taken it. So all
//!   loads of one function are tried, and more.
//! - Loads are tried in one state of those that differ only in what a load replaces: registers, what is
//!   pending in the engine, and claims. The engine's own models and exploration show that a load replaces
//!   all of these. What the host was told, what eventfds hold and what is owed tell two states apart.
//! - A state is brought to its end up to where another one was in the same state, at the same place.

mod closing;
mod construct;
mod controller;
mod defect;
mod device;
mod events;
mod graph;
mod history;
mod input;
mod judge;
mod kernel;
mod ledger;
mod messages;
mod naive;
mod observable;
mod outside;
mod platform;
mod reads;
mod search;
mod setup;
mod world;
mod writes;

pub use defect::Defect;
pub use history::{Counterexample, Step, play, play_steps};
pub use input::{Call, Input};
pub use search::{Bounds, Searched, search};
pub use setup::{Behind, MsiShape, Producers, Setup};
pub use world::{Violation, World};
