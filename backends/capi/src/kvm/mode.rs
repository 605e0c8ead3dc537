//! How a function interrupts.

use crate::error::CError;
use msix_core::Mode;

/// How a function interrupts now.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CMode {
    /// Not at all: MSI and MSI-X are disabled or missing, and so is the pin.
    None = 0,
    /// By its pin.
    Intx = 1,
    /// By MSI.
    Msi = 2,
    /// By MSI-X.
    Msix = 3,
}

/// The modes in the order of their numbers.
const MODES: [Mode; 4] = [Mode::None, Mode::Intx, Mode::Msi, Mode::MsiX];

pub(crate) fn mode(number: u32) -> Result<Mode, CError> {
    let index = usize::try_from(number).map_err(|_| CError::Value)?;
    MODES.get(index).copied().ok_or(CError::Value)
}

pub(crate) fn number(mode: Mode) -> core::ffi::c_int {
    (0..).zip(MODES).find(|(_, listed)| *listed == mode).map_or(0, |(number, _)| number)
}
