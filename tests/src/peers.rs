//! Tests that need something the machine may lack.

use std::io::Write as _;

/// Says that test `test` was not run because the machine lacks `what`, and how to get it.
///
/// The name goes to standard error and, for `tests/run`, into the file that `MSIX_SKIPPED` names.
///
/// # Panics
/// When `MSIX_REQUIRE_ALL` is 1: then nothing may be skipped.
pub fn skipped(test: &str, what: &str, remedy: &str) {
    let line = format!("skipped: {test}: no {what} ({remedy})");
    assert!(std::env::var_os("MSIX_REQUIRE_ALL").is_none_or(|value| value != "1"), "{line}");
    tell(&line);
}

/// Tells of a skip where it is looked for. It is no failure.
pub fn tell(line: &str) {
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("MSIX_SKIPPED") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            // Failing to note a skip must not fail the test that was skipped.
            let _ = writeln!(file, "{line}");
        }
    }
}
