//! Implementations of MSI-X that the registry has, as subjects of the conformance suite: their behaviour is
//! observed through their public types or their socket. `PEERS.md` says what was found.

/// Declines groups of an adapter.
macro_rules! nothing {
    ($($group:ident: $what:ident),*) => {$(
        fn $group(&mut self) -> Option<&mut dyn msix_conformance::$what> {
            None
        }
    )*};
}

pub mod alioth;
pub mod peer;
pub mod usbvfiod;
