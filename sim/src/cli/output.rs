//! Printing, where a reader that goes away is no error.

use serde::Serialize;
use std::io::{self, Write};

/// Exit status when something was compared and differs.
pub(super) const MISMATCH: u8 = 1;

/// The standard output.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The reader went away: the exit status still says what was found.
    closed: bool,
}

impl Output {
    pub(super) fn line(&mut self, text: &str) -> Result<(), String> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(format!("cannot write to the standard output: {error}")),
            Ok(()) => Ok(()),
        }
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

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
        self.line(&text)
    }
}

/// Prints to the standard error; nothing can be done if nobody reads it.
pub(super) fn errors(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
