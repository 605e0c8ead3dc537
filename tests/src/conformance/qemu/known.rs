//! Where QEMU 7.2 deviates, and what cannot be seen of it.

use super::super::subjects::Deviation;
use msix_conformance::fuzz::{Avoided, Exceptions};
use msix_core::operation::Operation;

const fn deviation(case: &'static str, rule: &'static str, why: &'static str) -> Deviation {
    Deviation { case, irqfd_only: false, rule, why }
}

/// The cases that the ivshmem-doorbell device of QEMU 7.2 fails.
pub const DEVIATIONS: &[Deviation] = &[
    deviation("C07", "A2", "behind the table is the rest of the BAR, which reads 0, not all ones"),
    deviation(
        "C11",
        "G8",
        "0, 2049 and 4096 vectors are refused, 65537 are cut to 16 bits and end in an abort",
    ),
    deviation("C43", "H15", "PBA bits past the last vector are taken from a stream, not refused"),
];

const NOT_COUNTED: &str = "the device claims every vector from its creation";
const NO_HOST: &str = "without KVM there is no host to call";
const NO_SCRIPT: &str = "nothing holds an event: the eventfd is read at once";

/// The cases that cannot be observed of it, and why.
pub const UNSEEN: &[(&str, &str)] = &[
    ("C22", "an eventfd cannot take an event back"),
    ("C24", NOT_COUNTED),
    ("C29", NO_HOST),
    ("C30", NO_HOST),
    ("C31", NO_HOST),
    ("C32", NO_HOST),
    ("C34", NO_HOST),
    ("C35", NO_SCRIPT),
    ("C36", NO_HOST),
    ("C37", NO_HOST),
    ("C38", NO_HOST),
    ("C39", NO_SCRIPT),
    ("C40", NO_HOST),
    ("C41", "the msix field is offered (C45), not the stream as a snapshot"),
    ("C42", NO_SCRIPT),
    ("C44", "the msix field is offered (C45), not the stream as a snapshot"),
    ("C46", "the doorbell device has no interrupt pin"),
    ("C47", "the layout cannot be asked for without a device"),
    ("C48", "the checks cannot be asked without a device"),
    ("C50", "the doorbell device has no interrupt pin"),
    ("C51", "without KVM there is no host that comes and goes"),
    ("C52", "the msix field is offered (C45), not the stream as a snapshot"),
];

/// What the fuzzer looks away from: see `QEMU.md`.
#[must_use]
pub fn exceptions() -> Exceptions {
    /// The dwords of the interrupt controller, where messages are seen.
    const CONTROLLER: std::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;
    let past_the_end = Avoided {
        why: "what is behind table and PBA reads 0, in the BAR and past it (C07)",
        avoids: |operation, vectors| {
            let (offset, len, size) = match *operation {
                Operation::WriteTable { offset, len, .. }
                | Operation::ReadTable { offset, len } => (offset, len, 16 * u32::from(vectors)),
                Operation::ReadPba { offset, len } | Operation::WritePba { offset, len } => {
                    (offset, len, 8 * u32::from(vectors).div_ceil(64))
                }
                _ => return false,
            };
            u32::from(offset) + u32::from(len) > size
        },
    };
    Exceptions {
        shows: |message| CONTROLLER.contains(&message.address) && message.address % 4 == 0,
        avoided: vec![past_the_end],
        begins: Vec::new(),
    }
}
