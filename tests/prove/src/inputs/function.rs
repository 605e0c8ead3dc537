//! Inputs of a whole function: any of MSI-X, MSI and a pin, or some of them.

pub(super) mod check;
pub(super) mod device;
pub(super) mod guest;
pub(super) mod host;
pub(super) mod snapshot;
pub(super) mod start;
