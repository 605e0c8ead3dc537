//! Why a log cannot be replayed.

use msix_peers::trace::LogError;
use std::io;

/// Why a log cannot be replayed. [`Unusable::line`] says where.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It is something else than the text of a log.
    #[error("{reason}")]
    NotText {
        /// What it is, and how to make text of it.
        reason: &'static str,
    },
    /// It lacks what a replay needs.
    #[error("{reason}")]
    NoTable {
        /// The last line.
        line: u64,
        /// What is missing, and how to record it.
        reason: String,
    },
    /// It has more devices or regions than any machine.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The line with the one too many.
        line: u64,
        /// Of what.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// It was not to go on before there was anything to compare.
    #[error("interrupted")]
    Interrupted {
        /// Lines read until then.
        line: u64,
    },
    /// Nothing is wrong with it, but the backend it was replayed on failed.
    #[error("the backend failed: {source}")]
    Backend {
        /// The line that was being replayed.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl Unusable {
    /// The line it is about, from 1.
    #[must_use]
    pub const fn line(&self) -> u64 {
        match self {
            Self::Log(error) => error.line(),
            Self::NotText { .. } => 1,
            Self::NoTable { line, .. }
            | Self::TooMany { line, .. }
            | Self::Interrupted { line }
            | Self::Backend { line, .. } => *line,
        }
    }
}
