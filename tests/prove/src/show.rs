//! Prints a counterexample while native code runs it, if `PROVE_SHOW` is set.

#[cfg(feature = "native")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints what is given, expected or got. It is nothing where the harness is compiled for the prover.
#[macro_export]
macro_rules! show {
    ($what:expr, $value:expr) => {
        #[cfg(feature = "native")]
        if $crate::show::wanted() {
            println!("    {}: {:?}", $what, $value);
        }
    };
}

/// The state is made, and what is given from now on is the input.
#[cfg(feature = "native")]
static STARTED: AtomicBool = AtomicBool::new(false);

/// Notes whether the state is made.
#[cfg(feature = "native")]
pub fn started(is: bool) {
    STARTED.store(is, Ordering::Relaxed);
}

/// Returns whether to print.
#[cfg(feature = "native")]
pub fn wanted() -> bool {
    STARTED.load(Ordering::Relaxed) && std::env::var_os("PROVE_SHOW").is_some()
}
