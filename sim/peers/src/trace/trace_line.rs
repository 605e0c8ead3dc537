//! One line, parsed.

use super::error::ParseError;
use super::event::{TraceEvent, What};
use super::fields::{self, Fields};
use super::log::LogFormat;
use super::memory_line::memory_line;
use super::raise::RaiseEvent;

/// The format of QEMU's trace logs.
#[derive(Debug, Clone, Copy)]
pub struct QemuTrace;

impl LogFormat for QemuTrace {
    type Event<'a> = TraceEvent<'a>;

    fn parse(line: &[u8]) -> Result<Option<TraceEvent<'_>>, ParseError> {
        parse_line(line)
    }

    fn displaced(line: &[u8]) -> Option<&'static str> {
        let text = str::from_utf8(line).ok()?;
        let names = EVENTS.into_iter().chain(RaiseEvent::ALL.iter().map(|event| event.name));
        let mut words = text.split([' ', ':', '\t']);
        words.find_map(|word| names.clone().find(|name| *name == word))
    }
}

/// The events that are understood besides those that name a raise ([`RaiseEvent::ALL`]).
pub const EVENTS: [&str; 7] = [
    "pci_cfg_write",
    "pci_cfg_read",
    "msix_write_config",
    "memory_region_ops_write",
    "memory_region_ops_read",
    "virtio_notify",
    "virtio_notify_irqfd",
];

/// Parses one line, without its line end. `Ok(None)` is a foreign line.
///
/// # Errors
/// [`ParseError`] when the line is malformed; see the [module's documentation](super).
pub fn parse_line(line: &[u8]) -> Result<Option<TraceEvent<'_>>, ParseError> {
    match memory_line(line) {
        Some(event) => Ok(Some(event)),
        None => parse_any(line),
    }
}

/// [`parse_line`], the long way.
pub(super) fn parse_any(line: &[u8]) -> Result<Option<TraceEvent<'_>>, ParseError> {
    let text = text(line)?.trim_end_matches('\r');
    let (head, rest) = text.split_once(' ').unwrap_or((text, ""));
    // QEMU 10.1 and newer put the time into a word of its own.
    let (dated, (head, rest)) = match fields::date(head) {
        Some(time) => (Some(time), rest.split_once(' ').unwrap_or((rest, ""))),
        None => (None, (head, rest)),
    };
    let (prefix, name) = match head.rsplit_once(':') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, head),
    };
    let Some(event) = Known::find(name) else { return Ok(None) };
    let time = match prefix {
        None => dated,
        Some(prefix) => Some(fields::timestamp(prefix).ok_or_else(|| ParseError::Prefix {
            event: event.name(),
            prefix: fields::shortened(prefix),
        })?),
    };
    let mut fields = Fields::new(event.name(), rest);
    let what = match event {
        Known::ConfigWrite => What::ConfigWrite(fields.config("<-")?),
        Known::ConfigRead => What::ConfigRead(fields.config("->")?),
        Known::Control => fields.control()?,
        Known::Write => What::Write(fields.memory()?),
        Known::Read => What::Read(fields.memory()?),
        Known::Notify | Known::NotifyIrqfd => What::QueueNotify { queue: fields.queue()? },
        Known::Raise(event) => What::Raise { event, vector: fields.raised(event)? },
    };
    fields.end()?;
    Ok(Some(TraceEvent { time, what }))
}

pub(crate) fn text(line: &[u8]) -> Result<&str, ParseError> {
    let not_text = |at: usize| ParseError::NotText {
        at: at + 1,
        byte: line.get(at).copied().unwrap_or_default(),
    };
    if let Some(nul) = line.iter().position(|&byte| byte == 0) {
        return Err(not_text(nul));
    }
    str::from_utf8(line).map_err(|error| not_text(error.valid_up_to()))
}

enum Known {
    ConfigWrite,
    ConfigRead,
    Control,
    Write,
    Read,
    Notify,
    NotifyIrqfd,
    Raise(&'static RaiseEvent),
}

impl Known {
    fn find(name: &str) -> Option<Self> {
        Some(match name {
            "pci_cfg_write" => Self::ConfigWrite,
            "pci_cfg_read" => Self::ConfigRead,
            "msix_write_config" => Self::Control,
            "memory_region_ops_write" => Self::Write,
            "memory_region_ops_read" => Self::Read,
            "virtio_notify" => Self::Notify,
            "virtio_notify_irqfd" => Self::NotifyIrqfd,
            _ => Self::Raise(RaiseEvent::ALL.iter().find(|event| event.name == name)?),
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::ConfigWrite => EVENTS[0],
            Self::ConfigRead => EVENTS[1],
            Self::Control => EVENTS[2],
            Self::Write => EVENTS[3],
            Self::Read => EVENTS[4],
            Self::Notify => EVENTS[5],
            Self::NotifyIrqfd => EVENTS[6],
            Self::Raise(event) => event.name,
        }
    }
}
