//! Calls a host's callbacks with the effects of an input, until nothing is left.

use crate::config::{CHostOps, CMessage};
use crate::engine::{Engine, EngineState};
use core::ffi::{c_int, c_void};
use msix_core::{Effect, Vector, Vectors};

impl Engine {
    /// Carries out the list, and what the answers emit. It ends, because an answer can only cause Send.
    /// Does nothing without callbacks: then the caller takes the list.
    pub(crate) fn carry_out(&self) {
        let Some((ops, opaque)) = &self.host else { return };
        self.carrying_out.set(true);
        let host = Host { engine: self, ops, opaque: *opaque };
        host.list();
        while let Some(vectors) = self.next_answer() {
            if let Ok(mut state) = self.state.try_borrow_mut() {
                let EngineState { msix, list, .. } = &mut *state;
                let reported = msix.report_held(vectors, list);
                debug_assert!(reported.is_ok(), "the list was carried out");
            }
            host.list();
        }
        self.carrying_out.set(false);
    }

    fn next_effect(&self) -> Option<Effect> {
        self.state.try_borrow_mut().ok()?.list.take()
    }

    /// Takes the answers about one word.
    fn next_answer(&self) -> Option<Vectors> {
        let mut state = self.state.try_borrow_mut().ok()?;
        let (word, bits) = (0..).zip(state.held.iter_mut()).find(|(_, bits)| **bits != 0)?;
        Some(Vectors::new(word, core::mem::take(bits)))
    }
}

struct Host<'a> {
    engine: &'a Engine,
    ops: &'a CHostOps,
    opaque: *mut c_void,
}

impl Host<'_> {
    fn list(&self) {
        let mut uncommitted = false;
        while let Some(effect) = self.engine.next_effect() {
            let routes = matches!(effect, Effect::Arm(_) | Effect::Reroute(_));
            if uncommitted && !routes {
                self.ops.call_commit(self.opaque);
            }
            uncommitted = routes;
            self.one(effect);
        }
        if uncommitted {
            self.ops.call_commit(self.opaque);
        }
    }

    fn one(&self, effect: Effect) {
        let (ops, opaque) = (self.ops, self.opaque);
        let number = |vector: Vector| u32::from(vector.index());
        match effect {
            Effect::Poll(set) => {
                let held = ops.call_poll(opaque, u32::from(set.word()) << 6, set.bits());
                if let Ok(mut state) = self.engine.state.try_borrow_mut() {
                    // The word is one of the table: the engine named it.
                    let _ = state.note_held(Vectors::new(set.word(), held & set.bits()));
                }
            }
            Effect::Disarm(set) => set.iter().for_each(|v| ops.call_disarm(opaque, number(v))),
            Effect::Drain(set) => set.iter().for_each(|v| ops.call_drain(opaque, number(v))),
            Effect::Arm(set) => set.iter().for_each(|v| {
                self.report(v, ops.call_arm(opaque, number(v), self.message(v)));
            }),
            Effect::Reroute(set) => set.iter().for_each(|v| {
                self.report(v, ops.call_reroute(opaque, number(v), self.message(v)));
            }),
            Effect::Snoop(set) => {
                set.iter().for_each(|v| ops.call_snoop(opaque, number(v), self.message(v)));
            }
            Effect::Send(set) => {
                set.iter().for_each(|v| ops.call_send(opaque, number(v), self.message(v)));
            }
            Effect::IntxDeassert => ops.call_intx_deassert(opaque),
            Effect::IntxReevaluate => ops.call_intx_reevaluate(opaque),
        }
    }

    fn message(&self, vector: Vector) -> CMessage {
        let message = self.engine.query(|msix| msix.message(vector)).ok().flatten();
        message.unwrap_or_default().into()
    }

    /// Tells the engine of a vector that the host cannot deliver (H11).
    fn report(&self, vector: Vector, answer: c_int) {
        if answer != 0 {
            let reported = self.engine.report(|msix| msix.report_failed(Vectors::one(vector)));
            debug_assert!(reported.is_ok(), "no callback runs");
        }
    }
}
