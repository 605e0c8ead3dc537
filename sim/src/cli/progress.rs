//! The progress bar.

use crate::printable::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// A bar on the standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `length` is what will be done, if that is known.
    pub(super) fn new(length: Option<u64>, name: &str) -> Self {
        let bar = if stderr().is_terminal() {
            ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        let template = match length {
            Some(_) => "{msg} {wide_bar} {percent:>3}% {eta}",
            None => "{msg} {bytes}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(printable(name).into_owned());
        Self { bar }
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
