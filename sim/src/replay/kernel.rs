//! Replays a recording of what the kernel traces of KVM: of a guest of any VMM, whoever delivers.
//!
//! The guest's accesses to configuration space and to tables go into an engine for each function, as from
//! QEMU's log. What differs:
//!
//! - A device is told by its *BARs*: from configuration accesses in the recording (ports 0xcf8 and
//!   0xcfc, or an ECAM), or from a [`Machine`] that is given.
//! - A write is traced *before* the VMM sees it. Until the thread that made it runs its guest again, it
//!   is in flight: a message of the entry it is to is undecided unless it may be sent in any case.
//! - A *delivery* is `kvm_msi_set_irq` that is followed by `kvm_apic_accept_irq` on the same thread,
//!   where that event is recorded. KVM takes messages apart for other reasons too: when it looks for
//!   the levels of I/O APIC pins, when it posts interrupts of devices, and once more when a first try
//!   would have had to wait. Without `kvm_apic_accept_irq` every one is taken for a delivery.
//! - The recording has no *raises*. A delivery of exactly one live entry is one. So is a pending bit
//!   that reads 1. So a message that is lost shows only if its event was seen to be pending.
//! - A delivery of a blocked entry, of an entry's message from before it was rewritten, or of halves of
//!   both, is a mismatch, if no other interrupt of the recording can be meant: every function with an
//!   MSI-X capability must be known, and all of their entries that may send.
//!
//! No such recording shows an event that was lost before it was pending, nor an interrupt that the
//! processor posts by itself: no event of the kernel tells of either.

mod accesses;
mod contents;
mod deliveries;
mod flight;
mod judge;
mod machine;
mod past;
mod sources;

use msix_core::Message;
use msix_peers::kernel_trace::DecodedMessage;

pub(super) use contents::KernelFirstPass;
pub(super) use judge::KernelReplay;
pub use machine::{Machine, MachineError, MachineFunction, TableAt};

/// What the kernel tells of a message, as the message without the bits that it does not tell.
const fn decoded(message: Message) -> Message {
    encoded(DecodedMessage::of(extended(message.address), message.data))
}

/// Bits 11:5 of an address extend the destination for guests that were offered that; KVM gets them as
/// bits 14:8 of it (K12).
const fn extended(address: u64) -> u64 {
    let extension = address >> 5 & 0x7f;
    if address >> 32 == 0 { address | extension << 40 } else { address }
}

const fn encoded(decoded: DecodedMessage) -> Message {
    let DecodedMessage { destination, vector, mode, logical, level, redirect } = decoded;
    let [low, ..] = destination.to_le_bytes();
    let high = (destination & 0xffff_ff00) as u64;
    let address = high << 32
        | 0xfee0_0000
        | (low as u64) << 12
        | (redirect as u64) << 3
        | (logical as u64) << 2;
    let data = (level as u32) << 15 | (mode as u32 & 7) << 8 | vector as u32;
    Message { address, data }
}

/// A message for people, as the kernel writes it.
fn text(message: Message) -> String {
    DecodedMessage::of(message.address, message.data).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_what_the_kernel_does_not_tell_and_nothing_else() {
        for (address, data, told) in [
            (0xfee0_1000, 0x22, (0xfee0_1000, 0x22)),
            (0xfee0_1000, 0xabcd_4022, (0xfee0_1000, 0x22)),
            (0x0000_0100_fee0_300c, 0x8731, (0x0000_0100_fee0_300c, 0x8731)),
            (0xfee0_0020, 0x41, (0x0000_0100_fee0_0000, 0x41)),
        ] {
            let got = decoded(Message { address, data });
            assert_eq!((got.address, got.data), told);
            assert_eq!(decoded(got), got);
        }
        let message = Message { address: 0xfee0_1000, data: 0x22 };
        assert_eq!(text(message), "dst 1 vec 34 (Fixed|physical|edge)");
    }
}
