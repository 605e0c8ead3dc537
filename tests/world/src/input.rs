//! The alphabet: everything that can happen to a function, by whoever does it.

/// One thing that happens. A vector is a device's vector; `0` and `1` in an `alt` are two values that
/// a guest writes, so that a rewrite is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// Guest: Message Control of MSI-X, its high byte.
    MsixControl {
        /// MSI-X Enable.
        enable: bool,
        /// Function Mask.
        mask: bool,
    },
    /// Guest: Vector Control of an entry.
    Mask(u8, bool),
    /// Guest: an entry's address in one QWORD.
    Address(u8, bool),
    /// Guest: the low half of an entry's address.
    AddressLow(u8, bool),
    /// Guest: the high half of an entry's address. With 1 it is no interrupt's.
    AddressHigh(u8, bool),
    /// Guest: an entry's data.
    Data(u8, bool),
    /// Guest: an entry's data and Vector Control in one QWORD.
    DataAndMask(u8, bool, bool),
    /// Guest: Message Control of MSI, its low byte.
    MsiControl {
        /// MSI Enable.
        enable: bool,
        /// Multiple Message Enable, cut to 2 bits.
        log: u8,
    },
    /// Guest: the mask bits of MSI.
    MsiMask(u8),
    /// Guest: all of MSI's address.
    MsiAddress(bool),
    /// Guest: the low half of MSI's address.
    MsiAddressLow(bool),
    /// Guest: its high half.
    MsiAddressHigh(bool),
    /// Guest: the data of MSI.
    MsiData(bool),
    /// Guest: one byte in the middle of the address of MSI.
    MsiAddressByte(bool),
    /// Guest: the Command register.
    Command {
        /// Bus Master Enable.
        bus_master: bool,
        /// Interrupt Disable.
        intx_disable: bool,
    },
    /// Guest: reads all of the MSI-X capability and the table.
    ReadMsix,
    /// Guest: reads the PBA.
    ReadPba,
    /// Guest: reads all of the MSI capability.
    ReadMsi,
    /// Guest: reads Command and Status.
    ReadStatus,
    /// Guest: acknowledges the pin.
    Eoi,
    /// Device: an event.
    Event(u8),
    /// Device: the level of its pin.
    Level(bool),
    /// Device: the cause of an event is gone.
    Withdraw(u8),
    /// Device: claims a vector once more.
    Claim(u8),
    /// Device: one claim less.
    Unclaim(u8),
    /// Somebody else writes a vector's eventfd.
    Produce(u8),
    /// Somebody else's eventfd of a vector is connected; a second one is refused.
    Connect(u8),
    /// Platform: its I/O APIC has other routes.
    KeepRoutes(bool),
    /// Platform: a backend listens.
    Attach,
    /// Platform: none does.
    Detach,
    /// Platform: takes a snapshot, and keeps it.
    Save,
    /// Platform: loads the snapshot into this function.
    Load,
    /// Platform: the process ends, and a new one makes the function anew and loads the snapshot. The
    /// device is still as it was.
    NewProcess,
    /// Platform: ends a load.
    Resume,
    /// Platform: resets the function; an emulated device claims its vectors again.
    Reset,
    /// The loop of the VMM runs once, and commits what waits.
    Loop,
    /// Kernel: the next call of a kind fails.
    Fail(Call),
}

/// A kind of call that a kernel can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// KVM_SET_GSI_ROUTING.
    Commit,
    /// KVM_IRQFD.
    Assign,
    /// KVM_IRQFD to undo it.
    Deassign,
    /// KVM_SIGNAL_MSI.
    Signal,
    /// KVM_IRQFD with resampling.
    Resample,
    /// VFIO_DEVICE_SET_IRQS that binds.
    SetIrqs,
    /// The same that disables MSI-X.
    Disable,
}

impl Call {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Commit,
        Self::Assign,
        Self::Deassign,
        Self::Signal,
        Self::Resample,
        Self::SetIrqs,
        Self::Disable,
    ];
}
