//! A function on KVM, for C: `msix_backends::kvm`.

mod config;
mod counters;
mod device;
mod function;
mod guest;
mod mode;
mod routes;
mod snapshot;

pub use config::*;
pub use counters::*;
pub use device::*;
pub use function::*;
pub use guest::*;
pub use mode::*;
pub use routes::*;
pub use snapshot::*;
