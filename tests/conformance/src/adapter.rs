//! The traits of an adapter: one for a device, one that makes devices, one for each optional group.
//!
//! [`Device`] has the nine things every implementation can do, and one accessor for each group
//! that some cannot. No method has a default: what an adapter does not offer it says, by answering
//! `None`, and the cases that need it are reported as not observable, never as passed.

use super::choices::Choices;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::fmt;
pub use msix_core::Message;

/// Why a call was refused, in the words of the implementation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl Refused {
    /// Takes the words of an error of the implementation.
    #[must_use]
    pub fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Why there is no device of the count asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoDevice {
    /// The implementation says that no function can have so many vectors.
    Refused(String),
    /// The implementation may allow it, but this adapter cannot make one.
    NotOffered(String),
}

/// An implementation under test: makes devices, and says which choices it made.
pub trait Subject {
    /// Returns a name for the report.
    fn name(&self) -> String;

    /// Returns its choices where the rules leave one. Start from [`Choices::UNKNOWN`].
    fn choices(&self) -> Choices;

    /// Makes a device with `vectors` vectors in its power-on state: MSI-X disabled, bus master on, and,
    /// where these are offered, a backend attached and no vector claimed.
    ///
    /// # Errors
    /// [`NoDevice`].
    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice>;

    /// Offers how it lays out and checks BARs (C47, C48).
    fn layouts(&self) -> Option<&dyn Layouts>;
}

/// One function with MSI-X. Offsets are from the start of the structure they name; accesses may
/// have any width and alignment, and may lie outside the structure.
pub trait Device {
    /// Reads as a guest, at byte `offset` of the 12-byte capability.
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]);
    /// Writes as a guest, at byte `offset` of the 12-byte capability.
    fn write_config(&mut self, offset: usize, bytes: &[u8]);
    /// Reads as a guest, at byte `offset` of the table.
    fn read_table(&mut self, offset: u64, bytes: &mut [u8]);
    /// Writes as a guest, at byte `offset` of the table.
    fn write_table(&mut self, offset: u64, bytes: &[u8]);
    /// Reads as a guest, at byte `offset` of the PBA.
    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]);
    /// Writes as a guest, at byte `offset` of the PBA.
    fn write_pba(&mut self, offset: u64, bytes: &[u8]);
    /// Makes the device have an event for `vector`, by the path it takes in this implementation.
    ///
    /// # Errors
    /// [`Refused`] for a vector outside the table. An event that is dropped is not an error.
    fn fire(&mut self, vector: u32) -> Result<(), Refused>;
    /// Takes the messages sent since the last call, in order, whoever sent them.
    fn messages(&mut self) -> Vec<Message>;

    /// Offers the device's claims of vectors (C24).
    fn claims(&mut self) -> Option<&mut dyn Claims>;
    /// Offers to take a pending event back (A8).
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal>;
    /// Offers masks and messages that the platform sets instead of the guest (G1, H10).
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel>;
    /// Offers function reset (A13).
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset>;
    /// Offers Bus Master Enable (A11).
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster>;
    /// Offers the calls to the device's INTx line (A10).
    fn intx(&mut self) -> Option<&mut dyn IntxLog>;
    /// Offers the calls to the host.
    fn host_log(&mut self) -> Option<&mut dyn HostLog>;
    /// Offers a host that fails and holds events on demand.
    fn host_script(&mut self) -> Option<&mut dyn HostScript>;
    /// Offers the calls of a KVM- or VFIO-like backend to the kernel.
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog>;
    /// Offers to attach and detach a backend.
    fn attachment(&mut self) -> Option<&mut dyn Attachment>;
    /// Offers snapshots in the implementation's own encoding.
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots>;
    /// Offers QEMU's encoding of the msix field (F3).
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField>;
}

/// Claims: how many users in the device each vector has.
pub trait Claims {
    /// Adds a claim.
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn claim(&mut self, vector: u32) -> Result<(), Refused>;
    /// Removes a claim; does nothing where there is none.
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn unclaim(&mut self, vector: u32) -> Result<(), Refused>;
    /// Returns how many claims there are.
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn count(&mut self, vector: u32) -> Result<u32, Refused>;
}

/// The cause of an event was satisfied before it could be delivered (A8).
pub trait Withdrawal {
    /// Takes the pending event of `vector` back.
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused>;
}

/// Side channels of paravirtual platforms.
pub trait SideChannel {
    /// Sets or clears the mask bit.
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused>;
    /// Programs the entry and unmasks it (H10).
    ///
    /// # Errors
    /// [`Refused`] outside the table.
    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused>;
}

/// Function reset.
pub trait FunctionReset {
    /// Conventional or function-level reset. Bus master keeps its state.
    fn reset(&mut self);
}

/// Bus Master Enable.
pub trait BusMaster {
    /// Bit 2 of the Command register is now `on`.
    fn set_bus_master(&mut self, on: bool);
}

/// One thing the device was asked to do with its INTx line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntxCall {
    /// Lower the line.
    Deassert,
    /// Drive the line as the device's status says.
    Reevaluate,
}

/// The INTx log.
pub trait IntxLog {
    /// Takes the calls since the last call of this, in order.
    fn calls(&mut self) -> Vec<IntxCall>;
}

/// One thing the host was asked to do for one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCall {
    /// Deliver its events from now on, with this message. Attempts that fail are logged too.
    Arm {
        /// The vector.
        vector: u16,
        /// Its message.
        message: Message,
    },
    /// Stop that.
    Disarm {
        /// The vector.
        vector: u16,
    },
    /// The message of an armed vector is now this one.
    Reroute {
        /// The vector.
        vector: u16,
        /// Its message.
        message: Message,
    },
    /// Send this message once, from userspace.
    Send {
        /// The vector.
        vector: u16,
        /// Its message.
        message: Message,
    },
    /// Say whether it holds events.
    Poll {
        /// The vector.
        vector: u16,
    },
    /// Throw away the events it holds.
    Drain {
        /// The vector.
        vector: u16,
    },
}

/// The log of what the host was asked for.
pub trait HostLog {
    /// The calls since the last call of this, in order.
    fn calls(&mut self) -> Vec<HostCall>;
}

/// A host that does what a case asks for.
pub trait HostScript {
    /// From now on every Arm of `vector` fails, or works again.
    fn fail_arm(&mut self, vector: u16, fail: bool);
    /// The host sees an event of `vector` (an eventfd is written): it delivers it if the vector is
    /// armed, and holds it otherwise.
    fn signal(&mut self, vector: u16);
}

/// One thing a backend asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendCall {
    /// A route of `vector` was put into the table to be committed, or changed there.
    Route {
        /// The vector.
        vector: u16,
    },
    /// The route of `vector` was taken out of the table to be committed, its GSI given back.
    Unroute {
        /// The vector.
        vector: u16,
    },
    /// The route table was committed (`KVM_SET_GSI_ROUTING`).
    Commit,
    /// Events of `vector` are delivered by the kernel from now on (irqfd assigned).
    Arm {
        /// The vector.
        vector: u16,
    },
    /// They are not (irqfd deassigned).
    Disarm {
        /// The vector.
        vector: u16,
    },
    /// `VFIO_DEVICE_SET_IRQS`.
    SetIrqs,
}

/// The log of what a backend asked of the kernel.
pub trait BackendLog {
    /// The calls since the last call of this, in order.
    fn calls(&mut self) -> Vec<BackendCall>;
}

/// A backend that comes and goes.
pub trait Attachment {
    /// It listens from now on.
    fn attach(&mut self);
    /// It goes away.
    fn detach(&mut self);
}

/// Snapshots in the implementation's own encoding.
pub trait Snapshots {
    /// The state, with whatever a save takes (collecting what the host holds, for one).
    fn save(&mut self) -> Vec<u8>;
    /// Takes over a state; [`resume`](Self::resume) then asks the host for what it takes.
    ///
    /// # Errors
    /// [`Refused`], with everything as it was.
    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused>;
    /// Ends a load.
    fn resume(&mut self);
}

/// QEMU's encoding: the table, then ceil(N / 8) bytes of PBA.
pub trait QemuField {
    /// The field, with whatever a save takes.
    fn save_field(&mut self) -> Vec<u8>;
    /// Takes over a field and Message Control from config space, with
    /// [`resume_field`](Self::resume_field) to follow.
    ///
    /// # Errors
    /// [`Refused`], with everything as it was.
    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused>;
    /// Ends a load.
    fn resume_field(&mut self);
}

/// Where table and PBA shall lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Vectors.
    pub vectors: u32,
    /// BAR index and byte offset of the table.
    pub table: (u8, u64),
    /// BAR index and byte offset of the PBA.
    pub pba: (u8, u64),
    /// Sizes of the six BARs, bytes; 0: not there.
    pub bar_sizes: [u64; 6],
}

/// A BAR for nothing but table and PBA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExclusiveBar {
    /// Offset of the table, bytes.
    pub table: u64,
    /// Offset of the PBA, bytes.
    pub pba: u64,
    /// Size of the BAR, bytes.
    pub size: u64,
}

/// How BARs are laid out and checked.
pub trait Layouts {
    /// The layout for `vectors` vectors in a BAR of its own.
    ///
    /// # Errors
    /// [`Refused`] outside 1 to 2048.
    fn exclusive_bar(&self, vectors: u32) -> Result<ExclusiveBar, Refused>;
    /// Whether a placement is fine.
    ///
    /// # Errors
    /// [`Refused`] with the reason.
    fn check(&self, placement: &Placement) -> Result<(), Refused>;
}
