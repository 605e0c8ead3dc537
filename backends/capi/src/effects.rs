//! Effects as C reads them, and the list in an engine's memory that takes them.

use crate::engine::CEngine;
use crate::error::{CError, done};
use crate::{engine, raw};
use core::ffi::c_int;
use msix_core::{Effect, EffectSink};

/// Most effects of one input, for the largest table: 2 + 3 for every 64 vectors.
pub const MSIX_MAX_EFFECTS: usize = 98;

/// What the host is asked to do. In every list the kinds come in this order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CEffectKind {
    /// Lower the INTx line: MSI-X was enabled, which prohibits INTx.
    IntxDeassert = 0,
    /// Say which of these vectors have held events, and take the events from where they are held: answer
    /// with msix_engine_report_held() or msix_engine_set_pending().
    Poll = 1,
    /// Stop delivering these. From now on the host holds their events, until they are polled or the
    /// vector is armed again.
    Disarm = 2,
    /// Throw away the held events of these.
    Drain = 3,
    /// Deliver these from now on, with the messages they have now: route, then arm. Report what fails with
    /// msix_engine_report_failed().
    Arm = 4,
    /// Deliver these armed vectors with the messages they have now: they changed. Report what fails with
    /// msix_engine_report_failed(), and no longer deliver it.
    Reroute = 5,
    /// Note that the guest wrote the entries of these; only under `snoop` of the policy.
    Snoop = 6,
    /// Send one message of each of these now, lowest vector first.
    Send = 7,
    /// Let the device drive its INTx line again, as its own status says.
    IntxReevaluate = 8,
}

/// One effect, for a set of up to 64 vectors.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CEffect {
    /// Which: one of msix_effect_kind.
    pub kind: u32,
    /// The vector that bit 0 of `vectors` stands for: a multiple of 64.
    pub first: u32,
    /// The vectors: bit k stands for vector `first` + k. 0 for the INTx kinds.
    pub vectors: u64,
}

impl From<Effect> for CEffect {
    fn from(effect: Effect) -> Self {
        let kind = match effect {
            Effect::IntxDeassert => CEffectKind::IntxDeassert,
            Effect::Poll(_) => CEffectKind::Poll,
            Effect::Disarm(_) => CEffectKind::Disarm,
            Effect::Drain(_) => CEffectKind::Drain,
            Effect::Arm(_) => CEffectKind::Arm,
            Effect::Reroute(_) => CEffectKind::Reroute,
            Effect::Snoop(_) => CEffectKind::Snoop,
            Effect::Send(_) => CEffectKind::Send,
            Effect::IntxReevaluate => CEffectKind::IntxReevaluate,
        };
        let set = effect.vectors();
        #[expect(clippy::as_conversions, reason = "a discriminant")]
        let kind = kind as u32;
        Self { kind, first: u32::from(set.word()) << 6, vectors: set.bits() }
    }
}

/// A list as long as an input of its engine can fill (I6).
#[derive(Debug)]
pub(crate) struct EffectList {
    slots: &'static mut [Effect],
    len: usize,
    taken: usize,
}

impl EffectList {
    pub(crate) const fn new(slots: &'static mut [Effect]) -> Self {
        Self { slots, len: 0, taken: 0 }
    }

    pub(crate) fn take(&mut self) -> Option<Effect> {
        let next = self.slots.get(..self.len).and_then(|list| list.get(self.taken)).copied();
        self.taken = self.taken.saturating_add(1);
        if self.taken >= self.len {
            (self.len, self.taken) = (0, 0);
        }
        next
    }
}

impl EffectSink for EffectList {
    /// What it holds depends on the engine's vectors, so the compiler cannot compare.
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, effect: Effect) {
        let slot = self.slots.get_mut(self.len);
        debug_assert!(slot.is_some(), "I6: the list holds the most effects of one input");
        if let Some(slot) = slot {
            *slot = effect;
            self.len = self.len.saturating_add(1);
        }
    }
}

/// Returns the most effects of one input of an engine for `vectors` vectors: 2 + 3 for every 64 of them.
/// Returns 0 unless there are 1 to 2048.
#[unsafe(no_mangle)]
pub extern "C" fn msix_engine_max_effects(vectors: u32) -> usize {
    match usize::try_from(vectors) {
        Ok(vectors @ 1..=2048) => vectors.div_ceil(64).saturating_mul(3).saturating_add(2),
        _ => 0,
    }
}

/// Takes the effects of the last input from the list, in order, and writes at most `capacity` of them to
/// `effects`. They must be carried out in this order before the next input, which is refused with
/// MSIX_ERROR_NOT_CARRIED_OUT while the list still has some. `*taken` is how many there were. With
/// msix_engine_max_effects() of room, one call takes all. An engine with callbacks has none to take.
///
/// The message of a vector is read with msix_engine_message() while the effects are carried out.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED,
/// MSIX_ERROR_BUSY from inside a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_take_effects(
    engine: *mut CEngine,
    effects: *mut CEffect,
    capacity: usize,
    taken: *mut usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        if engine.carrying_out.get() {
            return Err(CError::Busy);
        }
        raw::write(taken, 0)?;
        let mut state = engine.state.try_borrow_mut().map_err(|_| CError::Busy)?;
        let mut count = 0_usize;
        for slot in raw::items_mut(effects, capacity)? {
            let Some(effect) = state.list.take() else { break };
            *slot = effect.into();
            count = count.saturating_add(1);
        }
        raw::write(taken, count)
    }))
}
