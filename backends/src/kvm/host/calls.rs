//! The calls to the VMM that an input causes, which wait until no lock is held any more.
//!
//! A message to memory can be a write of any register that the guest can reach, those of its own
//! function among them; and a VMM may do anything when its pin changes. So the calls are queued while
//! the lock is held, and made afterwards, in order. Whatever happens meanwhile, the queue is bounded: a
//! vector has one message in it, because one message stands for several (A12), and an entry that is
//! snooped appears once. Of the levels that the pin was set to, two remain: the last one, and one that
//! differs. A message that is queued was sent: masking its vector does not take it back (H24).

use super::MessageMode;
use crate::Route;
use crate::kvm::vector_set::VectorSet;
use msix_core::Message;
use std::collections::VecDeque;
use std::mem::discriminant;

/// A call to the VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kvm) enum Call {
    /// The message of a vector, to memory.
    WriteMemory(MessageMode, u16, Message),
    /// What the guest wrote to an entry (G2).
    Snoop(Route),
    /// The level of the pin.
    SetLevel(bool),
    /// Whether the BARs are mapped into the guest.
    SetMappings(bool),
    /// The reset of the device behind the function.
    ResetDevice,
}

/// Calls in order.
#[derive(Debug)]
pub(in crate::kvm) struct CallQueue {
    calls: VecDeque<Call>,
    /// Vectors of MSI-X and of MSI with a message in the queue.
    msix: VectorSet,
    msi: VectorSet,
}

impl CallQueue {
    /// Makes an empty queue, for these numbers of vectors.
    pub(super) fn new(msix: u16, msi: u16) -> Self {
        Self { calls: VecDeque::new(), msix: VectorSet::none(msix), msi: VectorSet::none(msi) }
    }

    pub(in crate::kvm) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns whether a level of the pin is to be set.
    pub(in crate::kvm) fn has_level(&self) -> bool {
        self.calls.iter().any(|call| matches!(call, Call::SetLevel(_)))
    }

    /// Adds a call. It replaces one that it makes superfluous.
    pub(in crate::kvm) fn push(&mut self, call: Call) {
        match call {
            Call::WriteMemory(mode, vector, _) => {
                if !self.queued(mode).insert(vector) {
                    return self.replace(call, |queued| {
                        matches!(*queued, Call::WriteMemory(m, v, _) if (m, v) == (mode, vector))
                    });
                }
            }
            Call::Snoop(Route { vector, .. }) => {
                let same = |queued: &Call| matches!(queued, Call::Snoop(r) if r.vector == vector);
                if self.calls.iter().any(same) {
                    return self.replace(call, same);
                }
            }
            Call::SetLevel(_) | Call::SetMappings(_) => {
                let is_like = |queued: &Call| discriminant(queued) == discriminant(&call);
                if let Some(last) = self.calls.iter().rposition(is_like) {
                    if self.calls[last] == call {
                        return;
                    }
                    if self.calls.range(..last).any(is_like) {
                        // The one before is as this one, and the last is as if it had not been.
                        self.calls.remove(last);
                        return;
                    }
                }
            }
            Call::ResetDevice => {}
        }
        self.calls.push_back(call);
    }

    /// Takes the next call, which is to be made at once.
    pub(in crate::kvm) fn pop(&mut self) -> Option<Call> {
        let call = self.calls.pop_front()?;
        if let Call::WriteMemory(mode, vector, _) = call {
            self.queued(mode).remove(vector);
        }
        Some(call)
    }

    fn replace(&mut self, call: Call, is_replaced: impl Fn(&Call) -> bool) {
        if let Some(queued) = self.calls.iter_mut().find(|queued| is_replaced(queued)) {
            *queued = call;
        }
    }

    fn queued(&mut self, mode: MessageMode) -> &mut VectorSet {
        match mode {
            MessageMode::MsiX => &mut self.msix,
            MessageMode::Msi => &mut self.msi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::Vector;

    fn queue(calls: &[Call]) -> Vec<Call> {
        let mut queue = CallQueue::new(2, 1);
        calls.iter().for_each(|call| queue.push(*call));
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn of_the_levels_that_nobody_saw_the_last_remains_and_one_that_differs() {
        let level = |levels: &[bool]| levels.iter().map(|l| Call::SetLevel(*l)).collect::<Vec<_>>();
        for (pushed, left) in [
            (&[true][..], &[true][..]),
            (&[true, true], &[true]),
            (&[true, false], &[true, false]),
            (&[true, false, true], &[true]),
            (&[true, false, true, false], &[true, false]),
            (&[false, true, false, false], &[false]),
        ] {
            assert_eq!(queue(&level(pushed)), level(left), "{pushed:?}");
        }
        let mapped = Call::SetMappings(true);
        let mixed = [mapped, Call::SetLevel(true), Call::ResetDevice, Call::SetLevel(false)];
        assert_eq!(queue(&mixed), mixed);
    }

    #[test]
    fn a_vector_has_one_message_and_it_is_the_last_one() {
        let message =
            |mode, vector, data| Call::WriteMemory(mode, vector, Message { address: 0x1000, data });
        let msix = |vector, data| message(MessageMode::MsiX, vector, data);
        let msi = message(MessageMode::Msi, 0, 4);
        let calls = queue(&[msix(0, 1), msix(1, 2), msi, msix(0, 3)]);
        assert_eq!(calls, [msix(0, 3), msix(1, 2), msi]);
        let mut queue = CallQueue::new(1, 0);
        for data in 0..3 {
            queue.push(msix(0, data));
            assert_eq!(queue.pop(), Some(msix(0, data)), "what was called counts no more");
        }
        assert_eq!((queue.pop(), queue.len()), (None, 0));
    }

    #[test]
    fn an_entry_that_is_written_again_is_shown_once_as_it_is_last() {
        let snoop = |vector, data| {
            let message = Message { address: 0, data };
            Call::Snoop(Route { vector: Vector::new(vector), message })
        };
        let calls = queue(&[snoop(0, 1), snoop(1, 2), snoop(0, 3)]);
        assert_eq!(calls, [snoop(0, 3), snoop(1, 2)]);
    }
}
