//! The rule for one vector, in the words of the engine's own test: `core/src/kernel/case.rs` is the one
//! text that the engine is compared with, there lane by lane and here input by input.

#[path = "../../../core/src/kernel/case.rs"]
mod case;

pub(crate) use case::case;

/// What the host was told.
#[derive(Clone, Copy)]
pub(crate) struct Told<L> {
    pub(crate) live: L,
    pub(crate) fallback: L,
    pub(crate) stale: L,
}

/// What a vector's registers and claims say.
#[derive(Clone, Copy)]
pub(crate) struct Registers<L> {
    pub(crate) masked: L,
    pub(crate) exempt: L,
    pub(crate) pending: L,
    pub(crate) claimed: L,
}

/// The facts of the function as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Switches<L> {
    pub(crate) open: L,
    pub(crate) function_masked: L,
    pub(crate) loading: L,
    pub(crate) attached: L,
    pub(crate) bus_master: L,
    pub(crate) lossy: L,
}

/// What follows.
#[derive(Clone, Copy)]
pub(crate) struct Step<L> {
    pub(crate) told: Told<L>,
    pub(crate) pending: L,
    pub(crate) disarm: L,
    pub(crate) arm: L,
    pub(crate) reroute: L,
    pub(crate) send: L,
    pub(crate) dropped: L,
    pub(crate) lost: L,
}
