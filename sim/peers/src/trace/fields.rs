//! The fields of a line, taken from left to right.

use super::error::ParseError;
use super::event::{Bdf, ConfigAccess, MemoryAccess, TracedRegion, What};
use super::raise::{Radix, RaiseEvent};

/// What is left of a line.
pub(super) struct Fields<'a> {
    event: &'static str,
    rest: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(event: &'static str, rest: &'a str) -> Self {
        Self { event, rest }
    }

    /// The vector that `event` names.
    pub(super) fn raised(&mut self, event: &RaiseEvent) -> Result<u32, ParseError> {
        for word in event.words {
            self.word(word)?;
        }
        let vector = match event.radix {
            Radix::Decimal => self.decimal("a vector number")?,
            Radix::Hexadecimal => self.hexadecimal("a vector number")?,
        };
        u32::try_from(vector).map_err(|_| self.wrong("a vector number", &vector.to_string()))
    }

    pub(super) fn config(&mut self, arrow: &'static str) -> Result<ConfigAccess<'a>, ParseError> {
        let name = self.name()?;
        let text = self.take("BUS:DEVICE.FUNCTION")?;
        let bdf = Bdf::parse(text).ok_or_else(|| self.wrong("BUS:DEVICE.FUNCTION", text))?;
        let text = self.take("@0xOFFSET")?;
        let offset = text
            .strip_prefix('@')
            .and_then(hexadecimal)
            .and_then(|offset| u16::try_from(offset).ok())
            .filter(|&offset| offset < 4096)
            .ok_or_else(|| self.wrong("@0xOFFSET below 4096", text))?;
        self.word(arrow)?;
        let value = self.hexadecimal("a 32-bit value")?;
        let value = u32::try_from(value)
            .map_err(|_| self.wrong("a 32-bit value", &format!("{value:#x}")))?;
        Ok(ConfigAccess { name, bdf, offset, value })
    }

    pub(super) fn control(&mut self) -> Result<What<'a>, ParseError> {
        self.word("dev")?;
        let name = self.name()?;
        self.word("enabled")?;
        let enabled = self.bit()?;
        self.word("masked")?;
        let masked = self.bit()?;
        Ok(What::Control { name, enabled, masked })
    }

    /// The queue that is named.
    pub(super) fn queue(&mut self) -> Result<u64, ParseError> {
        self.word("vdev")?;
        self.hexadecimal("a device")?;
        self.word("vq")?;
        self.hexadecimal("a queue")
    }

    pub(super) fn memory(&mut self) -> Result<MemoryAccess, ParseError> {
        self.word("cpu")?;
        let text = self.take("a CPU number")?;
        text.parse::<i32>().map_err(|_| self.wrong("a CPU number", text))?;
        self.word("mr")?;
        let mr = self.hexadecimal("a memory region")?;
        self.word("addr")?;
        let address = self.hexadecimal("an address")?;
        self.word("value")?;
        let value = self.hexadecimal("a value")?;
        self.word("size")?;
        let text = self.take("a size of 1, 2, 4 or 8")?;
        let size = match text {
            "1" => 1,
            "2" => 2,
            "4" => 4,
            "8" => 8,
            _ => return Err(self.wrong("a size of 1, 2, 4 or 8", text)),
        };
        Ok(MemoryAccess { region: self.region()?, mr, address, value, size })
    }

    /// `name 'NAME'` to the end of the line; a name may hold spaces.
    fn region(&mut self) -> Result<TracedRegion, ParseError> {
        if self.rest.is_empty() {
            return Ok(TracedRegion::Unnamed);
        }
        let quoted = self.rest.strip_prefix("name '").and_then(|name| name.strip_suffix('\''));
        let Some(name) = quoted else { return Err(self.wrong("name 'REGION'", self.rest)) };
        self.rest = "";
        Ok(match name {
            "msix-table" => TracedRegion::Table,
            "apic-msi" | "kvm-apic-msi" => TracedRegion::Messages,
            _ => TracedRegion::Other,
        })
    }

    /// The type name of a device.
    fn name(&mut self) -> Result<&'a str, ParseError> {
        let wanted = "a device name of at most 128 bytes";
        let name = self.take(wanted)?;
        if name.len() > MAX_NAME { Err(self.wrong(wanted, name)) } else { Ok(name) }
    }

    fn bit(&mut self) -> Result<bool, ParseError> {
        match self.take("0 or 1")? {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(self.wrong("0 or 1", other)),
        }
    }

    pub(super) fn decimal(&mut self, wanted: &'static str) -> Result<u64, ParseError> {
        let text = self.take(wanted)?;
        digits(text).ok_or_else(|| self.wrong(wanted, text))
    }

    pub(super) fn hexadecimal(&mut self, wanted: &'static str) -> Result<u64, ParseError> {
        let text = self.take(wanted)?;
        hexadecimal(text).ok_or_else(|| self.wrong(wanted, text))
    }

    pub(super) fn word(&mut self, word: &'static str) -> Result<(), ParseError> {
        let got = self.take(word)?;
        if got == word { Ok(()) } else { Err(self.wrong(word, got)) }
    }

    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong("the end of the line", self.rest))
        }
    }

    fn take(&mut self, wanted: &'static str) -> Result<&'a str, ParseError> {
        let (field, rest) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        if field.is_empty() {
            return Err(self.wrong(wanted, ""));
        }
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn wrong(&self, wanted: &'static str, got: &str) -> ParseError {
        let got = match got {
            "" => "nothing".to_owned(),
            text => format!("'{}'", shortened(text)),
        };
        ParseError::Field { event: self.event, wanted, got }
    }
}

/// QEMU's own are below 40 bytes. A name is repeated in every report about its device.
const MAX_NAME: usize = 128;

/// At most 40 characters of a log's text, without control characters, fit for a terminal.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    if text.chars().nth(40).is_some() {
        short.push_str("...");
    }
    short
}

/// Microseconds from `PID@SECONDS.MICROS`.
pub(super) fn timestamp(prefix: &str) -> Option<u64> {
    let (pid, time) = prefix.split_once('@')?;
    let (seconds, micros) = time.split_once('.')?;
    digits(pid)?;
    let micros = digits(micros).filter(|_| micros.len() == 6)?;
    digits(seconds)?.checked_mul(1_000_000)?.checked_add(micros)
}

/// Microseconds since 1970 from `2026-09-24T23:20:21.173273Z`.
pub(super) fn date(word: &str) -> Option<u64> {
    let (date, clock) = word.strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.splitn(3, '-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let (second, micros) = parts.next()?.split_once('.')?;
    let micros = digits(micros).filter(|_| micros.len() == 6)?;
    let second = digits(second)?;
    let sane = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sane {
        return None;
    }
    // Years that begin with March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// `parse` alone would take a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(crate) fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
