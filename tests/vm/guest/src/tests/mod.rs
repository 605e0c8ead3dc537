//! The tests. A file of tests has a table `TESTS`, and [`all`] lists the tables.

mod backend;
mod eventfds;
mod live_update;
mod machine;
mod maps;
mod modes;
mod processes;
mod recordings;
mod restore;
mod status;
mod trigger;

use crate::rig::PATIENCE;
use crate::world::World;
use std::time::{Duration, Instant};

/// A test gets a machine whose devices are idle. It may panic.
pub(crate) type Test = fn(&mut World) -> Result<(), String>;

/// Names, and tests; in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Test)> {
    let tables = [
        machine::TESTS,
        eventfds::TESTS,
        trigger::TESTS,
        backend::TESTS,
        modes::TESTS,
        status::TESTS,
        restore::TESTS,
        maps::TESTS,
        recordings::TESTS,
    ];
    tables.into_iter().flatten().copied()
}

/// A test that has its devices opened by other processes, one after another.
pub(crate) type TestApart = fn() -> Result<(), String>;

/// Names, and tests that run while this process has no device.
pub(crate) fn apart() -> impl Iterator<Item = (&'static str, TestApart)> {
    processes::TESTS.iter().chain(live_update::TESTS).copied()
}

/// Runs the part of a test that this process was started for.
pub(crate) fn part() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("give" | "take") => live_update::part(&arguments),
        _ => processes::part(&arguments),
    }
}

/// Both are equal, or an error that says what it is about.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: T,
    expected: T,
) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: {got:x?} instead of {expected:x?} (hexadecimal)"))
    }
}

/// Waits until something is so.
pub(crate) fn wait(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > PATIENCE {
            return Err(format!("in vain: {what}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// An error as a test returns it.
pub(crate) fn text(error: impl ToString) -> String {
    error.to_string()
}
