//! `instructions SCENARIO engine|floor TIMES`: runs one scenario so that callgrind can count the
//! instructions of `measured`. See README.md beside this file.

mod shared;

use shared::{Engine, Floor, SCENARIOS, Subject, measured, run};
use std::process::ExitCode;

fn on(scenario: &str, mut subject: impl Subject, vectors: u16, times: u16) -> bool {
    run(scenario, &mut subject, vectors, times, &mut |s, step| measured(s, step))
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench` and names no scenario.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.is_empty() {
        println!("instructions: counted by tests/tests/budgets.rs");
        return ExitCode::SUCCESS;
    }
    let [scenario, side, times] = arguments.as_slice() else {
        eprintln!("usage: instructions SCENARIO engine|floor TIMES");
        return ExitCode::from(2);
    };
    let vectors = SCENARIOS.iter().find(|(name, _)| name == scenario).map(|(_, n)| *n);
    let done = match (side.as_str(), vectors, times.parse()) {
        ("engine", Some(64), Ok(times)) => {
            on(scenario, Engine::<msix_core::Inline<64, 1>>::new(), 64, times)
        }
        ("engine", Some(n), Ok(times)) => {
            on(scenario, Engine::<msix_core::Inline<2048, 32>>::new(), n, times)
        }
        ("floor", Some(64), Ok(times)) => on(scenario, Floor::<64, 1>::new(), 64, times),
        ("floor", Some(n), Ok(times)) => on(scenario, Floor::<2048, 32>::new(), n, times),
        _ => false,
    };
    if done { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
