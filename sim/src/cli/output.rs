//! Printing, where a reader that goes away is no error, and exit statuses.

use crate::printable::{printable, printable_json};
use serde::Serialize;
use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;

/// Exit status when something was compared and differs.
pub(super) const MISMATCH: u8 = 1;
/// Exit status when the input, the arguments or the system are at fault.
pub(super) const UNUSABLE: u8 = 2;
/// Exit status when a signal ended it before it was done, and nothing differs so far.
pub(super) const INTERRUPTED: u8 = 3;

/// Exit status when an exploration stopped at the number of states that was asked for, and nothing is
/// violated so far.
pub(super) const UNFINISHED: u8 = 4;

/// The exit status of something that found a difference or not, and was interrupted or not.
pub(super) fn status(differs: bool, interrupted: bool) -> ExitCode {
    match (differs, interrupted) {
        (true, _) => ExitCode::from(MISMATCH),
        (false, true) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Says that a signal ended it before there was anything to show.
pub(super) fn interrupted(json: bool) -> Result<ExitCode, String> {
    if json {
        Output::default().json(&serde_json::json!({"interrupted": true}))?;
    } else {
        errors("interrupted\n");
    }
    Ok(ExitCode::from(INTERRUPTED))
}

/// The standard output.
#[derive(Debug)]
pub(super) struct Output {
    to: BufWriter<Stdout>,
    /// The reader went away: the exit status still says what was found.
    closed: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self { to: BufWriter::new(io::stdout()), closed: false }
    }
}

impl Output {
    /// Prints a line, and everything before it.
    pub(super) fn line(&mut self, text: &str) -> Result<(), String> {
        self.raw(&printable(text))?;
        self.raw("\n")?;
        self.flush()
    }

    /// Prints text of which more follows.
    pub(super) fn part(&mut self, text: &str) -> Result<(), String> {
        self.raw(&printable(text))
    }

    /// Prints a piece of JSON of which more follows.
    pub(super) fn json_part(&mut self, value: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
        self.raw(&printable_json(&text))
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), String> {
        self.json_part(value)?;
        self.raw("\n")?;
        self.flush()
    }

    /// Prints `value` as JSON, or as `text` says it.
    pub(super) fn either<T: Serialize>(
        &mut self,
        json: bool,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), String> {
        if json { self.json(value) } else { self.line(&text(value)) }
    }

    fn raw(&mut self, text: &str) -> Result<(), String> {
        let done = if self.closed { Ok(()) } else { self.to.write_all(text.as_bytes()) };
        self.done(done)
    }

    fn flush(&mut self) -> Result<(), String> {
        let done = if self.closed { Ok(()) } else { self.to.flush() };
        self.done(done)
    }

    fn done(&mut self, done: io::Result<()>) -> Result<(), String> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            done => done.map_err(|error| format!("cannot write to the standard output: {error}")),
        }
    }
}

/// Prints to the standard error; nothing can be done if nobody reads it.
pub(super) fn errors(text: &str) {
    let _ = io::stderr().lock().write_all(printable(text).as_bytes());
}
