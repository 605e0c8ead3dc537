//! Saving and loading a device. Only the master migrates (E6); the shared memory goes with the guest's
//! RAM, which is the VMM's to move.

use super::config::LEN;
use super::device::IvshmemDevice;
use super::platform::Board;
use serde::{Deserialize, Serialize};

/// Why a device is not saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceSaveError {
    /// The guest's peers would stay behind.
    #[error("a peer of the shared memory does not migrate; only the master does, mostly id 0")]
    Peer,
}

/// Why a snapshot is refused. The device is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceLoadError {
    /// Into a peer.
    #[error(transparent)]
    Peer(#[from] DeviceSaveError),
    /// Not the snapshot of an ivshmem device.
    #[error("the snapshot cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Of another version.
    #[error("snapshot version {0}, this is version {VERSION}")]
    Version(u32),
    /// Configuration space of another length.
    #[error("{0} bytes of configuration space instead of {LEN}")]
    ConfigLength(usize),
    /// Of another device: another revision, other BAR sizes, another pin.
    #[error("another device: byte {0:#x} of configuration space differs")]
    OtherDevice(usize),
    /// One interrupts, the other is a plain device.
    #[error("one of the devices has interrupts, the other has not")]
    OtherInterrupt,
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] msix_core::LoadError),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDevice {
    ivshmem: u32,
    config: Vec<u8>,
    mask: u32,
    status: u32,
    function: Option<Vec<u8>>,
}

const VERSION: u32 = 2;

impl<B: Board> IvshmemDevice<B> {
    /// Saves the device's state, with the events that its eventfds still hold (C42).
    ///
    /// # Errors
    /// [`DeviceSaveError::Peer`].
    pub fn save(&self) -> Result<Vec<u8>, DeviceSaveError> {
        if !self.is_master() {
            return Err(DeviceSaveError::Peer);
        }
        let registers = self.interrupt.registers();
        let state = SavedDevice {
            ivshmem: VERSION,
            config: self.config.bytes().to_vec(),
            mask: registers.mask,
            status: registers.status,
            function: self.function.as_ref().map(|function| function.save()),
        };
        Ok(serde_json::to_vec(&state).unwrap_or_default()) // plain data always is written
    }

    /// Takes over the state of a device like this one. The host hears nothing of it before
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`DeviceLoadError`].
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), DeviceLoadError> {
        if !self.is_master() {
            return Err(DeviceSaveError::Peer.into());
        }
        let state: SavedDevice = serde_json::from_slice(bytes)?;
        if state.ivshmem != VERSION {
            return Err(DeviceLoadError::Version(state.ivshmem));
        }
        let len = state.config.len();
        let config =
            <[u8; LEN]>::try_from(state.config).map_err(|_| DeviceLoadError::ConfigLength(len))?;
        let config = self.config.restored(&config).map_err(DeviceLoadError::OtherDevice)?;
        match (&self.function, &state.function) {
            (Some(function), Some(saved)) => function.load(saved)?,
            (None, None) => {}
            _ => return Err(DeviceLoadError::OtherInterrupt),
        }
        self.config = config;
        self.interrupt.set(|registers| {
            registers.mask = state.mask;
            registers.status = state.status;
        });
        Ok(())
    }

    /// Ends a load, and arms on the host whatever is to be delivered (C44).
    pub fn resume(&mut self) {
        if let Some(function) = &self.function {
            function.resume();
        }
        self.apply_command();
    }
}
