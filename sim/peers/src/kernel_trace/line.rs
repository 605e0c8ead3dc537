//! One line, parsed.

use super::event::{DecodedMessage, KernelEvent, KernelWhat, MODES, MmioAccess, PortAccess};
use crate::trace::{LogFormat, ParseError, digits, hexadecimal, shortened, text};

/// The events that are understood.
pub const KERNEL_EVENTS: [&str; 7] = [
    "kvm_mmio",
    "kvm_pio",
    "kvm_msi_set_irq",
    "kvm_apic_accept_irq",
    "kvm_set_irq",
    "kvm_entry",
    "kvm_exit",
];

/// The format of recordings of the kernel's events.
#[derive(Debug, Clone, Copy)]
pub struct KernelTrace;

impl LogFormat for KernelTrace {
    type Event<'a> = KernelEvent;

    fn parse(line: &[u8]) -> Result<Option<KernelEvent>, ParseError> {
        parse_kernel_line(line)
    }

    fn displaced(line: &[u8]) -> Option<&'static str> {
        let text = str::from_utf8(line).ok()?;
        let mut words = text.split_ascii_whitespace().filter_map(|word| word.strip_suffix(':'));
        words.find_map(known)
    }
}

/// Parses one line, without its line end. `Ok(None)` is a foreign line.
///
/// # Errors
/// [`ParseError`] when the line is malformed; see the [module's documentation](super).
pub fn parse_kernel_line(line: &[u8]) -> Result<Option<KernelEvent>, ParseError> {
    let text = text(line)?.trim_end();
    if says_missing(text) {
        return Ok(Some(KernelEvent { thread: 0, time: None, what: KernelWhat::Missing }));
    }
    let Some(Found { head, time, event, rest }) = find(text) else { return Ok(None) };
    let Some(thread) = thread(head) else {
        return Err(ParseError::Field {
            event,
            wanted: "TASK-PID [CPU] before the time",
            got: format!("'{}'", shortened(head.trim())),
        });
    };
    let mut fields = Words { event, words: rest.split_ascii_whitespace() };
    let what = match event {
        "kvm_mmio" => fields.mmio()?,
        "kvm_pio" => fields.pio()?,
        "kvm_msi_set_irq" => fields.message()?,
        "kvm_apic_accept_irq" => fields.accepted()?,
        "kvm_set_irq" => fields.gsi()?,
        _ => KernelWhat::Runs, // whatever follows
    };
    Ok(Some(KernelEvent { thread, time, what }))
}

/// A line's parts.
struct Found<'a> {
    head: &'a str,
    time: Option<u64>,
    event: &'static str,
    rest: &'a str,
}

/// Finds `TIME: EVENT:`. The name of a task may hold anything, a colon too.
fn find(text: &str) -> Option<Found<'_>> {
    text.match_indices(": ").find_map(|(colon, _)| {
        let (before, after) = (text.get(..colon)?, text.get(colon + 2..)?);
        let begin = before.rfind([' ', '\t']).map_or(0, |space| space + 1);
        let (head, time) = before.split_at_checked(begin)?;
        let time = timestamp(time)?;
        let after = after.trim_start();
        let (event, rest) = after.strip_prefix("kvm:").unwrap_or(after).split_once(':')?;
        let event = known(event)?;
        Some(Found { head, time, event, rest })
    })
}

fn known(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("kvm:").unwrap_or(name);
    KERNEL_EVENTS.into_iter().find(|known| *known == name)
}

/// `Some(None)` is a clock that does not count seconds.
fn timestamp(text: &str) -> Option<Option<u64>> {
    let Some((seconds, fraction)) = text.split_once('.') else {
        return digits(text).filter(|_| !text.is_empty()).map(|_| None);
    };
    let whole = digits(fraction).filter(|_| matches!(fraction.len(), 6 | 9))?;
    let micros = if fraction.len() == 9 { whole / 1000 } else { whole };
    digits(seconds)?.checked_mul(1_000_000)?.checked_add(micros).map(Some)
}

/// The thread in `TASK-PID [CPU] FLAGS`, `TASK-PID (TGID) [CPU] FLAGS`, `TASK PID [CPU]` or
/// `TASK PID/TID [CPU]`.
fn thread(head: &str) -> Option<u32> {
    let head = head.rfind('[').map_or(head, |cpu| head.get(..cpu).unwrap_or(head)).trim_end();
    let head = match head.strip_suffix(')').and_then(|head| head.rsplit_once('(')) {
        Some((head, _)) => head.trim_end(),
        None => head,
    };
    let begin = head.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let before = head.get(..begin)?;
    let apart = before.is_empty() || before.ends_with(['-', '/', ' ', '\t']);
    head.get(begin..).filter(|_| apart)?.parse().ok()
}

/// Whether a line says that events are missing: `CPU:0 [LOST 12 EVENTS]` of the kernel,
/// `CPU:0 [12 EVENTS DROPPED]` of trace-cmd, `lost 12` of perf's own records.
fn says_missing(text: &str) -> bool {
    let text = text.trim_start();
    let of_a_buffer =
        text.starts_with("CPU:") && (text.contains("[LOST ") || text.contains("EVENTS DROPPED]"));
    of_a_buffer || text.contains("PERF_RECORD_LOST")
}

struct Words<'a, I: Iterator<Item = &'a str>> {
    event: &'static str,
    words: I,
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    /// `mmio write len 4 gpa 0xfebc2000 val 0x1`.
    fn mmio(&mut self) -> Result<KernelWhat, ParseError> {
        self.word("mmio")?;
        let kind = self.take("read or write")?;
        self.word("len")?;
        let size = self.number("a size of 1 to 8", digits)?;
        let size = u8::try_from(size).ok().filter(|size| (1..=8).contains(size));
        self.word("gpa")?;
        let address = self.number("an address", hexadecimal)?;
        self.word("val")?;
        let value = self.number("a value", hexadecimal)?;
        self.end()?;
        let access = |size| MmioAccess { address, size, value };
        match (kind, size.map(access)) {
            ("unsatisfied-read", _) => Ok(KernelWhat::ReadBegins),
            ("read", Some(access)) => Ok(KernelWhat::Read(access)),
            ("write", Some(access)) => Ok(KernelWhat::Write(access)),
            (_, None) => Err(self.wrong("a size of 1 to 8", "another")),
            (other, _) => Err(self.wrong("read or write", other)),
        }
    }

    /// `pio_write at 0xcf8 size 4 count 1 val 0x80001000`, and `(...)` when there are more.
    fn pio(&mut self) -> Result<KernelWhat, ParseError> {
        let kind = self.take("pio_read or pio_write")?;
        self.word("at")?;
        let port = self.number("a port", hexadecimal)?;
        let port = u16::try_from(port).map_err(|_| self.wrong("a port", "a larger number"))?;
        self.word("size")?;
        let size = match self.take("a size of 1, 2 or 4")? {
            "1" => 1,
            "2" => 2,
            "4" => 4,
            other => return Err(self.wrong("a size of 1, 2 or 4", other)),
        };
        self.word("count")?;
        let count = self.number("a count", digits)?;
        let count = u32::try_from(count).map_err(|_| self.wrong("a count", "a larger number"))?;
        self.word("val")?;
        let value = self.number("a value", hexadecimal)?;
        let value = u32::try_from(value).map_err(|_| self.wrong("a value", "a larger number"))?;
        let access = PortAccess { port, size, count, value };
        if count > 1 {
            self.word("(...)")?;
        }
        self.end()?;
        match kind {
            "pio_write" => Ok(KernelWhat::Out(access)),
            "pio_read" => Ok(KernelWhat::In(access)),
            other => Err(self.wrong("pio_read or pio_write", other)),
        }
    }

    /// `dst 1 vec 34 (Fixed|physical|edge|rh)`.
    fn message(&mut self) -> Result<KernelWhat, ParseError> {
        self.word("dst")?;
        let text = self.take("a destination")?;
        let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let destination = u32::from_str_radix(text, 16).ok().filter(|_| plain);
        let destination = destination.ok_or_else(|| self.wrong("a destination", text))?;
        self.word("vec")?;
        let vector = self.vector()?;
        let kind = self.take("(MODE|DESTINATION|TRIGGER)")?;
        let wrong = |words: &Self| words.wrong("(MODE|DESTINATION|TRIGGER)", kind);
        let inner = kind.strip_prefix('(').and_then(|kind| kind.strip_suffix(')'));
        let parts: Vec<&str> = inner.ok_or_else(|| wrong(self))?.split('|').collect();
        let (mode, destination_mode, trigger, redirect) = match *parts {
            [mode, destination, trigger] => (mode, destination, trigger, false),
            [mode, destination, trigger, "rh"] => (mode, destination, trigger, true),
            _ => return Err(wrong(self)),
        };
        let mode = (0_u8..).zip(MODES).find(|(_, name)| *name == mode);
        let (logical, level) = match (destination_mode, trigger) {
            ("physical", "edge") => (false, false),
            ("physical", "level") => (false, true),
            ("logical", "edge") => (true, false),
            ("logical", "level") => (true, true),
            _ => return Err(wrong(self)),
        };
        let (mode, _) = mode.ok_or_else(|| wrong(self))?;
        self.end()?;
        let message = DecodedMessage { destination, vector, mode, logical, level, redirect };
        Ok(KernelWhat::Message(message))
    }

    /// `apicid 1 vec 34 (Fixed|edge)`, and ` (coalesced)` on old kernels.
    fn accepted(&mut self) -> Result<KernelWhat, ParseError> {
        self.word("apicid")?;
        self.take("an APIC id")?;
        self.word("vec")?;
        Ok(KernelWhat::Accepted { vector: self.vector()? })
    }

    /// `gsi 24 level 1 source 0`.
    fn gsi(&mut self) -> Result<KernelWhat, ParseError> {
        self.word("gsi")?;
        let gsi = self.number("a GSI", digits)?;
        let gsi = u32::try_from(gsi).map_err(|_| self.wrong("a GSI", "a larger number"))?;
        self.word("level")?;
        let level = self.take("a level")?;
        let raised = match level.strip_prefix('-').unwrap_or(level) {
            "0" => false,
            other if digits(other).is_some() => true,
            other => return Err(self.wrong("a level", other)),
        };
        Ok(KernelWhat::Gsi { gsi, raised })
    }

    fn vector(&mut self) -> Result<u8, ParseError> {
        let vector = self.number("an interrupt vector", digits)?;
        u8::try_from(vector).map_err(|_| self.wrong("an interrupt vector", &vector.to_string()))
    }

    fn number(
        &mut self,
        wanted: &'static str,
        parse: fn(&str) -> Option<u64>,
    ) -> Result<u64, ParseError> {
        let text = self.take(wanted)?;
        parse(text).ok_or_else(|| self.wrong(wanted, text))
    }

    fn word(&mut self, word: &'static str) -> Result<(), ParseError> {
        let got = self.take(word)?;
        if got == word { Ok(()) } else { Err(self.wrong(word, got)) }
    }

    fn end(&mut self) -> Result<(), ParseError> {
        match self.words.next() {
            None => Ok(()),
            Some(more) => Err(self.wrong("the end of the line", more)),
        }
    }

    fn take(&mut self, wanted: &'static str) -> Result<&'a str, ParseError> {
        self.words.next().ok_or_else(|| self.wrong(wanted, ""))
    }

    fn wrong(&self, wanted: &'static str, got: &str) -> ParseError {
        let got = match got {
            "" => "nothing".to_owned(),
            text => format!("'{}'", shortened(text)),
        };
        ParseError::Field { event: self.event, wanted, got }
    }
}
