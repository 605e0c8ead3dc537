//! What the prover chooses, assumes and proves.

use msix_core::policy::{
    BusMasterOff, ClaimsOnReset, IntxRule, LiveRewrite, MessageAddress, MessageEnable,
    PendingOnDisable, Policy, TableAccess, UnclaimedPending, VectorControlBits, WhileDisabled,
};
use msix_core::{Counters, Message, Vector};

mod prover {
    unsafe extern "C" {
        pub safe fn __any_u64() -> u64;
        pub safe fn __assume(condition: bool);
        pub safe fn __prove(condition: bool, property: u32);
        pub safe fn __observe(value: u64);
        pub safe fn __exempt(address: u64, data: u32) -> bool;
        #[cfg(not(feature = "native"))]
        pub safe fn __panicked() -> !;
    }
}

#[cfg(not(feature = "native"))]
pub use prover::__panicked as panicked;
pub use prover::{__assume as assume, __observe as observe};

pub fn u64() -> u64 {
    let value = prover::__any_u64();
    crate::show!("any value", format_args!("{value:#x}"));
    value
}

/// The properties that are proven, by number. The prover prints their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Property {
    /// The input's answer, or its error, is the rules'.
    Answer = 1,
    /// Only a vector outside the table is refused, and it is.
    Refused = 2,
    /// I5.
    Ordered = 3,
    /// An effect names vectors of the table, at least one, and each once.
    Sane = 4,
    /// I6.
    Bounded = 5,
    /// The effects that name the vector.
    Effects = 6,
    /// Enable, Function Mask, bus master, attached, loading, what INTx was told.
    Whole = 7,
    /// The facts that follow from others.
    Facts = 8,
    Masked = 9,
    Pending = 10,
    Live = 11,
    Fallback = 12,
    Stale = 13,
    Claims = 14,
    Entry = 15,
    /// The induction step.
    Sound = 16,
    /// Nothing is said of vectors that do not exist.
    Tail = 17,
    /// The count of stale entries is right.
    StaleCount = 18,
    /// The counters of effects are the sums of the list.
    EffectCounters = 19,
    /// An event ends in one place.
    EventCounters = 20,
    /// A byte that a guest reads, or that a save writes.
    Byte = 21,
    /// `check` finds what does not hold.
    Complete = 22,
    /// What `check` finds does not hold.
    True = 23,
    /// Every event is sent, pending, coalesced, withdrawn, left to INTx, or counted as dropped.
    Conserved = 24,
    /// At no moment are two modes live (D2).
    Alone = 25,
    /// The effects of one part stand together.
    Together = 26,
    /// What the parts know of each other, and of Command.
    Agreed = 27,
    /// Enable, the message and the masks of MSI; what it knows of bus master, backend and load.
    Registers = 28,
    /// The pin.
    Pin = 29,
}

pub fn prove(property: Property, condition: bool) {
    prover::__prove(condition, property as u32);
}

pub fn u32() -> u32 {
    u64() as u32
}

pub fn u16() -> u16 {
    u64() as u16
}

pub fn bool() -> bool {
    u64() & 1 != 0
}

pub fn vector() -> Vector {
    Vector::new(u16())
}

/// Returns any number up to `most`.
pub fn up_to(most: usize) -> usize {
    let value = usize::try_from(u64()).unwrap_or(usize::MAX);
    assume(value <= most);
    value.min(most)
}

/// Decides which messages are exempt from masks: any function of the message.
pub fn exempt(message: Message) -> bool {
    prover::__exempt(message.address, message.data)
}

fn of<T: Copy, const K: usize>(choices: [T; K]) -> T {
    choices[up_to(K - 1)]
}

/// Returns any policy. Where all values that are chosen are 0 it is [`Policy::SPEC`], so that a simple
/// counterexample is about that.
pub fn policy() -> Policy {
    Policy {
        while_disabled: of([WhileDisabled::Latch, WhileDisabled::Drop, WhileDisabled::Intx]),
        pending_on_disable: of([PendingOnDisable::Keep, PendingOnDisable::Drop]),
        live_rewrite: of([LiveRewrite::Reroute, LiveRewrite::Ignore]),
        table_access: of([TableAccess::Aligned, TableAccess::Dwords]),
        vector_control: of([
            VectorControlBits::SteeringTag,
            VectorControlBits::Verbatim,
            VectorControlBits::MaskOnly,
        ]),
        message_address: of([MessageAddress::Aligned, MessageAddress::Verbatim]),
        claims_on_reset: of([ClaimsOnReset::Keep, ClaimsOnReset::Clear]),
        unclaimed_pending: of([UnclaimedPending::Keep, UnclaimedPending::Lose]),
        bus_master_off: of([BusMasterOff::Latch, BusMasterOff::DropMessage]),
        intx: of([IntxRule::OnChange, IntxRule::OnEveryWrite]),
        message_enable: of([MessageEnable::AsWritten, MessageEnable::Capped]),
        drain: !bool(),
        poll_before_disable: !bool(),
        reject_pba_tail: !bool(),
        snoop: bool(),
    }
}

pub fn counters() -> Counters {
    let mut counters = Counters::default();
    counters.sent = u64();
    counters.coalesced = u64();
    counters.withdrawn = u64();
    counters.to_intx = u64();
    counters.dropped_unclaimed = u64();
    counters.dropped_disabled = u64();
    counters.dropped_bus_master = u64();
    counters.dropped_reset = u64();
    counters.dropped_load = u64();
    counters.arms = u64();
    counters.disarms = u64();
    counters.reroutes = u64();
    counters.failures = u64();
    counters
}
