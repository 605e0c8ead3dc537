//! A script, read line by line in bounded memory.

use super::{Line, ScriptError, ScriptInput, number};
use msix_core::IntxSource;
use std::io::{BufRead, Read as _};

/// Longest line of a script, in bytes without its end.
pub const MAX_LINE: usize = 64 * 1024;

/// Reads a script of inputs `I`: what to make at once, and then input by input. It ends after the first
/// error.
#[derive(Debug)]
pub struct ScriptReader<R, I> {
    reader: R,
    buffer: Vec<u8>,
    /// Lines read.
    line: usize,
    vectors: u16,
    policy: &'static str,
    pin: IntxSource,
    /// The first input, which was read to see where the head ends.
    first: Option<I>,
    failed: bool,
}

/// What a line says.
enum Said<I> {
    Nothing,
    Vectors(u16),
    Policy(&'static str),
    Pin(IntxSource),
    Input(I),
}

impl<R: BufRead, I: ScriptInput> ScriptReader<R, I> {
    /// Reads the head of a script, up to the first input.
    ///
    /// # Errors
    /// [`ScriptError`] names the first line that is wrong or cannot be read.
    pub fn begin(reader: R) -> Result<Self, ScriptError> {
        let mut script = Self {
            reader,
            buffer: Vec::new(),
            line: 0,
            vectors: 0,
            policy: "spec",
            pin: IntxSource::Emulated,
            first: None,
            failed: false,
        };
        let header = script.next_line()?.is_some_and(|line| line.trim() == I::HEADER);
        if !header {
            script.line = 1;
            return Err(script.wrong(format!("the script begins with `{}`", I::HEADER)));
        }
        while script.first.is_none()
            && let Some(line) = script.next_line()?
        {
            let said = parsed(line);
            match said.map_err(|reason| script.wrong(reason))? {
                Said::Nothing => {}
                Said::Vectors(vectors) => script.vectors = vectors,
                Said::Policy(policy) => script.policy = policy,
                Said::Pin(pin) => script.pin = pin,
                Said::Input(input) => script.first = Some(input),
            }
        }
        if script.vectors == 0 {
            return Err(script.wrong("no line `vectors N` before the first input"));
        }
        Ok(script)
    }

    /// Returns the number of vectors, 1 to 2048.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Returns the policy, `spec` or `qemu`.
    #[must_use]
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// Returns where the level of a function's pin comes from.
    #[must_use]
    pub const fn pin(&self) -> IntxSource {
        self.pin
    }

    fn wrong(&self, reason: impl Into<String>) -> ScriptError {
        ScriptError { line: self.line, reason: reason.into() }
    }

    fn next_line(&mut self) -> Result<Option<&str>, ScriptError> {
        self.buffer.clear();
        let most = MAX_LINE as u64 + 1;
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.buffer);
        let line = self.line + 1;
        let wrong = |reason: String| ScriptError { line, reason };
        if read.map_err(|error| wrong(format!("cannot be read: {error}")))? == 0 {
            return Ok(None);
        }
        self.line = line;
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        if text.len() > MAX_LINE {
            return Err(wrong(format!("longer than {MAX_LINE} bytes")));
        }
        str::from_utf8(text).map(Some).map_err(|_| wrong("not text".to_owned()))
    }

    fn next_input(&mut self) -> Result<Option<I>, ScriptError> {
        while let Some(line) = self.next_line()? {
            match parsed(line).map_err(|reason| self.wrong(reason))? {
                Said::Nothing => {}
                Said::Input(input) => return Ok(Some(input)),
                Said::Vectors(_) | Said::Policy(_) | Said::Pin(_) => {
                    let reason = "`vectors`, `policy` and `pin` stand before the first input";
                    return Err(self.wrong(reason));
                }
            }
        }
        Ok(None)
    }
}

impl<R: BufRead, I: ScriptInput> Iterator for ScriptReader<R, I> {
    type Item = Result<I, ScriptError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.failed {
            return None;
        }
        let next = self.next_input().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

fn parsed<I: ScriptInput>(line: &str) -> Result<Said<I>, &'static str> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next().filter(|word| !word.starts_with('#')) else {
        return Ok(Said::Nothing);
    };
    let arguments: Vec<&str> = words.take(MOST_ARGUMENTS).collect();
    match (name, arguments.as_slice()) {
        ("vectors", [n]) => {
            let n = number(n).and_then(|n| u16::try_from(n).ok());
            n.filter(|n| I::fits(*n)).map(Said::Vectors).ok_or(I::VECTORS)
        }
        ("policy", ["spec"]) => Ok(Said::Policy("spec")),
        ("policy", ["qemu"]) => Ok(Said::Policy("qemu")),
        ("pin", ["emulated"]) if I::HAS_PIN => Ok(Said::Pin(IntxSource::Emulated)),
        ("pin", ["physical"]) if I::HAS_PIN => Ok(Said::Pin(IntxSource::Physical)),
        (name, arguments) => {
            I::parsed(Line { name, arguments }).map(Said::Input).ok_or("no such input")
        }
    }
}

/// One more than any input has.
const MOST_ARGUMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::operation::Operation;
    use std::io;

    type Reader<R> = ScriptReader<R, Operation>;

    #[test]
    fn a_script_that_never_ends_is_read_in_bounded_memory() {
        let head = "msix-script 1\nvectors 2\n".as_bytes();
        let lines = "# comment\nnotify 1\n".repeat(1000);
        let endless = std::iter::repeat_with(|| lines.as_bytes());
        let mut reader = Reader::begin(head.chain(io::BufReader::new(Endless(endless)))).unwrap();
        for _ in 0..100_000 {
            assert_eq!(reader.next(), Some(Ok(Operation::Notify(msix_core::Vector::new(1)))));
        }
        assert!(reader.buffer.capacity() < 1024);
    }

    struct Endless<I>(I);

    impl<'a, I: Iterator<Item = &'a [u8]>> io::Read for Endless<I> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let text = self.0.next().unwrap_or_default();
            let len = text.len().min(buffer.len()) / 19 * 19;
            buffer[..len].copy_from_slice(&text[..len]);
            Ok(len)
        }
    }

    #[test]
    fn a_line_without_an_end_in_sight_is_refused_without_reading_it_all() {
        let head = "msix-script 1\nvectors 2\nnotify 1\n".as_bytes();
        let mut reader = Reader::begin(head.chain(io::BufReader::new(io::repeat(0)))).unwrap();
        assert!(matches!(reader.next(), Some(Ok(_))));
        let error = reader.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "line 4: longer than 65536 bytes");
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let error = Reader::begin(&b"msix-script 1\nvectors \xff\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "line 2: not text");
    }
}
