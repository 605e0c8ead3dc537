//! The tests. A file of tests has a table `TESTS`, and [`all`] lists the tables.

mod backend;
mod eventfds;
mod machine;
mod maps;
mod modes;
mod restore;
mod trigger;

use crate::world::World;

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
        restore::TESTS,
        maps::TESTS,
    ];
    tables.into_iter().flatten().copied()
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

/// An error as a test returns it.
pub(crate) fn text(error: impl ToString) -> String {
    error.to_string()
}
