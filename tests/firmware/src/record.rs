//! What the cases see of the backend, and what they ask it to refuse. Memory for it is static too, so that
//! the backend can write to it.

use crate::backend::Set;
use heapless::Vec;
use msix_conformance::{HostCall, IntxCall, Message};
use msix_core::{Effect, Vector};

/// The most that a case lets happen between two looks.
const MOST: usize = 16 << 10;

/// One call to the backend, or the same one for many vectors.
#[derive(Clone, Copy)]
enum Call {
    One(HostCall),
    Many(Effect),
}

/// Calls and messages since they were taken.
pub(crate) struct Record {
    calls: Vec<Call, MOST>,
    messages: Vec<Message, MOST>,
    intx: Vec<IntxCall, MOST>,
    refused: Set,
}

impl Record {
    pub(crate) const fn new() -> Self {
        Self { calls: Vec::new(), messages: Vec::new(), intx: Vec::new(), refused: Set::EMPTY }
    }

    /// A call to the backend.
    pub(crate) fn call(&mut self, call: HostCall) {
        self.log(Call::One(call));
    }

    /// An effect that is a call for each of its vectors, without a message, or none.
    pub(crate) fn effect(&mut self, effect: Effect) {
        if matches!(effect, Effect::Poll(_) | Effect::Disarm(_) | Effect::Drain(_)) {
            self.log(Call::Many(effect));
        }
    }

    fn log(&mut self, call: Call) {
        assert!(self.calls.push(call).is_ok(), "a case looks often enough");
    }

    /// What the guest's interrupt controller gets.
    pub(crate) fn deliver(&mut self, message: Message) {
        self.messages.push(message).expect("a case looks often enough");
    }

    /// A call to the device's INTx line.
    pub(crate) fn intx(&mut self, call: IntxCall) {
        self.intx.push(call).expect("a case looks often enough");
    }

    pub(crate) fn take_calls(&mut self) -> alloc::vec::Vec<HostCall> {
        let mut calls = alloc::vec::Vec::new();
        for call in &self.calls {
            match *call {
                Call::One(call) => calls.push(call),
                Call::Many(effect) => calls.extend(effect.vectors().iter().filter_map(|vector| {
                    let vector = vector.index();
                    match effect {
                        Effect::Poll(_) => Some(HostCall::Poll { vector }),
                        Effect::Disarm(_) => Some(HostCall::Disarm { vector }),
                        Effect::Drain(_) => Some(HostCall::Drain { vector }),
                        _ => None,
                    }
                })),
            }
        }
        self.calls.clear();
        calls
    }

    /// Where nobody looks at calls.
    pub(crate) fn forget_calls(&mut self) {
        self.calls.clear();
    }

    pub(crate) fn take_messages(&mut self) -> alloc::vec::Vec<Message> {
        let messages = self.messages.to_vec();
        self.messages.clear();
        messages
    }

    pub(crate) fn take_intx(&mut self) -> alloc::vec::Vec<IntxCall> {
        let calls = self.intx.to_vec();
        self.intx.clear();
        calls
    }

    /// From now on the backend cannot arm or reroute `vector`, or can again.
    pub(crate) fn set_refused(&mut self, vector: u16, refused: bool) {
        let vector = Vector::new(vector);
        if refused {
            self.refused.insert(vector);
        } else {
            self.refused.remove(vector);
        }
    }

    pub(crate) fn refuses(&self, vector: u16) -> bool {
        self.refused.contains(Vector::new(vector))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.calls.clear();
        self.messages.clear();
        self.intx.clear();
        self.refused = Set::EMPTY;
    }
}
