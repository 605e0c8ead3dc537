//! The MSI engine: its facts, constructor and queries.
//!
//! Up to 32 vectors share one message; vector k differs in the low bits of its data. As in
//! [`crate::Msix`], inputs change registers and facts; then the engine compares what is wanted with
//! what the host was told.

mod capability;
mod device;
mod guest;
mod host;
#[cfg(msix_prove)]
pub(crate) mod prove;
mod settle;
mod snapshot;

pub use capability::{MsiCapability, MsiCapabilityError};
pub(crate) use guest::written_enable;
pub(crate) use snapshot::Checked;

use crate::counters::Counters;
use crate::facts::{Fact, Facts};
use crate::msix::{Message, VectorError};
use crate::policy::Policy;
use crate::vectors::{Vector, Vectors};
use capability::low_bits;

/// The MSI side of one PCI function ([A14](crate::rules#a14) to [A16](crate::rules#a16)). I1 to I7
/// hold as for [`crate::Msix`]; a list has at most [`Self::MAX_EFFECTS`] effects.
///
/// Its vectors are numbered from 0, and every effect's set is of word 0. The guest *allocates* the
/// lowest of them (Multiple Message Enable), and a function must not send from another. So an event
/// of vector k is sent as vector [`vector_for(k)`](Self::vector_for): k modulo the number
/// allocated, which results from putting the vector number into the low bits of the data. Nothing
/// is lost when a guest allocates fewer vectors than the device has. Each event keeps its own
/// number until it is sent, so withdrawing one leaves the others. A device that shares its vectors
/// in another way names one of the [`allocated`](Self::allocated) vectors itself.
///
/// Only allocated vectors are ever live: where the backend delivers, the device must signal vector
/// [`vector_for(k)`](Self::vector_for).
///
/// Without mask registers (A16) an event that cannot be sent, because MSI is disabled or bus master
/// is off, still waits if the policy says so; the guest cannot see it.
///
/// A [`Function`](crate::Function) has one, and passes the inputs on to it:
///
/// ```
/// use msix_core::*;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let parts = Parts { msi: Some(MsiCapability::new(4)?), ..Parts::default() };
/// let mut function = Function::<Inline<1, 1>>::new(parts, Policy::SPEC)?;
/// let mut fx = FunctionEffects::<14>::new();
/// function.write_command(0, &[0x06], &mut fx)?; // memory and bus master on
/// function.write_msi(4, &0xfee0_0000_u32.to_le_bytes(), &mut fx)?; // address
/// function.write_msi(8, &0x40_u16.to_le_bytes(), &mut fx)?; // data
/// function.write_msi(2, &[0x11], &mut fx)?; // enabled, with two of the four vectors
/// function.notify(Vector::new(3), &mut fx)?; // the device's vector 3
/// let v1 = function.msi().map(|msi| msi.vector_for(Vector::new(3)));
/// assert_eq!(v1, Some(Vector::new(1)));
/// assert_eq!(fx.take(), Some(FunctionEffect::Msi(Effect::Send(Vectors::new(0, 0b10)))));
/// let message = function.message(Mode::Msi, Vector::new(1));
/// assert_eq!(message, Some(Message { address: 0xfee0_0000, data: 0x41 }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Msi {
    pub(crate) state: State,
    pub(crate) context: Context,
}

/// The complete behavioural state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) facts: Facts,
    /// Multiple Message Enable, 0 to 7.
    multiple: u8,
    next_capability: u8,
    data: u16,
    address: u64,
    pub(crate) masked: u32,
    /// Vectors with a waiting event, by their own numbers.
    events: u32,
    /// Vectors that are armed and not disarmed since.
    pub(crate) live: u32,
    /// Those of `live` that the host reported as failed (H11).
    pub(crate) fallback: u32,
    /// Those of `live` with a message that the host was not told (H4).
    stale: u32,
}

impl State {
    /// Returns whether MSI is enabled and not overridden by MSI-X.
    const fn in_force(&self) -> bool {
        !self.facts.has(Fact::DISABLED) && !self.facts.has(Fact::OVERRIDDEN)
    }
}

/// What never changes, or has no influence on behaviour.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) capability: MsiCapability,
    policy: Policy,
    counters: Counters,
}

impl Msi {
    /// The most effects that one input emits (I6).
    pub const MAX_EFFECTS: usize = 5;

    /// Makes an engine in its reset state: disabled, one vector allocated, none masked, nothing
    /// pending, no backend attached, bus master on (change it with
    /// [`set_bus_master`](Self::set_bus_master)).
    #[must_use]
    pub(crate) const fn new(capability: MsiCapability, policy: Policy) -> Self {
        let state = State {
            facts: Facts::new(&policy),
            multiple: 0,
            next_capability: 0,
            data: 0,
            address: 0,
            masked: 0,
            events: 0,
            live: 0,
            fallback: 0,
            stale: 0,
        };
        Self { state, context: Context { capability, policy, counters: Counters::ZERO } }
    }

    /// Returns the totals of events, messages, effects and failures. An event that coalesced with
    /// another vector's, because both are sent as one vector, is in `coalesced`.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// Returns how many vectors the function is capable of, 1 to 32.
    pub(crate) const fn vectors(&self) -> u16 {
        self.context.capability.vectors()
    }

    /// Returns how many vectors the guest allocated: a power of two, 1 to 32, and at most what the
    /// function is capable of (A15).
    #[must_use]
    pub fn allocated(&self) -> u16 {
        let log = self.state.multiple.min(self.context.capability.log());
        1_u16.wrapping_shl(u32::from(log)) // at most 1 << 5
    }

    /// Returns the vector that an event of `vector` is sent as: `vector` modulo the number
    /// allocated.
    #[must_use]
    pub fn vector_for(&self, vector: Vector) -> Vector {
        Vector::new(vector.index() & self.low())
    }

    /// Returns the message that an event of `vector` is sent as: the data with its low
    /// log2(allocated) bits replaced by the vector's, and its upper 16 bits 0 (A15). `None` for a
    /// vector that the function is not capable of.
    #[must_use]
    pub fn message(&self, vector: Vector) -> Option<Message> {
        self.bit(vector)?;
        let data = self.state.data & !self.low() | vector.index() & self.low();
        Some(Message { address: self.state.address, data: u32::from(data) })
    }

    /// Takes over the facts that a load of the whole function brings (H15).
    pub(crate) const fn set_loaded_facts(&mut self, overridden: bool, bus_master: bool) {
        self.state.facts.set(Fact::OVERRIDDEN, overridden);
        self.state.facts.set_bus_master(bus_master);
    }

    /// Returns the bits of the data that the vector number replaces.
    fn low(&self) -> u16 {
        self.allocated().wrapping_sub(1)
    }

    /// Returns `vector` as a set, if the function is capable of it.
    fn bit(&self, vector: Vector) -> Option<u32> {
        let bit = 1_u32.checked_shl(u32::from(vector.index()))?;
        Some(bit).filter(|bit| bit & self.context.capability.bits() != 0)
    }

    fn checked(&self, vector: Vector) -> Result<u32, VectorError> {
        let vectors = self.vectors();
        self.bit(vector).ok_or(VectorError::OutOfRange { vector, vectors })
    }

    /// Returns the members of `vectors` that the function is capable of.
    fn inside(&self, vectors: Vectors) -> u32 {
        if vectors.word() != 0 {
            return 0;
        }
        let [b0, b1, b2, b3, ..] = vectors.bits().to_le_bytes();
        u32::from_le_bytes([b0, b1, b2, b3]) & self.context.capability.bits()
    }

    /// Returns the vectors that waiting events will be sent as.
    pub(crate) fn folded(&self) -> u32 {
        let (allocated, mut folded) = (self.allocated(), self.state.events);
        for half in [16_u16, 8, 4, 2, 1].into_iter().filter(|half| *half >= allocated) {
            folded = (folded | folded.wrapping_shr(half.into())) & low_bits(half);
        }
        folded
    }

    /// Returns all vectors with events that are sent as one of `vectors`, which are allocated.
    fn unfolded(&self, vectors: u32) -> u32 {
        let (allocated, mut all) = (self.allocated(), vectors);
        for width in [1_u16, 2, 4, 8, 16].into_iter().filter(|width| *width >= allocated) {
            all |= all.wrapping_shl(width.into());
        }
        all & self.context.capability.bits()
    }
}

pub(crate) fn set(bits: u32) -> Vectors {
    Vectors::new(0, u64::from(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{msi, take};
    use crate::{Delivery, Effect};

    #[test]
    fn an_event_goes_out_as_the_vector_in_the_low_bits_of_the_data() {
        for (multiple, low, allocated) in [(0, 0, 1), (1, 1, 2), (2, 3, 4), (5, 3, 4), (7, 3, 4)] {
            let (mut msi, mut fx) = msi(Policy::SPEC);
            msi.write_config(12, &[0x4f, 0x41], &mut fx);
            take(&mut fx);
            msi.write_config(2, &[multiple << 4 | 1], &mut fx);
            take(&mut fx);
            assert_eq!(msi.allocated(), allocated);
            for k in 0..4 {
                let message = msi.message(Vector::new(k)).unwrap();
                assert_eq!(message.address, 0xfee0_1000);
                assert_eq!(message.data, u32::from(0x414f & !low | k & low));
                let folded = Vector::new(k % allocated);
                assert_eq!(msi.vector_for(Vector::new(k)), folded);
                assert_eq!(msi.notify(Vector::new(k), &mut fx), Ok(Delivery::Sent));
                assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(folded))]);
            }
        }
        let (msi, _) = msi(Policy::SPEC);
        assert_eq!((msi.message(Vector::new(4)), msi.message(Vector::new(32))), (None, None));
    }

    #[test]
    fn events_keep_their_numbers_until_they_are_sent() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(2, &[0x11], &mut fx); // two vectors
        take(&mut fx);
        msi.write_config(16, &[0x0f], &mut fx);
        take(&mut fx);
        for (vector, delivery) in
            [(1, Delivery::Pending), (3, Delivery::Pending), (3, Delivery::Coalesced)]
        {
            assert_eq!(msi.notify(Vector::new(vector), &mut fx), Ok(delivery));
        }
        assert_eq!(msi.pending(), Vectors::new(0, 0b10));
        assert_eq!(msi.withdraw(Vector::new(1), &mut fx), Ok(true));
        assert_eq!(msi.withdraw(Vector::new(1), &mut fx), Ok(false));
        assert_eq!(msi.counters().withdrawn, 1);
        take(&mut fx);
        assert_eq!(msi.pending(), Vectors::new(0, 0b10), "another vector's event goes out as it");
        assert_eq!(msi.notify(Vector::new(1), &mut fx), Ok(Delivery::Pending));
        msi.write_config(16, &[0], &mut fx);
        let (live, sent) = (Vectors::new(0, 0b11), Vectors::new(0, 0b10)); // one message for both
        assert_eq!(take(&mut fx), [Effect::Arm(live), Effect::Send(sent)]);
        assert_eq!((msi.counters().sent, msi.counters().coalesced), (1, 2));
        assert!(msi.pending().bits() == 0);
    }

    #[test]
    fn folding_and_unfolding_agree_for_every_count() {
        for log in 0..=5 {
            for multiple in 0..=7 {
                let capability = MsiCapability::new(1 << log).unwrap();
                let mut msi = Msi::new(capability, Policy::SPEC);
                msi.state.multiple = multiple;
                for v in 0..msi.vectors() {
                    msi.state.events = msi.bit(Vector::new(v)).unwrap();
                    assert_eq!(msi.folded(), 1 << (v % msi.allocated()));
                    assert_ne!(msi.unfolded(msi.folded()) & msi.state.events, 0);
                    assert_eq!(msi.unfolded(0), 0);
                }
                msi.state.events = capability.bits();
                assert_eq!(msi.folded(), low_bits(msi.allocated()));
                assert_eq!(msi.unfolded(msi.folded()), capability.bits());
            }
        }
    }
}
