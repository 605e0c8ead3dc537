//! Searches the histories of one vector as deep as time allows, and prints one line of figures.
//!
//! `cargo run --release -p msix-world --example explore -- SETUP [SECONDS] [DEPTH] [failures] [threads=N]
//! [states=N] [-INPUT]..`; without arguments it names the setups. `SECONDS` (60) are processor time by
//! thread, so that it may run beside others (`nice`). The search ends at `states` states (30 million, about
//! 200 bytes each) too. `-Input` leaves out the inputs whose names begin so.

use msix_world::{Bounds, Setup, search};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chosen = arguments.next().unwrap_or_default();
    let setups = Setup::single();
    let Some((name, setup)) = setups.iter().find(|(name, _)| *name == chosen) else {
        setups.iter().for_each(|(name, _)| println!("{name}"));
        return if chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let mut bounds = Bounds { time: Duration::from_secs(60), ..Bounds::default() };
    let mut alphabet = setup.alphabet();
    let mut numbers = 0;
    let mut what = String::new();
    for argument in arguments {
        let known = if argument == "failures" {
            alphabet.extend(setup.failures());
            what.push_str(", failures");
            Some(())
        } else if let Some(threads) = argument.strip_prefix("threads=") {
            threads.parse().ok().map(|threads| bounds.threads = threads)
        } else if let Some(states) = argument.strip_prefix("states=") {
            states.parse().ok().map(|states| bounds.states = states)
        } else if let Some(input) = argument.strip_prefix('-') {
            alphabet.retain(|other| !format!("{other:?}").starts_with(input));
            what.push_str(&format!(", no {input}"));
            Some(())
        } else {
            numbers += 1;
            argument.parse().ok().map(|number: u64| match numbers {
                1 => bounds.time = Duration::from_secs(number),
                _ => bounds.depth = number as usize,
            })
        };
        if known.is_none() {
            eprintln!("{argument}?");
            return ExitCode::FAILURE;
        }
    }
    let searched = search(*setup, None, &alphabet, bounds);
    println!("{name}{what}: {searched}");
    match searched.found {
        Some(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
