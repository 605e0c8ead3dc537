//! What machine to run, and who plays it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What QEMU to run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Who plays the machine.
    pub player: Player,
    /// Vectors of each ivshmem-doorbell device; slots 4 and up, at most 24 devices.
    pub vectors: Vec<u16>,
    /// A migration stream to begin from.
    pub incoming: Option<PathBuf>,
}

/// What else its command line says.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// More arguments, after all others. QEMU runs in a temporary folder: a path is an absolute one. A
    /// program that takes QEMU's place ignores them.
    pub arguments: Vec<String>,
    /// A file for its log of memory accesses, which has every message.
    pub trace: Option<PathBuf>,
    /// Whether KVM delivers: then a device's eventfd can be taken by KVM, and its messages are not seen.
    pub kvm: bool,
    /// The number of vectors on the command line, instead of those in [`Setup::vectors`]: shows what
    /// QEMU says to a number that no function can have.
    pub told_vectors: Option<u32>,
}

/// Who plays the machine.
#[derive(Debug, Clone)]
pub enum Player {
    /// This QEMU, as a process.
    Qemu(PathBuf),
    /// This program, in a thread, with one device. It has no migration.
    StandIn(Arc<dyn StandIn>),
}

/// A program that takes QEMU's place: it connects to the same sockets, in the same order.
pub trait StandIn: Debug + Send + Sync {
    /// Returns what it is called.
    fn name(&self) -> String;

    /// Plays the machine until the other side closes qtest, quits by QMP, or `stop` is set.
    ///
    /// # Errors
    /// Why it ended early, for people.
    fn play(&self, sockets: &Sockets, stop: &AtomicBool) -> Result<(), String>;
}

/// What a [`StandIn`] is given.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// Where the other side listens for qtest.
    pub qtest: PathBuf,
    /// Where it listens for QMP.
    pub qmp: PathBuf,
    /// Where the ivshmem server listens.
    pub ivshmem: PathBuf,
    /// Vectors of the device.
    pub vectors: u16,
    /// PCI slot of the device.
    pub slot: u8,
    /// A file for a log of every message, as QEMU's trace log has it.
    pub trace: Option<PathBuf>,
}

impl Player {
    /// Returns whether it can be saved to a migration stream.
    #[must_use]
    pub const fn migrates(&self) -> bool {
        matches!(self, Self::Qemu(_))
    }

    /// Returns what it is called.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Qemu(_) => "QEMU".to_owned(),
            Self::StandIn(program) => program.name(),
        }
    }
}

impl From<PathBuf> for Player {
    fn from(path: PathBuf) -> Self {
        Self::Qemu(path)
    }
}

impl From<&str> for Player {
    fn from(path: &str) -> Self {
        Self::Qemu(path.into())
    }
}

/// PCI slot of device `index`.
pub(super) fn slot(index: usize) -> u8 {
    FIRST_SLOT + u8::try_from(index).unwrap_or(u8::MAX - FIRST_SLOT)
}

/// First PCI slot of the devices.
const FIRST_SLOT: u8 = 4;
/// Memory of the machine, MiB.
pub(super) const MEMORY_MIB: u32 = 64;
