//! What machine to be.

use crate::replay::Peer;
use msix_core::Policy;
use msix_core::policy::WhileDisabled;
use msix_ivshmem::{DeviceOptions, Width};
use rustix::fs::{MemfdFlags, OFlags, fstat, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// What to be.
#[derive(Debug, Clone)]
pub struct Front {
    /// Where the harness listens for qtest.
    pub qtest: PathBuf,
    /// Where it listens for QMP.
    pub qmp: Vec<PathBuf>,
    /// The host bridge.
    pub machine: MachineKind,
    /// RAM, bytes: 1 MiB to 2 GiB.
    pub memory: u64,
    /// Devices, each in a slot of its own.
    pub devices: Vec<SeatedDevice>,
    /// Whom the devices agree with.
    pub policy: Peer,
    /// Whether QMP says that the machine is stopped. There are no processors in either case.
    pub stopped: bool,
    /// A file that every line of qtest and its answer is logged to.
    pub log: Option<PathBuf>,
    /// A file that every message is logged to, as QEMU's trace logs it.
    pub trace: Option<PathBuf>,
}

/// Which of QEMU's machines this is in place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MachineKind {
    /// 8086:1237.
    #[default]
    Pc,
    /// 8086:29c0, with configuration space in memory.
    Q35,
    /// Neither a bridge nor RAM.
    None,
}

/// A device and its PCI slot, 1 to 31.
#[derive(Debug, Clone)]
pub struct SeatedDevice {
    /// Its slot.
    pub slot: u8,
    /// What it is.
    pub kind: DeviceKind,
}

/// Which of QEMU's two devices.
#[derive(Debug, Clone)]
pub enum DeviceKind {
    /// `ivshmem-doorbell`.
    Doorbell {
        /// Where the ivshmem server listens.
        server: PathBuf,
        /// Vectors, 1 to 2048.
        vectors: u16,
    },
    /// `ivshmem-plain`.
    Plain {
        /// The shared memory.
        memory: Backing,
    },
}

/// Shared memory of a plain device.
#[derive(Debug, Clone)]
pub enum Backing {
    /// A file, which is made, and made longer, if it must be.
    File {
        /// Which.
        path: PathBuf,
        /// Bytes of it.
        size: u64,
    },
    /// Memory of this process.
    Anonymous {
        /// Bytes of it.
        size: u64,
    },
}

impl Backing {
    /// Opens it.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Anonymous { size } => {
                let memory = memfd_create("msix-qtest", MemfdFlags::CLOEXEC)?;
                ftruncate(&memory, *size)?;
                Ok(memory)
            }
            Self::File { path, size } => {
                // A pipe without a writer must not stop it.
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
                let file = options.open(path)?;
                let len = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
                if len == 0 {
                    file.set_len(*size)?;
                } else if len != *size {
                    let what = format!("{len} bytes long, and {size} are asked for");
                    return Err(io::Error::other(what));
                }
                Ok(file.into())
            }
        }
    }
}

impl Front {
    /// The devices of this policy.
    pub(super) fn options(&self, vectors: u16) -> DeviceOptions {
        let mut options = DeviceOptions::new(vectors);
        if self.policy == Peer::Qemu {
            // H3: QEMU's ivshmem device drops an event while MSI-X is disabled.
            options.policy = Policy { while_disabled: WhileDisabled::Drop, ..Policy::QEMU };
        }
        options.width = self.width();
        options
    }

    pub(super) fn width(&self) -> Width {
        if self.policy == Peer::Qemu { Width::Qemu } else { Width::Strict }
    }
}
