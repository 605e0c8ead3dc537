//! The lines of a QEMU trace log, one at a time.
//!
//! A log of QEMU's `log` trace backend holds one event a line, `EVENT ARGUMENTS`, or
//! `PID@SECONDS.MICROS:EVENT ARGUMENTS` with `-msg timestamp=on`. A line is one of three things:
//!
//! - *ours*: it begins with the name of an event listed in [`EVENTS`] or [`RaiseEvent::ALL`]; all
//!   of it must parse;
//! - *foreign*: any other text (other events, guest errors, output of `-d`): skipped;
//! - *malformed*: ours that does not parse, or bytes that are not text (not UTF-8, or a NUL).
//!
//! A line of ours that lost its beginning is foreign: nothing tells it from other text.

mod fields;
mod log;
mod raise;

pub use fields::Bdf;
use fields::Fields;
pub use log::{LogEnd, LogError, LogVisitor, MAX_LINE, walk};
pub use raise::RaiseEvent;

/// The events that are understood besides those that name a raise ([`RaiseEvent::ALL`]).
pub const EVENTS: [&str; 5] = [
    "pci_cfg_write",
    "pci_cfg_read",
    "msix_write_config",
    "memory_region_ops_write",
    "memory_region_ops_read",
];

/// One understood line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent<'a> {
    /// Microseconds since 1970, when the line has the `PID@SECONDS.MICROS:` prefix.
    pub time: Option<u64>,
    /// What happened.
    pub what: What<'a>,
}

/// What a line says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// `pci_cfg_write NAME BB:DD.F @0xOFFSET <- 0xVALUE`; printed before the write takes effect,
    /// without its width.
    ConfigWrite(ConfigAccess<'a>),
    /// `pci_cfg_read NAME BB:DD.F @0xOFFSET -> 0xVALUE`.
    ConfigRead(ConfigAccess<'a>),
    /// `msix_write_config dev NAME enabled E masked M`: the two control bits after a write that
    /// covered them (H19).
    Control {
        /// The device's type name.
        name: &'a str,
        /// MSI-X Enable.
        enabled: bool,
        /// Function Mask.
        masked: bool,
    },
    /// `memory_region_ops_write ...`, printed before the write takes effect.
    Write(MemoryAccess),
    /// `memory_region_ops_read ...`, with the value the guest got.
    Read(MemoryAccess),
    /// A device model says that it raises a vector.
    Raise {
        /// Which event said so.
        event: &'static RaiseEvent,
        /// The vector.
        vector: u32,
    },
}

/// A configuration space access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigAccess<'a> {
    /// The device's type name, such as `nvme`.
    pub name: &'a str,
    /// Where the function sits.
    pub bdf: Bdf,
    /// Offset in bytes, below 4096.
    pub offset: u16,
    /// The value; its width is not in the log.
    pub value: u32,
}

/// An access to an emulated memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAccess {
    /// Which region.
    pub region: TracedRegion,
    /// The region's identity: its address inside QEMU.
    pub mr: u64,
    /// Guest physical address.
    pub address: u64,
    /// The value.
    pub value: u64,
    /// Width in bytes: 1, 2, 4 or 8.
    pub size: u8,
}

/// The memory regions that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedRegion {
    /// `'msix-table'`: a device's MSI-X table.
    Table,
    /// `'apic-msi'`, or `'kvm-apic-msi'` with KVM: where interrupt messages are written.
    Messages,
    /// Any other name.
    Other,
    /// No name: QEMU before 7.0 does not print it.
    Unnamed,
}

/// Why a line is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The line is not UTF-8 or holds a NUL.
    #[error("not text: byte {at} of the line is 0x{byte:02x}")]
    NotText {
        /// Position in the line, from 1.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A known event after a `:` without `PID@SECONDS.MICROS` before it.
    #[error("{event}: '{prefix}' is not a PID@SECONDS.MICROS prefix")]
    Prefix {
        /// The event.
        event: &'static str,
        /// What stands before it, shortened.
        prefix: String,
    },
    /// Something else stands where a field belongs, or nothing.
    #[error("{event}: {wanted} expected, got {got}")]
    Field {
        /// The event.
        event: &'static str,
        /// What belongs there.
        wanted: &'static str,
        /// What stands there, shortened.
        got: String,
    },
}

/// Parses one line, without its line end. `Ok(None)` is a foreign line.
///
/// # Errors
/// [`ParseError`] when the line is malformed; see the [module's documentation](self).
pub fn parse_line(line: &[u8]) -> Result<Option<TraceEvent<'_>>, ParseError> {
    let text = text(line)?.trim_end_matches('\r');
    let (head, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (prefix, name) = match head.rsplit_once(':') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, head),
    };
    let Some(event) = Known::find(name) else { return Ok(None) };
    let time = match prefix {
        None => None,
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
        Known::Raise(event) => What::Raise { event, vector: event.vector(&mut fields)? },
    };
    fields.end()?;
    Ok(Some(TraceEvent { time, what }))
}

fn text(line: &[u8]) -> Result<&str, ParseError> {
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
            Self::Raise(event) => event.name,
        }
    }
}

#[cfg(test)]
mod tests;
