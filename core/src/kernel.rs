//! The transition: the one place that decides effects.
//!
//! Every input changes registers and facts, and then asks [`step`] what follows: which vectors the
//! host must arm or disarm, whose message it must be told again, what is sent and what is lost. The
//! function works on *lanes*, one for each vector, and can do nothing with them but `& | ^ !`. So no
//! lane can depend on its neighbour: what `tests` shows for one lane in all its states holds for every
//! vector of every function.
//!
//! MSI-X and MSI, one vector and all vectors, and the checker of the invariants use it.

#[cfg(test)]
mod case;
#[cfg(test)]
mod tests;

use core::ops::{BitAnd, BitOr, BitXor, Not};

/// Some lanes of one fact: `u64` holds 64 of them, `bool` one.
pub(crate) trait Lanes:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
}

impl<T> Lanes for T where
    T: Copy
        + BitAnd<Output = Self>
        + BitOr<Output = Self>
        + BitXor<Output = Self>
        + Not<Output = Self>
{
}

/// What the host was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told<L> {
    /// To deliver the vector: armed and not disarmed since.
    pub(crate) live: L,
    /// It could not, so the engine delivers the vector until it is armed again (H11).
    pub(crate) fallback: L,
    /// An older message than the vector has now (H4).
    pub(crate) stale: L,
}

/// What a vector's registers and claims say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers<L> {
    /// The vector's own mask bit (A6).
    pub(crate) masked: L,
    /// No mask holds the vector's message back (H25).
    pub(crate) exempt: L,
    /// The pending bit (A7).
    pub(crate) pending: L,
    /// The device claims the vector. Only looked at where [`ready`] says so.
    pub(crate) claimed: L,
}

/// What is true of the function as a whole: all lanes or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switches<L> {
    /// The function may send, but for masks: it is enabled, not overridden, and bus master where that
    /// gates it.
    pub(crate) open: L,
    /// Function Mask (A6).
    pub(crate) function_masked: L,
    /// Between a load and its resume (H15).
    pub(crate) loading: L,
    /// A host backend listens.
    pub(crate) attached: L,
    /// Bus Master Enable (A11).
    pub(crate) bus_master: L,
    /// A pending bit that could be sent is lost where nobody claims the vector (H9).
    pub(crate) lossy: L,
}

impl Switches<bool> {
    /// A function that may send, with a backend that listens.
    pub(crate) const SENDING: Self = Self {
        open: true,
        function_masked: false,
        loading: false,
        attached: true,
        bus_master: true,
        lossy: false,
    };
}

/// What follows: the facts as they are from now on, and what the host must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step<L> {
    /// What the host was told, once it has carried this out.
    pub(crate) told: Told<L>,
    /// The pending bits, once what is sent is sent.
    pub(crate) pending: L,
    /// Stop delivering.
    pub(crate) disarm: L,
    /// Deliver from now on.
    pub(crate) arm: L,
    /// The message changed.
    pub(crate) reroute: L,
    /// Send a message now.
    pub(crate) send: L,
    /// A message was due while bus master was off, and is dropped (H16).
    pub(crate) dropped: L,
    /// A pending bit was cleared because nobody claims the vector (H9).
    pub(crate) lost: L,
}

/// Decides what follows. `complete`: with this input the vector's message is complete (H4).
#[inline(always)]
pub(crate) fn step<L: Lanes>(
    told: Told<L>,
    registers: Registers<L>,
    switches: Switches<L>,
    complete: L,
) -> Step<L> {
    let wanted = wanted(told, registers, switches);
    let kept = told.live & wanted;
    let stale = told.stale & kept;
    let reroute = stale & complete & !switches.loading;
    let ready = ready(registers, switches);
    let due = ready & registers.claimed;
    Step {
        told: Told { live: wanted, fallback: told.fallback & kept, stale: stale & !reroute },
        pending: registers.pending & !(due | ready & switches.lossy),
        disarm: told.live & !wanted,
        arm: wanted & !told.live,
        reroute,
        send: due & switches.bus_master,
        dropped: due & !switches.bus_master,
        lost: ready & !registers.claimed & switches.lossy,
    }
}

/// The vectors whose message would be sent at once.
#[inline(always)]
pub(crate) fn deliverable<L: Lanes>(registers: Registers<L>, switches: Switches<L>) -> L {
    let unmasked = !switches.function_masked & !registers.masked;
    switches.open & !switches.loading & (unmasked | registers.exempt)
}

/// The vectors that the host should deliver (I1). Between load and resume it keeps what it has.
#[inline(always)]
pub(crate) fn wanted<L: Lanes>(told: Told<L>, registers: Registers<L>, switches: Switches<L>) -> L {
    (deliverable(registers, switches) | told.live & switches.loading) & switches.attached
}

/// The pending vectors that could be sent if the device claims them.
#[inline(always)]
pub(crate) fn ready<L: Lanes>(registers: Registers<L>, switches: Switches<L>) -> L {
    registers.pending & deliverable(registers, switches)
}

/// The vectors whose events, if any, the host holds: it does not deliver them.
#[inline(always)]
pub(crate) fn held<L: Lanes>(told: Told<L>, attached: L) -> L {
    attached & (!told.live | told.fallback)
}
