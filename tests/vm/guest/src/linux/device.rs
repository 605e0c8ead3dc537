//! The device, beside its driver: its registers through sysfs.

use crate::boot;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory as _};

/// The random number generator of the toy VMM.
pub(crate) struct Device {
    folder: PathBuf,
    config: File,
    bar: MmapRegion,
    /// Where its MSI-X capability is.
    capability: u64,
    table: usize,
    pba: usize,
}

/// What stops events: the vector's mask bit, or that of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    Vector,
    Function,
}

impl Device {
    /// Finds it, with its driver.
    pub(crate) fn find() -> Result<Self, String> {
        let found = boot::functions(0x1af4, 0x1044)?;
        let folder = found.into_iter().next().ok_or("no random number generator on the bus")?;
        let open = |name: &str| {
            let path = folder.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        let bar = open("resource0")?;
        let len = bar.metadata().map_err(text)?.len();
        let bar = MmapRegion::from_file(FileOffset::new(bar, 0), len as usize).map_err(text)?;
        let config = open("config")?;
        let capability = capability(&config)?;
        let place = |at: u64| {
            let mut register = [0; 4];
            config.read_exact_at(&mut register, capability + at).map_err(text)?;
            match u32::from_le_bytes(register) {
                offset if offset & 7 == 0 => Ok(offset as usize),
                other => Err(format!("table or PBA in another BAR: {other:#x}")),
            }
        };
        let (table, pba) = (place(4)?, place(8)?);
        Ok(Self { folder, config, bar, capability, table, pba })
    }

    /// Its folder in sysfs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets or clears a mask.
    pub(crate) fn mask(&self, mask: Mask, on: bool) -> Result<(), String> {
        match mask {
            Mask::Vector => {
                self.register(self.table + 16 * VECTOR + 12)?.store(on.into(), Ordering::SeqCst);
                Ok(())
            }
            Mask::Function => {
                let at = self.capability + 3;
                let mut control = [0];
                self.config.read_exact_at(&mut control, at).map_err(text)?;
                control[0] = control[0] & !FUNCTION_MASK | if on { FUNCTION_MASK } else { 0 };
                self.config.write_all_at(&control, at).map_err(text)
            }
        }
    }

    /// Whether the vector has its pending bit set.
    pub(crate) fn is_pending(&self) -> Result<bool, String> {
        Ok(self.register(self.pba)?.load(Ordering::SeqCst) >> VECTOR & 1 != 0)
    }

    /// Has the worker outside write the vector's eventfd so many times, and does not wait for it.
    pub(crate) fn order(&self, times: u32) -> Result<(), String> {
        self.register(OUTSIDE)?.store(times, Ordering::SeqCst);
        Ok(())
    }

    /// How often the worker has written it.
    pub(crate) fn written(&self) -> Result<u32, String> {
        Ok(self.register(OUTSIDE)?.load(Ordering::SeqCst))
    }

    /// How often the device itself began to raise an interrupt.
    pub(crate) fn raised(&self) -> Result<u32, String> {
        Ok(self.register(OUTSIDE + 4)?.load(Ordering::SeqCst))
    }

    /// Whether it is about to raise one.
    pub(crate) fn is_raising(&self) -> Result<bool, String> {
        let done = self.register(OUTSIDE + 8)?.load(Ordering::SeqCst);
        Ok(self.raised()? != done)
    }

    fn register(&self, at: usize) -> Result<&AtomicU32, String> {
        self.bar.get_atomic_ref(at).map_err(text)
    }
}

/// Finds the MSI-X capability.
fn capability(config: &File) -> Result<u64, String> {
    let byte = |at: u64| {
        let mut byte = [0];
        config.read_exact_at(&mut byte, at).map_err(text)?;
        Ok::<u64, String>(byte[0].into())
    };
    let mut at = byte(0x34)?;
    for _ in 0..48 {
        if byte(at)? == 0x11 {
            return Ok(at);
        }
        at = byte(at + 1)?;
    }
    Err("no MSI-X capability".to_owned())
}

/// Reads a file of sysfs or procfs.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file of sysfs or procfs.
pub(crate) fn write(path: &Path, what: &str) -> Result<(), String> {
    fs::write(path, what).map_err(|error| format!("{what} to {}: {error}", path.display()))
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The vector of the queue: the driver has the other one for changes of the configuration.
const VECTOR: usize = 1;
/// Message Control, high byte.
const FUNCTION_MASK: u8 = 0x40;
/// The registers of the worker outside.
const OUTSIDE: usize = 0x2000;
