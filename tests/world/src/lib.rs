//! A world around the real function on KVM, and a judge of all that it does.

mod closing;
mod controller;
mod defect;
mod device;
mod input;
mod judge;
mod kernel;
mod ledger;
mod naive;
mod outside;
mod search;
mod setup;
mod state;
mod world;

pub use defect::Defect;
pub use input::{Call, Input};
pub use search::{Bounds, Counterexample, Searched, play, search};
pub use setup::{Behind, MsiShape, Producers, Setup};
pub use world::{Violation, World};
