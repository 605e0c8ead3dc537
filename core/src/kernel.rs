//! The transition: the one place that decides effects.
//!
//! Every input changes registers and facts, then calls [`step`], which decides what the host must
//! arm, disarm or reroute, and what is sent, dropped or lost. The function works on *lanes*, one
//! for each vector, and their type offers only `& | ^ !`. So no lane can depend on its neighbour:
//! what `tests` shows for one lane in all its states holds for every vector of every function.
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
    /// To deliver the vector: it is armed and not disarmed since.
    pub(crate) live: L,
    /// It reported that it cannot, so the engine sends the vector's events until it is armed again
    /// (H11).
    pub(crate) fallback: L,
    /// A message older than the vector's present one (H4).
    pub(crate) stale: L,
}

/// What a vector's registers and claims say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers<L> {
    /// The vector's own mask bit (A6).
    pub(crate) masked: L,
    /// The vector's message is exempt from both masks (H25).
    pub(crate) exempt: L,
    /// The pending bit (A7).
    pub(crate) pending: L,
    /// The device claims the vector. Matters only where [`ready`] is set.
    pub(crate) claimed: L,
}

/// The facts of the function as a whole, each in all lanes or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switches<L> {
    /// The function may send, apart from masks: it is enabled, not overridden, and bus master is on
    /// where the policy asks for it.
    pub(crate) open: L,
    /// Function Mask (A6).
    pub(crate) function_masked: L,
    /// Between a load and its resume (H15).
    pub(crate) loading: L,
    /// A backend is attached.
    pub(crate) attached: L,
    /// Bus Master Enable (A11).
    pub(crate) bus_master: L,
    /// A deliverable pending bit of a vector without a claim is lost (H9).
    pub(crate) lossy: L,
}

impl Switches<bool> {
    /// The facts of a function that may send and has a backend.
    pub(crate) const SENDING: Self = Self {
        open: true,
        function_masked: false,
        loading: false,
        attached: true,
        bus_master: true,
        lossy: false,
    };
}

/// The result of a step: the facts from now on, and what the host must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step<L> {
    /// What the host was told, including the effects of this step.
    pub(crate) told: Told<L>,
    /// The pending bits, after this step's sends.
    pub(crate) pending: L,
    /// Vectors to disarm.
    pub(crate) disarm: L,
    /// Vectors to arm.
    pub(crate) arm: L,
    /// Live vectors to reroute: their message changed.
    pub(crate) reroute: L,
    /// Vectors to send a message of.
    pub(crate) send: L,
    /// Vectors with a message that was due while bus master was off, and is dropped (H16).
    pub(crate) dropped: L,
    /// Vectors with a pending bit that is cleared because they have no claim (H9).
    pub(crate) lost: L,
}

/// Decides what follows. `complete` marks vectors with a message that this input completes (H4).
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

/// Returns the vectors with a message that would be sent at once.
#[inline(always)]
pub(crate) fn deliverable<L: Lanes>(registers: Registers<L>, switches: Switches<L>) -> L {
    let unmasked = !switches.function_masked & !registers.masked;
    switches.open & !switches.loading & (unmasked | registers.exempt)
}

/// Returns the vectors that the host should deliver (I1). Between load and resume it keeps what it
/// has.
#[inline(always)]
pub(crate) fn wanted<L: Lanes>(told: Told<L>, registers: Registers<L>, switches: Switches<L>) -> L {
    (deliverable(registers, switches) | told.live & switches.loading) & switches.attached
}

/// Returns the pending vectors to send if the device claims them.
#[inline(always)]
pub(crate) fn ready<L: Lanes>(registers: Registers<L>, switches: Switches<L>) -> L {
    registers.pending & deliverable(registers, switches)
}

/// Returns the vectors with events that the host holds, if there are any: it does not deliver them.
#[inline(always)]
pub(crate) fn held<L: Lanes>(told: Told<L>, attached: L) -> L {
    attached & (!told.live | told.fallback)
}
