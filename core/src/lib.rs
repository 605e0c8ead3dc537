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
//! [`Msix`] holds the capability's control bits, the table, the pending-bit array, the use counts
//! and what the host has been told. *Inputs* (guest accesses, device events, answers of the host)
//! change registers and facts; then one function compares what should hold with what the host was
//! told and emits the difference as a bounded list of [`Effect`]s. The engine does no I/O, does
//! not allocate, and no input, however malformed, makes it panic.
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
//! msix.attach(&mut fx)?; // a backend listens
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
//! [`Function`] holds what a function has of the three, switches between them as the guest's
//! registers say, and emits for each switch first what leaves the old mode.
//!
//! # Carry a list out before the next input
//! An input refuses ([`NotCarriedOut`]) a list that still holds effects, and changes nothing: an
//! effect cannot be overwritten or overflow, it can only be late. Every input is `#[must_use]`.
//!
//! # Who is wrong
//! A *guest* that does something undefined is never an error: the access is ignored or answered
//! as the [`Policy`] says and [`Access`] tells the embedder. A *caller* that names a vector
//! outside the table gets a typed error and an unchanged state. What the *host* could not do
//! comes back through [`Msix::report_failed`].
//!
//! # Panics and bounds
//! Nothing here panics in a release build; in debug builds the invariants I1 to I6 are asserted
//! after every input. One-vector inputs emit at most 4 effects, all others at most
//! `2 + 3 * ceil(N / 64)`, which is [`Storage::MAX_EFFECTS`] and at most [`MAX_EFFECTS`]. MSI emits at
//! most 5, a pin 4, and a function what its parts do.
//!
//! Rules cited as `A7` or `H4` are in `RULES.md` beside this crate's manifest.

#[cfg(feature = "alloc")]
extern crate alloc;
// `derive(Arbitrary)` on an enum names `std::` paths.
#[cfg(all(feature = "arbitrary", not(test)))]
extern crate std;

mod counters;
mod effects;
mod facts;
mod function;
mod intx;
mod kernel;
mod layout;
mod msi;
mod msix;
mod policy;
mod snapshot;
mod span;
pub mod spec;
mod storage;
mod switch;
#[cfg(test)]
mod testing;
mod vectors;

pub use counters::Counters;
pub use effects::{Effect, EffectSink, Effects, MAX_EFFECTS, NotCarriedOut};
pub use function::{
    Function, FunctionCounters, FunctionEffect, FunctionEffects, FunctionOperation,
    MAX_FUNCTION_EFFECTS, Mode, Parts,
};
pub use intx::{Intx, IntxEffect, IntxSource};
pub use layout::{BarIndex, Layout, LayoutError, Location, Region};
pub use msi::{Msi, MsiCapability, MsiCapabilityError};
#[cfg(feature = "alloc")]
pub use msix::Snapshot;
pub use msix::{
    Access, Answer, Control, Delivery, DropReason, Entry, Message, Msix, NewError, Operation,
    VectorError, Violation,
};
pub use policy::{
    BusMasterOff, ClaimsOnReset, IntxRule, LiveRewrite, MessageAddress, MessageEnable,
    PendingOnDisable, Policy, TableAccess, UnclaimedPending, VectorControlBits, WhileDisabled,
};
pub use snapshot::{LoadError, SaveError};
#[cfg(feature = "alloc")]
pub use storage::Boxed;
pub use storage::{Borrowed, Inline, Storage, StorageError};
pub use vectors::{Vector, Vectors, Word};
