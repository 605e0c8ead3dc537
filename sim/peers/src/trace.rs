//! The lines of a QEMU trace log, one at a time.
//!
//! A log of QEMU's `log` trace backend holds one event a line, `EVENT ARGUMENTS`. With
//! `-msg timestamp=on` it is `PID@SECONDS.MICROS:EVENT ARGUMENTS`, or `YYYY-MM-DDTHH:MM:SS.MICROSZ EVENT ARGUMENTS` from
//! QEMU 10.1 on. A line is one of three things:
//!
//! - *ours*: it begins with the name of an event listed in [`EVENTS`] or [`RaiseEvent::ALL`]; all
//!   of it must parse;
//! - *foreign*: any other text (other events, guest errors, output of `-d`): skipped;
//! - *malformed*: ours that does not parse, or bytes that are not text (not UTF-8, or a NUL).
//!
//! A line of ours that lost its beginning is foreign: nothing tells it from other text.

mod error;
mod event;
mod fields;
mod log;
mod memory_line;
mod raise;
mod trace_line;

pub use error::ParseError;
pub use event::{Bdf, ConfigAccess, MemoryAccess, NoBdf, TraceEvent, TracedRegion, What};
pub(crate) use fields::{digits, hexadecimal, shortened};
pub use log::{LogEnd, LogError, LogFormat, LogVisitor, MAX_LINE, walk};
pub use raise::RaiseEvent;
pub(crate) use trace_line::text;
pub use trace_line::{EVENTS, QemuTrace, parse_line};

#[cfg(test)]
mod tests;
