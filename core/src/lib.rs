#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core,
    clippy::alloc_instead_of_core,
    clippy::host_endian_bytes
)]
#![cfg_attr(
    test,
    expect(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic: that is how it fails"
    )
)]
//! The interrupt side of a PCI function, MSI-X above all, as a pure state machine.
//!
//! [`Msix`] holds what a guest sees (control bits, table, pending bits), what the device claims,
//! and what the host was told. *Inputs* (guest accesses, device events, answers of the host)
//! change these; then the engine compares what is wanted with what the host was told, and emits
//! the difference as a bounded list of [`Effect`]s. It does no I/O and does not allocate, and no
//! input, however malformed, makes it panic.
//!
//! ```
//! use msix_core::{BarIndex, Effect, Effects, Inline, Layout, Message, Msix, Policy, Vector, Vectors};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let layout = Layout::exclusive_bar(4, BarIndex::new(1)?)?;
//! let mut msix = Msix::<Inline<4, 1>>::new(layout, Policy::SPEC)?;
//! let mut fx = Effects::<5>::new(); // the capacity is checked against the bound when compiling
//!
//! let v0 = Vector::new(0);
//! msix.claim(v0, &mut fx)?; // the device will raise vector 0
//! msix.attach(&mut fx)?; // a backend is there
//! msix.write_config(2, &[0x00, 0x80], &mut fx)?; // the guest sets MSI-X Enable:
//! assert_eq!(fx.take(), Some(Effect::IntxDeassert)); // INTx is prohibited now
//! msix.write_table(0x0, &0xfee0_1000_u32.to_le_bytes(), &mut fx)?; // it programs the entry
//! msix.write_table(0x8, &0x23_u32.to_le_bytes(), &mut fx)?;
//! assert!(fx.is_empty());
//! msix.write_table(0xc, &0_u32.to_le_bytes(), &mut fx)?; // and unmasks it:
//! assert_eq!(fx.take(), Some(Effect::Arm(Vectors::one(v0)))); // route and arm it
//! msix.notify(v0, &mut fx)?; // the device has an event:
//! assert_eq!(fx.take(), Some(Effect::Send(Vectors::one(v0)))); // deliver its message
//! assert_eq!(msix.message(v0), Some(Message { address: 0xfee0_1000, data: 0x23 }));
//! # Ok(())
//! # }
//! ```
//!
//! # The whole function
//! [`Msi`] is the same for the MSI capability, with the same effects, and [`Intx`] for the pin.
//! [`Function`] holds those that a function has, switches between them as the guest's registers
//! say, and emits for each switch first what leaves the old mode.
//!
//! # Words
//! - **claim**, **unclaim**: the device says that it will raise a vector, or no longer will.
//!   Claims are counted; an event of a vector without a claim is dropped.
//! - **deliverable**: a message of the vector would be sent at once. MSI-X is enabled, no mask is
//!   set, bus master is on if the [`Policy`] asks for it, and no load waits for its resume.
//! - **pending**: an event waits for its vector to become deliverable. The guest reads this bit in
//!   the pending-bit array (PBA).
//! - **send**: the engine asks for one message of a vector, to be delivered now by the embedder.
//! - **arm**, **disarm**: the engine asks the host to deliver a vector's events by itself, for
//!   instance through an irqfd, and to stop that.
//! - **live**: a vector between its Arm and its Disarm.
//! - **told**: what the host knows from the effects so far: which vectors are live, and with which
//!   message.
//! - **stale**: a live vector with a message that changed after the host was told it.
//! - **fallback**: a live vector that the host reported it cannot deliver. Its events come in as
//!   inputs and are sent, until its Disarm.
//! - **held**: an event that the host keeps for a vector that it does not deliver, such as the
//!   counter of an eventfd that nobody reads: a pending bit outside the engine.
//! - **poll**: ask the host which vectors have held events, and take them over as pending.
//! - **drain**: tell the host to throw held events away.
//! - **settle**: compare what is wanted with what was told, and emit the difference. Every input
//!   that can change either ends with it.
//!
//! # What always holds
//! For every policy, after every input. Debug builds assert I1 to I6; [`Msix::check`] asks for I1
//! and I2 at run time.
//!
//! - [I1](crate::rules#i1): what the host was told equals what is wanted. Arm and Disarm strictly
//!   alternate for each vector.
//! - [I2](crate::rules#i2): nothing stays pending that is deliverable and claimed.
//! - [I3](crate::rules#i3): Send is emitted only for a vector that is deliverable and claimed.
//! - [I4](crate::rules#i4): a pending bit is cleared only by an emitted Send, a withdrawal, a
//!   reset, the claim count reaching zero, or a policy that is named for it.
//! - [I5](crate::rules#i5): the kinds of effects stand in one order in every list: Disarm before
//!   Arm before Send.
//! - [I6](crate::rules#i6): a list is bounded: 4 effects for one vector, `2 + 3 * ceil(N / 64)`
//!   for any other input. The type of the storage knows it ([`Storage::MAX_EFFECTS`]).
//! - [I7](crate::rules#i7): no input panics, allocates, or changes more than its own bytes.
//!
//! And for the engine together with a host that carries its lists out:
//!
//! - What the host was told differs from the registers for a bounded time only: until the list of
//!   the input is carried out. When a guest rewrites the message of a live vector, which PCI leaves
//!   undefined ([A9](crate::rules#a9)), [`Policy::live_rewrite`] decides whether the host is told
//!   ([H4](crate::rules#h4)).
//! - Between a load and its resume nothing is armed, rerouted or sent; a detach or a reset still
//!   takes away what the host has ([H15](crate::rules#h15)).
//! - Every event is delivered, pending, or counted with the reason why not ([`Counters`]).
//!
//! # Claim what the device raises
//! Call [`Msix::claim`] for each vector once, when the device is made; under either policy a reset leaves
//! the claims alone. An event of a vector without a claim is dropped: no message, no pending bit, and
//! a guest that waits for ever. While you write a device, look at the answer of [`Msix::notify`]:
//!
//! ```
//! # use msix_core::{BarIndex, Delivery, DropReason, Effects, Layout, Msix, Policy, Vector};
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! # let layout = Layout::exclusive_bar(4, BarIndex::new(1)?)?;
//! # let mut msix = Msix::<msix_core::Inline<4, 1>>::new(layout, Policy::SPEC)?;
//! # let mut fx = Effects::<5>::new();
//! let delivery = msix.notify(Vector::new(3), &mut fx)?; // which was not claimed
//! assert_eq!(delivery, Delivery::Dropped(DropReason::Unclaimed));
//! # Ok(())
//! # }
//! ```
//!
//! Events that a backend holds in eventfds have nobody to tell: they are counted in
//! [`Counters::dropped_unclaimed`].
//!
//! # Carry a list out before the next input
//! An input refuses ([`NotCarriedOut`]) a list that still holds effects, and changes nothing: an
//! effect cannot be overwritten or overflow, it can only be late. Every input is `#[must_use]`.
//!
//! # Who is wrong
//! A *guest* that does something undefined is never an error: the access is ignored or answered as
//! the [`Policy`] says, and [`Access`] tells the embedder. A *caller* that names a vector outside
//! the table gets a typed error and an unchanged state. What the *host* could not do comes back
//! through [`Msix::report_failed`].
//!
//! # Who is trusted
//! The embedder alone: its layouts, policies and host. Guest accesses and snapshots may be anything; a
//! snapshot's checksum is against accidents, so whoever can write one decides the registers.
//!
//! # Panics and bounds
//! Nothing here panics in a release build. The bound of I6 is at most [`MAX_EFFECTS`] for MSI-X,
//! [`Msi::MAX_EFFECTS`] for MSI, [`Intx::MAX_EFFECTS`] for a pin, and [`Function::MAX_EFFECTS`]
//! for a function: what its parts emit together.
//!
//! # Rules
//! Ids such as `A7` or `H4` stand for what PCI, guests, KVM, VFIO and QEMU do, and for the choices
//! made here. All of them are in [`rules`], each with how it is known.

#[cfg(feature = "alloc")]
extern crate alloc;
// `derive(Arbitrary)` on an enum names `std::` paths.
#[cfg(all(feature = "arbitrary", not(test)))]
extern crate std;

mod checksum;
mod counters;
mod effects;
#[cfg(any(test, feature = "operations"))]
mod equality;
mod facts;
mod function;
#[cfg(any(test, feature = "operations"))]
mod inspect;
mod intx;
mod kernel;
mod layout;
mod msi;
mod msix;
#[cfg(feature = "operations")]
pub mod operation;
#[cfg(feature = "alloc")]
pub mod plain;
pub mod policy;
#[cfg(msix_prove)]
pub mod prove;
pub mod rules;
mod snapshot;
pub mod spec;
pub mod storage;
mod switch;
#[cfg(test)]
mod testing;
mod vector_range;
mod vectors;

pub use counters::Counters;
pub use effects::{Effect, EffectSink, Effects, MAX_EFFECTS, NotCarriedOut};
pub use function::{
    Function, FunctionCounters, FunctionEffect, FunctionEffects, MAX_FUNCTION_EFFECTS, Mode, Parts,
};
pub use intx::{Intx, IntxEffect, IntxSource};
pub use layout::{BarIndex, Layout, LayoutError, Location, Region};
pub use msi::{Msi, MsiCapability, MsiCapabilityError};
#[cfg(feature = "alloc")]
pub use msix::Snapshot;
pub use msix::{
    Access, Delivery, DropReason, Entry, Message, Msix, NewError, VectorError, Violation,
};
pub use policy::Policy;
pub use snapshot::{LoadError, SaveError};
#[cfg(feature = "alloc")]
pub use storage::Boxed;
pub use storage::{Borrowed, Inline, Storage, StorageError};
pub use vectors::{Vector, Vectors, Word};
