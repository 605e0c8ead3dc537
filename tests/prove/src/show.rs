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

/// Notes the input of a harness, for the script. `?` in it is a number that a script has no room for.
#[macro_export]
macro_rules! input {
    ($operation:expr) => {
        #[cfg(feature = "native")]
        {
            use msix_core::operation::Operation;
            $crate::replay::input(|| Some($operation));
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
