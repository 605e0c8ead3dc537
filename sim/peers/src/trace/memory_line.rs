//! The two memory events, which most of a log is, read byte by byte. Whatever is not exactly as QEMU prints
//! it is left to the long way, which knows what is wrong with it.

use super::event::{MemoryAccess, TraceEvent, TracedRegion, What};
use super::fields;

/// Parses a line of `memory_region_ops_read` or `memory_region_ops_write`. `None` says nothing about the
/// line.
pub(super) fn memory_line(line: &[u8]) -> Option<TraceEvent<'static>> {
    let mut left = Left(line);
    let time = left.time()?;
    left.word(b"memory_region_ops_")?;
    let is_write = left.0.first() == Some(&b'w');
    left.word(if is_write { b"write" } else { b"read" })?;
    left.word(b" cpu ")?;
    left.cpu()?;
    left.word(b" mr 0x")?;
    let mr = left.hexadecimal()?;
    left.word(b" addr 0x")?;
    let address = left.hexadecimal()?;
    left.word(b" value 0x")?;
    let value = left.hexadecimal()?;
    left.word(b" size ")?;
    let size = match left.take()? {
        b'1' => 1,
        b'2' => 2,
        b'4' => 4,
        b'8' => 8,
        _ => return None,
    };
    let access = MemoryAccess { region: left.region()?, mr, address, value, size };
    Some(TraceEvent { time, what: if is_write { What::Write(access) } else { What::Read(access) } })
}

/// The value of each byte as a hexadecimal digit, as QEMU prints them; 0xff is none.
static DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// What is left of a line.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The time in front of the event, if there is one.
    fn time(&mut self) -> Option<Option<u64>> {
        if !self.0.first()?.is_ascii_digit() {
            return Some(None);
        }
        // A date has colons of its own.
        let dated = self.0.get(4) == Some(&b'-');
        let mut start = self.0.iter().take(LONGEST_TIME);
        let end = start.position(|&byte| byte == b' ' || byte == b':' && !dated)?;
        let (head, rest) = (self.0.get(..end)?, self.0.get(end..)?);
        let head = str::from_utf8(head).ok()?;
        let (separator, rest) = rest.split_first()?;
        self.0 = rest;
        let time = if *separator == b':' { fields::timestamp(head)? } else { fields::date(head)? };
        Some(Some(time))
    }

    /// The number of a CPU: -1 for none.
    fn cpu(&mut self) -> Option<()> {
        if self.0.first() == Some(&b'-') {
            self.take();
        }
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Ten and more may not be a number of 32 bits.
        self.0 = (1..10).contains(&digits).then(|| self.0.get(digits..)).flatten()?;
        Some(())
    }

    /// At most 16 digits.
    #[inline]
    fn hexadecimal(&mut self) -> Option<u64> {
        let (mut value, mut rest) = (0_u64, self.0);
        while let Some((&byte, after)) = rest.split_first() {
            let digit = DIGITS[usize::from(byte)];
            if digit > 15 {
                break;
            }
            value = value << 4 | u64::from(digit);
            rest = after;
        }
        let digits = self.0.len() - rest.len();
        self.0 = rest;
        (1..=16).contains(&digits).then_some(value)
    }

    /// The name of the region, to the end of the line.
    fn region(&self) -> Option<TracedRegion> {
        if self.0.is_empty() {
            return Some(TracedRegion::Unnamed);
        }
        match self.0.strip_prefix(b" name '")?.strip_suffix(b"'")? {
            b"msix-table" => Some(TracedRegion::Table),
            b"apic-msi" | b"kvm-apic-msi" => Some(TracedRegion::Messages),
            other => {
                let plain = other.iter().all(|byte| matches!(byte, b' '..=b'~'));
                plain.then_some(TracedRegion::Other)
            }
        }
    }
}

/// More than the longest time that is printed: `YYYY-MM-DDTHH:MM:SS.MICROSZ`, or a PID and a time.
const LONGEST_TIME: usize = 48;
