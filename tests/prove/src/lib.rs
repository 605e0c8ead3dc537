//! Harnesses for the prover, one for each input of the engine.
//!
//! Each takes the memory of an engine in any state, assumes that one arbitrary vector `v` satisfies the
//! induction hypothesis ([`case::Case::sound`]), gives the engine any input, and proves three things:
//! `v` is as the rules for one vector say, the list of effects is in order, and `v` satisfies the
//! hypothesis again. All other vectors are in any state, even one that no input leads to. So what the
//! engine does with a vector depends on no other.
//!
//! `../prover` executes the compiled harnesses symbolically. With the feature `native` they also run on
//! one state, to test the prover and to check what it finds.
#![cfg_attr(not(feature = "native"), no_std)]

pub mod any;
pub mod case;
pub mod engine;
pub mod function;
mod inputs;
pub mod msi;
pub mod pin;
#[cfg(feature = "native")]
pub mod replay;
mod rule;
pub mod show;
pub mod sink;

pub use inputs::{HARNESSES, Harness};

#[cfg(not(feature = "native"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    any::panicked()
}
