//! The MSI-X engine: its facts, constructors and queries.

mod check;
mod config;
mod device;
pub(crate) mod entry;
mod exempt;
mod guest;
mod host;
mod message_control;
#[cfg(feature = "alloc")]
mod plain_snapshot;
mod settle;
mod snapshot;

pub use check::Violation;
pub use device::{Delivery, DropReason};
pub use entry::{Entry, Message};
pub use guest::Access;
use message_control::MessageControl;
#[cfg(feature = "alloc")]
pub use plain_snapshot::Snapshot;

pub(crate) use config::written_control;

use crate::counters::Counters;
use crate::effects::{Bounded, Effect, NotCarriedOut};
use crate::facts::{Fact, Facts};
use crate::layout::Layout;
use crate::policy::Policy;
use crate::storage::{Storage, sealed::Fresh};
use crate::vectors::{Vector, Word};
use core::fmt;

/// The MSI-X side of one PCI function, with its per-vector state in `S`. [I1](crate::rules#i1) to
/// [I7](crate::rules#i7) hold after every input; [`check`](Self::check) checks the first two.
///
/// Inputs come from four sides: guest accesses ([`write_config`](Self::write_config),
/// [`write_table`](Self::write_table), [`read_pba`](Self::read_pba), ...), the device
/// ([`notify`](Self::notify), [`withdraw`](Self::withdraw), [`claim`](Self::claim), ...), the
/// platform ([`set_bus_master`](Self::set_bus_master), [`reset`](Self::reset),
/// [`load`](Self::load), ...) and the host backend ([`attach`](Self::attach),
/// [`report_failed`](Self::report_failed), [`report_held`](Self::report_held), ...). The engine
/// never calls back.
///
/// A masked event waits in the pending-bit array, over a migration too:
///
/// ```
/// use msix_core::*;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let layout = Layout::exclusive_bar(4, BarIndex::new(0)?)?;
/// let mut source = Msix::<Inline<4, 1>>::new(layout, Policy::SPEC)?;
/// let mut fx = Effects::<5>::new();
/// let v2 = Vector::new(2);
/// source.claim(v2, &mut fx)?;
/// source.write_config(2, &[0x00, 0x80], &mut fx)?; // enabled, and all vectors still masked
/// assert_eq!(fx.take(), Some(Effect::IntxDeassert));
/// assert_eq!(source.notify(v2, &mut fx)?, Delivery::Pending);
/// let mut pba = [0; 8];
/// source.read_pba(0, &mut pba);
/// assert_eq!(pba, [0b100, 0, 0, 0, 0, 0, 0, 0]);
///
/// let mut bytes = [0; 256];
/// source.prepare_save(&mut fx)?; // takes in what an attached host holds
/// let len = source.save(&mut bytes)?;
///
/// let mut target = Msix::<Inline<4, 1>>::new(layout, Policy::SPEC)?;
/// target.load(&bytes[..len])?; // checked whole, or nothing changes
/// target.attach(&mut fx)?;
/// target.resume(&mut fx)?;
/// while let Some(effect) = fx.take() {
///     assert_eq!(effect, Effect::IntxDeassert); // nothing else: all vectors are masked
/// }
/// target.write_table(0x2c, &0_u32.to_le_bytes(), &mut fx)?; // the guest unmasks entry 2
/// assert_eq!(fx.take(), Some(Effect::Arm(Vectors::one(v2))));
/// assert_eq!(fx.take(), Some(Effect::Send(Vectors::one(v2))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Msix<S> {
    pub(crate) storage: S,
    pub(crate) layout: Layout,
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
    pub(crate) facts: Facts,
    pub(crate) next_capability: u8,
    /// Selects the messages that are exempt from masks (H25).
    pub(crate) exempt: Option<fn(Message) -> bool>,
    /// A load brought pending bits of vectors without a claim; no input makes any.
    pub(crate) orphans: bool,
}

impl<S: Clone> Clone for Msix<S> {
    fn clone(&self) -> Self {
        Self { storage: self.storage.clone(), ..*self }
    }

    /// Copies in place, where a derived one makes a copy first: the table may be large.
    fn clone_from(&mut self, source: &Self) {
        let &Self {
            ref storage,
            layout,
            policy,
            counters,
            facts,
            next_capability,
            exempt,
            orphans,
        } = source;
        self.storage.clone_from(storage);
        (self.layout, self.policy, self.counters, self.facts) = (layout, policy, counters, facts);
        (self.next_capability, self.exempt) = (next_capability, exempt);
        self.orphans = orphans;
    }
}

impl<S: Storage + Fresh> Msix<S> {
    /// Makes a function in its reset state (C01): disabled, all vectors masked, nothing pending, no
    /// claims, no backend attached, bus master on (change it with
    /// [`set_bus_master`](Self::set_bus_master)).
    ///
    /// # Errors
    /// [`NewError`] when `S` has no room for exactly the layout's vectors.
    pub fn new(layout: Layout, policy: Policy) -> Result<Self, NewError> {
        let storage = S::fresh(layout.vectors()).ok_or(NewError { layout: layout.vectors() })?;
        Ok(Self::assemble(storage, layout, policy))
    }
}

#[cfg(feature = "alloc")]
impl Msix<crate::Boxed> {
    /// Makes a function in its reset state, as [`Msix::new`] does, on the heap (feature `alloc`).
    #[must_use]
    pub fn boxed(layout: Layout, policy: Policy) -> Self {
        Self::assemble(crate::Boxed::of(layout.vectors()), layout, policy)
    }
}

impl<'a> Msix<crate::Borrowed<'a>> {
    /// Makes a function in its reset state, as [`Msix::new`] does, in lent memory.
    ///
    /// # Errors
    /// [`NewError`] when the memory is not for exactly the layout's vectors.
    pub fn with_storage(
        storage: crate::Borrowed<'a>,
        layout: Layout,
        policy: Policy,
    ) -> Result<Self, NewError> {
        use crate::storage::sealed::Sealed;
        if storage.memory().entries.len() == usize::from(layout.vectors()) {
            Ok(Self::assemble(storage, layout, policy))
        } else {
            Err(NewError { layout: layout.vectors() })
        }
    }
}

impl<S: Storage> Msix<S> {
    const fn assemble(storage: S, layout: Layout, policy: Policy) -> Self {
        Self {
            storage,
            layout,
            policy,
            counters: Counters::ZERO,
            facts: Facts::new(&policy),
            next_capability: 0,
            exempt: None,
            orphans: false,
        }
    }

    /// Returns the number of vectors, 1 to 2048.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.layout.vectors()
    }

    /// Returns the choices this function was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns Message Control as the guest reads it ([A1](crate::rules#a1)): bit 15 is MSI-X Enable,
    /// bit 14 Function Mask, and bits 10:0 are N - 1.
    #[must_use]
    pub const fn control(&self) -> u16 {
        let function_masked = self.facts.has(Fact::FUNCTION_MASKED);
        MessageControl::new(self.is_enabled(), function_masked).register(self.vectors())
    }

    /// Returns MSI-X Enable.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        !self.facts.has(Fact::DISABLED)
    }

    /// Returns the totals of events, messages, effects and failures.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the message that `vector` sends; `None` outside the table.
    #[must_use]
    pub fn message(&self, vector: Vector) -> Option<Message> {
        let entry = self.storage.memory().entries.get(vector.slot())?;
        Some(entry.message(self.policy.message_address))
    }

    /// Returns whether `vector` is pending in the PBA; `None` outside the table.
    #[must_use]
    pub fn is_pending(&self, vector: Vector) -> Option<bool> {
        Some(self.word_of(vector)?.pending.get() & vector.bit() != 0)
    }

    /// Returns how many claims `vector` has; `None` outside the table.
    #[must_use]
    pub fn claims(&self, vector: Vector) -> Option<u16> {
        self.storage.memory().claims.get(vector.slot()).copied()
    }

    /// Returns whether any vector is live.
    pub(crate) fn has_live(&self) -> bool {
        self.storage.memory().words.iter().any(|word| word.live.get() != 0)
    }

    #[inline]
    pub(crate) fn word_of(&self, vector: Vector) -> Option<&Word> {
        let memory = self.storage.memory();
        memory.words.get(vector.word()).filter(|_| vector.slot() < memory.entries.len())
    }

    /// Returns the vector, if it is in the table.
    pub(crate) fn checked(&self, vector: Vector) -> Result<Vector, VectorError> {
        if vector.index() < self.vectors() { Ok(vector) } else { Err(self.out_of_range(vector)) }
    }

    #[cold]
    pub(crate) fn out_of_range(&self, vector: Vector) -> VectorError {
        VectorError::OutOfRange { vector, vectors: self.vectors() }
    }
}

impl<S: Storage> Bounded<Effect> for Msix<S> {
    const MAX_EFFECTS: usize = S::MAX_EFFECTS;
}

/// The storage does not have room for exactly the layout's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewError {
    /// Vectors of the layout.
    pub layout: u16,
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the storage does not fit the layout's {} vectors", self.layout)
    }
}

impl core::error::Error for NewError {}

/// Why an input about one vector was refused. The state is as it was ([I7](crate::rules#i7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorError {
    /// There is no such vector (C25).
    OutOfRange {
        /// The vector named.
        vector: Vector,
        /// How many there are.
        vectors: u16,
    },
    /// The vector has 65535 claims already (H9).
    TooManyClaims {
        /// The vector named.
        vector: Vector,
    },
    /// The list still holds effects of an earlier input: see [`NotCarriedOut`].
    NotCarriedOut,
}

impl From<NotCarriedOut> for VectorError {
    fn from(_: NotCarriedOut) -> Self {
        Self::NotCarriedOut
    }
}

impl fmt::Display for VectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { vector, vectors } => {
                write!(f, "vector {vector} is not one of the {vectors} vectors, counted from 0")
            }
            Self::TooManyClaims { vector } => {
                write!(f, "vector {vector} already has {} claims", u16::MAX)
            }
            Self::NotCarriedOut => NotCarriedOut.fmt(f),
        }
    }
}

impl core::error::Error for VectorError {}
