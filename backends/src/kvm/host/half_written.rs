//! Messages that the guest rewrites while they are live, in several writes.
//!
//! The engine tells a live vector's message when it is complete (H4), or at the next Arm, by its policy.
//! Until then KVM has a message that the registers do not have any more, and if the guest never
//! completes it, it has it for ever. So the vector is taken back from KVM as long as the two differ: its
//! events come the long way, and go out as the registers say at that moment. KVM never has half a
//! message either.

use super::{MessageMode, VectorHost};
use crate::kvm::deferral::Wait;
use msix_core::Message;

impl VectorHost {
    /// The registers hold `message` for a vector of `mode`. After the effects of an input that may have
    /// changed that.
    pub(in crate::kvm) fn compare(&mut self, mode: MessageMode, vector: u16, message: Message) {
        let paused = self.paused;
        let messages = self.messages(mode);
        let state = *messages.of(vector);
        if paused || !state.live {
            return;
        }
        if state.told != Some(message) && !messages.half_written.contains(vector) {
            messages.half_written.insert(vector);
            self.withhold(mode, vector);
        } else if state.told == Some(message) && messages.half_written.remove(vector) {
            // As it was: KVM may have it again.
            self.wait_for_route(mode, vector);
        }
    }

    /// Whether a vector of the mode that the guest is in is taken back for the time being.
    pub(in crate::kvm) fn has_half_written(&self) -> bool {
        !self.of_mode(self.owner).half_written.is_empty()
    }

    /// Has a vector armed that can be sent by KVM, as soon as KVM knows its route.
    pub(super) fn wait_for_route(&mut self, mode: MessageMode, vector: u16) {
        let format = self.format;
        let messages = self.messages(mode);
        let state = *messages.of(vector);
        let target = state.told.and_then(|message| format.encode(message).target());
        let routed = target.is_some();
        if state.live && state.gsi.is_some() && routed && !messages.half_written.contains(vector) {
            messages.waiting.insert(vector);
            self.routes.call_again(Wait::Commit);
        }
    }
}
