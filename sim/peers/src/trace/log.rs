//! A whole log, read line by line in bounded memory.

use super::error::ParseError;
use std::io::{self, BufRead, Read};

/// How the lines of a log are read.
pub trait LogFormat {
    /// What a line says.
    type Event<'a>;

    /// Parses one line, without its line end. `Ok(None)` is a line that is not of this format.
    ///
    /// # Errors
    /// [`ParseError`] when it is, and is malformed.
    fn parse(line: &[u8]) -> Result<Option<Self::Event<'_>>, ParseError>;

    /// Returns the known event that a line names elsewhere than an event of this format stands.
    fn displaced(line: &[u8]) -> Option<&'static str>;
}

/// Longest line, in bytes without its end. QEMU's own are below 200.
pub const MAX_LINE: usize = 64 * 1024;

/// Why a log cannot be read. [`LogError::line`] says where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Reading failed.
    #[error("cannot be read: {source}")]
    Read {
        /// The line that was being read.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is not the last one is malformed.
    #[error("malformed line: {source}")]
    Malformed {
        /// The line.
        line: u64,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A line has more than [`MAX_LINE`] bytes.
    #[error("malformed line: longer than {MAX_LINE} bytes")]
    TooLong {
        /// The line.
        line: u64,
    },
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
}

impl LogError {
    /// Returns the line it is about, counted from 1.
    #[must_use]
    pub const fn line(&self) -> u64 {
        match self {
            Self::Read { line, .. } | Self::Malformed { line, .. } | Self::TooLong { line } => {
                *line
            }
            Self::Empty => 1,
        }
    }
}

/// How a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// Whole lines read, the dropped one not counted.
    pub lines: u64,
    /// The last line was cut short and dropped: the reason.
    pub dropped: Option<String>,
}

/// What [`walk`] calls.
pub trait LogVisitor {
    /// How lines are read.
    type Format: LogFormat;
    /// Why the visitor ends the walk.
    type Error: From<LogError>;
    /// Takes one understood event on line `line`, counted from 1.
    ///
    /// # Errors
    /// The visitor's own; the walk ends with it.
    fn event(
        &mut self,
        line: u64,
        event: &<Self::Format as LogFormat>::Event<'_>,
    ) -> Result<(), Self::Error>;
    /// Is told of a line that names a known event where none stands ([`LogFormat::displaced`]).
    fn displaced(&mut self, line: u64, event: &'static str) {
        let _ = (line, event);
    }
    /// Is called now and then with the whole lines read so far, and the number of bytes read since the
    /// last call.
    ///
    /// # Errors
    /// The visitor's own; the walk ends with it.
    fn progress(&mut self, lines: u64, bytes: u64) -> Result<(), Self::Error>;
}

/// Reads all of a log. A last line that lacks its line end or does not parse was cut short when
/// QEMU died: it is dropped, because a cut number is still a number.
///
/// # Errors
/// [`LogError`] when the log cannot be read, or the visitor's own.
pub fn walk<V: LogVisitor>(mut reader: impl BufRead, visitor: &mut V) -> Result<LogEnd, V::Error> {
    let mut buffer = Vec::new();
    let mut lines = 0;
    let mut unreported = 0;
    loop {
        let line = lines + 1;
        let read = |source| LogError::Read { line, source };
        buffer.clear();
        let limit = MAX_LINE as u64 + 1;
        let length = reader.by_ref().take(limit).read_until(b'\n', &mut buffer).map_err(read)?;
        unreported += length as u64;
        if length == 0 || unreported >= PROGRESS_STEP {
            visitor.progress(lines, std::mem::take(&mut unreported))?;
        }
        if length == 0 {
            return if lines == 0 {
                Err(LogError::Empty.into())
            } else {
                Ok(LogEnd { lines, dropped: None })
            };
        }
        let Some(text) = buffer.strip_suffix(b"\n") else {
            if length > MAX_LINE {
                return Err(LogError::TooLong { line }.into());
            }
            visitor.progress(lines, std::mem::take(&mut unreported))?;
            let reason = "it has no line end".to_owned();
            return Ok(LogEnd { lines, dropped: Some(reason) });
        };
        match V::Format::parse(text) {
            Ok(Some(event)) => visitor.event(line, &event)?,
            Ok(None) => {
                if let Some(event) = V::Format::displaced(text) {
                    visitor.displaced(line, event);
                }
            }
            Err(source) => {
                if !reader.fill_buf().map_err(read)?.is_empty() {
                    return Err(LogError::Malformed { line, source }.into());
                }
                visitor.progress(lines, std::mem::take(&mut unreported))?;
                return Ok(LogEnd { lines, dropped: Some(source.to_string()) });
            }
        }
        lines = line;
    }
}

/// Bytes between two progress reports.
const PROGRESS_STEP: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::super::{QemuTrace, TraceEvent};
    use super::*;

    #[derive(Default)]
    struct Count {
        events: Vec<u64>,
        bytes: u64,
    }

    impl LogVisitor for Count {
        type Format = QemuTrace;
        type Error = LogError;
        fn event(&mut self, line: u64, _: &TraceEvent<'_>) -> Result<(), LogError> {
            self.events.push(line);
            Ok(())
        }
        fn progress(&mut self, _: u64, bytes: u64) -> Result<(), LogError> {
            self.bytes += bytes;
            Ok(())
        }
    }

    const RAISE: &str = "pci_nvme_irq_msix raising MSI-X IRQ vector 0\n";

    #[test]
    fn events_come_with_their_line_and_all_bytes_are_reported() {
        let log = format!("foreign\n{RAISE}\n{RAISE}");
        let mut count = Count::default();
        let end = walk(log.as_bytes(), &mut count).unwrap();
        assert_eq!(end, LogEnd { lines: 4, dropped: None });
        assert_eq!((count.events, count.bytes), (vec![2, 4], log.len() as u64));
    }

    #[test]
    fn a_last_line_cut_short_is_dropped() {
        for cut in [&RAISE[..RAISE.len() - 1], "pci_nvme_irq_msix raising\n", "half a word"] {
            let log = format!("{RAISE}{cut}");
            let mut count = Count::default();
            let end = walk(log.as_bytes(), &mut count).unwrap();
            assert_eq!((end.lines, end.dropped.is_some()), (1, true), "{cut}");
            assert_eq!((count.events, count.bytes), (vec![1], log.len() as u64));
        }
    }

    #[test]
    fn a_malformed_line_elsewhere_is_refused_with_its_number() {
        let log = format!("{RAISE}pci_cfg_write\n{RAISE}");
        let error = walk(log.as_bytes(), &mut Count::default()).unwrap_err();
        assert!(matches!(error, LogError::Malformed { line: 2, .. }), "{error}");
    }

    #[test]
    fn a_line_without_an_end_in_sight_is_refused_without_reading_it_all() {
        let log = io::repeat(b'x').take(1 << 40);
        let error = walk(io::BufReader::new(log), &mut Count::default()).unwrap_err();
        assert!(matches!(error, LogError::TooLong { line: 1 }), "{error}");
    }

    #[test]
    fn a_line_of_the_greatest_length_is_read() {
        let log = format!("{}\n", "x".repeat(MAX_LINE));
        assert_eq!(walk(log.as_bytes(), &mut Count::default()).unwrap().lines, 1);
    }

    #[test]
    fn an_empty_log_is_refused() {
        assert!(matches!(walk(&b""[..], &mut Count::default()), Err(LogError::Empty)));
    }
}
