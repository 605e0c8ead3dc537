//! Saves and loads a function as plain data.

use super::Function;
use crate::kvm::platform::Platform;
use msix_core::LoadError;
use msix_core::plain::FunctionSnapshot;

impl<P: Platform> Function<P> {
    /// Returns the registers as plain data ([`msix_core::Function::snapshot`]), for a VMM with an
    /// encoding of its own, and to write what another program loads ([`msix_core::plain`]). As
    /// [`save`](Self::save), it includes events that were still in eventfds (C42) and sends those of
    /// them that the guest lets through.
    #[must_use]
    pub fn snapshot(&self) -> FunctionSnapshot {
        self.shared.saved(|engine| engine.snapshot())
    }

    /// Loads plain data ([`msix_core::Function::load_snapshot`]), for instance of what another program
    /// saved ([`msix_core::plain`]). Without claims in it, the claims stay as they are. Nothing is
    /// delivered before [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`LoadError`]; the function is then as it was.
    pub fn load_snapshot(&self, snapshot: &FunctionSnapshot) -> Result<(), LoadError> {
        self.shared.loaded(|engine| engine.load_snapshot(snapshot))
    }
}
