//! Lines that name a known event where none stands.

use crate::report::Warnings;

/// How many there are, and the first.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    first: Option<(u64, &'static str)>,
    lines: u64,
}

impl Displaced {
    pub(super) fn note(&mut self, line: u64, event: &'static str) {
        self.first.get_or_insert((line, event));
        self.lines += 1;
    }

    pub(super) fn warn(&self, warnings: &mut Warnings) {
        if let Some((line, what)) = self.told() {
            warnings.push(format!("line {line}: {what}"));
        }
    }

    /// Why a log cannot be replayed, and the lines that were not read, which may be why.
    pub(super) fn beside(&self, reason: &str) -> String {
        self.told().map_or_else(
            || reason.to_owned(),
            |(line, what)| format!("{reason}; at line {line} {what}"),
        )
    }

    fn told(&self) -> Option<(u64, String)> {
        let (line, event) = self.first?;
        let (lines, name, are) = match self.lines {
            1 => ("1 line".to_owned(), "names", "is"),
            lines => (format!("{lines} lines"), "name", "are"),
        };
        let what = format!(
            "{event} stands where no event begins; {lines} {name} a known event so, and {are} not read"
        );
        Some((line, what))
    }
}
