//! Searches the histories of one vector as deep as time allows.
//!
//! `cargo run --release -p msix-world --example explore -- SETUP SECONDS [DEPTH] [failures] [-INPUT]..`;
//! without arguments it names the setups. `-Input` leaves out the inputs whose names begin so.

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
    let rest: Vec<String> = arguments.collect();
    let mut numbers = rest.iter().filter_map(|argument| argument.parse().ok());
    let time = Duration::from_secs(numbers.next().unwrap_or(60));
    let depth = numbers.next().map_or(usize::MAX, |depth| depth as usize);
    let mut alphabet = setup.alphabet();
    if rest.iter().any(|argument| argument == "failures") {
        alphabet.extend(setup.failures());
    }
    let left_out: Vec<&str> =
        rest.iter().filter_map(|argument| argument.strip_prefix('-')).collect();
    alphabet.retain(|input| !left_out.iter().any(|name| format!("{input:?}").starts_with(name)));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let searched = search(*setup, None, &alphabet, Bounds { depth, time, threads });
    println!("{name}: {searched}");
    match searched.found {
        Some(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
