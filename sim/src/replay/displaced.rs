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
        let Some((line, event)) = self.first else { return };
        let (lines, name, are) = match self.lines {
            1 => ("1 line".to_owned(), "names", "is"),
            lines => (format!("{lines} lines"), "name", "are"),
        };
        warnings.push(format!(
            "line {line}: {event} stands where no event begins; {lines} {name} a known event so, and \
             {are} not read"
        ));
    }
}
