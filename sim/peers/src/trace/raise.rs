//! The trace events in which a device model names the vector it raises.

/// One such event. None of them says which device of its kind it was.
#[derive(Debug, PartialEq, Eq)]
pub struct RaiseEvent {
    /// The event's name.
    pub name: &'static str,
    /// The type names of the devices that emit it.
    pub devices: &'static [&'static str],
    /// Whether such a device sends no message without this event before it. Then a message more
    /// than the raises account for is a mismatch; otherwise it is a raise that was not named.
    pub complete: bool,
    /// The words before the vector, each followed by a space.
    pub(super) words: &'static [&'static str],
    /// How the vector is written.
    pub(super) radix: Radix,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Radix {
    Decimal,
    Hexadecimal,
}

impl RaiseEvent {
    /// All that are understood. The formats are those in the strings of Debian's QEMU 7.2.
    ///
    /// Left out on purpose: `virtio_notify` names a queue, not a vector, and is an event of its own;
    /// `e1000e_irq_msix_notify_postponed_vec` is followed by `e1000e_irq_msix_notify_vec` in some
    /// versions and stands alone in others (which is also why e1000e is not `complete`);
    /// `usb_xhci_irq_msix` is in QEMU 7.2, and its USB controllers emit it never; and
    /// `usb_xhci_queue_event` names the vector, but owes a message only if the driver has taken the events
    /// before it, which no event says.
    pub const ALL: [Self; 3] = [
        Self {
            name: "pci_nvme_irq_msix",
            devices: &["nvme"],
            complete: true,
            words: &["raising", "MSI-X", "IRQ", "vector"],
            radix: Radix::Decimal,
        },
        Self {
            name: "e1000e_irq_msix_notify_vec",
            devices: &["e1000e"],
            complete: false,
            words: &["MSI-X", "notify", "vector"],
            radix: Radix::Hexadecimal,
        },
        Self {
            name: "megasas_msix_raise",
            devices: &["megasas", "megasas-gen2"],
            complete: false,
            words: &["vector"],
            radix: Radix::Decimal,
        },
    ];
}
