//! The registers of a whole function as plain data.

use crate::function::{Function, KEPT};
use crate::intx::{Intx, IntxSource};
use crate::msi::Msi;
use crate::msix::{Msix, Snapshot};
use crate::snapshot::LoadError;
use crate::storage::Storage;
use alloc::vec::Vec;

/// The content of [`Function::save`] as plain data. Nothing in it is trusted: it becomes a state only
/// through [`Function::load_snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FunctionSnapshot {
    /// The Command register. Bits that a function does not keep ([`Function::command`]) are ignored.
    pub command: u16,
    /// The level of an emulated device's pin.
    pub level: bool,
    /// The MSI capability, if the function has one.
    pub msi: Option<MsiSnapshot>,
    /// MSI-X, if the function has it.
    pub msix: Option<Snapshot>,
}

/// The MSI capability as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MsiSnapshot {
    /// The capability as the guest reads it, 10 to 24 bytes. The next pointer is ignored.
    pub capability: Vec<u8>,
    /// The device vectors with an event that is not sent, a bit each. `None` when they were not saved:
    /// those of the pending register are taken then, where there is one. The register alone does not say
    /// all: it shows the events of several device vectors as one where the guest allocated fewer.
    #[cfg_attr(feature = "serde", serde(default))]
    pub events: Option<u32>,
}

impl<S: Storage> Function<S> {
    /// Returns the registers as plain data. Call [`prepare_save`](Self::prepare_save) first.
    #[must_use]
    pub fn snapshot(&self) -> FunctionSnapshot {
        FunctionSnapshot {
            command: self.command,
            level: self.intx.as_ref().is_some_and(Intx::level),
            msi: self.msi.as_ref().map(Msi::snapshot),
            msix: self.msix.as_ref().map(Msix::snapshot),
        }
    }

    /// Loads plain data, as [`load`](Self::load) does; [`resume`](Self::resume) must follow.
    ///
    /// # Errors
    /// [`LoadError`]; the state is as it was. [`LoadError::Function`] when the parts are not this
    /// function's, or `level` is set without an emulated pin.
    pub fn load_snapshot(&mut self, snapshot: &FunctionSnapshot) -> Result<(), LoadError> {
        let emulated = self.intx.as_ref().is_some_and(|i| i.source == IntxSource::Emulated);
        let FunctionSnapshot { command, level, msi, msix } = snapshot;
        if *level && !emulated
            || (msi.is_some(), msix.is_some()) != (self.msi.is_some(), self.msix.is_some())
        {
            return Err(LoadError::Function);
        }
        let checked = match (&self.msi, msi) {
            (Some(part), Some(msi)) => Some(part.checked_plain(msi)?),
            _ => None,
        };
        if let (Some(part), Some(msix)) = (&mut self.msix, msix) {
            part.load_snapshot(msix)?; // the last thing that can be refused
        }
        self.replace(command & KEPT, *level, checked);
        Ok(())
    }
}
