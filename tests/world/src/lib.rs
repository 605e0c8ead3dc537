//! A world around the real function on KVM, and a judge of all that it does.

mod closing;
mod construct;
mod controller;
mod defect;
mod device;
mod events;
mod input;
mod judge;
mod kernel;
mod ledger;
mod naive;
mod outside;
mod platform;
mod reads;
mod search;
mod setup;
mod state;
mod world;
mod writes;

pub use defect::Defect;
pub use input::{Call, Input};
pub use search::{Bounds, Counterexample, Searched, play, search};
pub use setup::{Behind, MsiShape, Producers, Setup};
pub use world::{Violation, World};
