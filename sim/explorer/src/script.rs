//! Sequences of inputs as text, one per line: people read them, `msix replay` runs them. [`SYNTAX`] is
//! all of it, for people.
//!
//! ```text
//! msix-script 1
//! vectors 4
//! policy qemu
//! # comment
//! write-config 2 2 0xc003
//! notify 0
//! ```

mod function;
mod line;
mod msix;
mod reader;

use msix_core::operation::{FunctionOperation, Operation};
use msix_core::{Vector, Vectors};
pub use reader::{MAX_LINE, ScriptReader};
use std::fmt;

/// The syntax of scripts.
pub const SYNTAX: &str = "\
A script is text. Its first line is `msix-script 1`, for MSI-X alone, or
`msix-function-script 1`, for a function with INTx, MSI and MSI-X. Then, each
on a line of its own and before the first input:
  vectors N                 1 to 2048; for a function 1, 2, 4, 8, 16 or 32, of
                            MSI and of MSI-X
  policy spec|qemu          without it, spec
  pin emulated|physical     of a function; without it, emulated
Then an input on each line. Numbers are decimal, or hexadecimal after 0x. A
line that begins with # is a comment. SET is a word of the vectors and a mask
of 64 bits: `0 0x5` is vectors 0 and 2. MODE is intx, msi or msix.
  of both:                  claim VECTOR, unclaim VECTOR, unclaim-all,
                            notify VECTOR, set-mask VECTOR 0|1,
                            set-message VECTOR ADDRESS DATA, attach, detach,
                            reset, prepare-save, save-and-load, resume,
                            write-table OFFSET LENGTH VALUE,
                            poll-pba OFFSET LENGTH
  of MSI-X alone:           write-config OFFSET LENGTH VALUE (in the
                            capability), read-config OFFSET LENGTH,
                            read-table OFFSET LENGTH, read-pba OFFSET LENGTH,
                            write-pba OFFSET LENGTH, withdraw VECTOR,
                            bus-master 0|1, report-failed SET,
                            report-held SET, save-and-load-qemu
  of a function:            write-msi OFFSET LENGTH VALUE, read-msi OFFSET
                            LENGTH, poll-msi OFFSET LENGTH, write-msix OFFSET
                            LENGTH VALUE, write-command OFFSET LENGTH VALUE,
                            withdraw MODE VECTOR, set-level 0|1, report-fired,
                            eoi, report-failed MODE SET, report-held MODE SET";

/// Something a line of a script can be.
pub trait ScriptInput: Sized {
    /// First line of a script of these.
    const HEADER: &'static str;
    /// Whether the script may say what pin there is.
    const HAS_PIN: bool;
    /// How many vectors there may be, for people.
    const VECTORS: &'static str;

    /// Returns whether there may be this many vectors.
    fn fits(vectors: u16) -> bool;

    /// Returns it as a line.
    fn line(&self) -> String;

    /// Returns what a line says, if it is one of these.
    fn parsed(line: Line<'_>) -> Option<Self>;
}

/// The words of a line.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
}

impl Line<'_> {
    /// The arguments, if all of them are numbers.
    fn numbers(self) -> Option<Vec<u64>> {
        self.arguments.iter().map(|word| number(word)).collect()
    }
}

/// A script of MSI-X alone: what to make, and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How many vectors, 1 to 2048.
    pub vectors: u16,
    /// `spec` or `qemu`.
    pub policy: String,
    /// The inputs, in order.
    pub operations: Vec<Operation>,
}

/// Which of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptKind {
    /// Of MSI-X alone.
    Msix,
    /// Of a whole function.
    Function,
}

impl ScriptKind {
    /// Returns which script a file that begins with these bytes claims to be.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        let headers =
            [(Operation::HEADER, Self::Msix), (FunctionOperation::HEADER, Self::Function)];
        let claimed = headers.iter().find(|(header, _)| start.starts_with(header.as_bytes()));
        claimed.map(|(_, kind)| *kind)
    }
}

/// Why a text is not a script: line number and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
#[non_exhaustive]
pub struct ScriptError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Script {
    /// Parses a script.
    ///
    /// # Errors
    /// [`ScriptError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let reader = ScriptReader::<_, Operation>::begin(text.as_bytes())?;
        let (vectors, policy) = (reader.vectors(), reader.policy().to_owned());
        let operations = reader.collect::<Result<_, _>>()?;
        Ok(Self { vectors, policy, operations })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nvectors {}\npolicy {}", Operation::HEADER, self.vectors, self.policy)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "{}", operation.line()))
    }
}

/// A number as `12` or `0xc`.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn vector(number: u64) -> Option<Vector> {
    u16::try_from(number).ok().map(Vector::new)
}

fn flag(number: u64) -> Option<bool> {
    (number < 2).then_some(number == 1)
}

fn set(word: u64, bits: u64) -> Option<Vectors> {
    Some(Vectors::new(u16::try_from(word).ok()?, bits))
}

/// Offset and length of an access.
fn fields<T: TryFrom<u64>>(offset: u64, len: u64) -> Option<(T, u8)> {
    Some((T::try_from(offset).ok()?, u8::try_from(len).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::Message;

    #[test]
    fn every_input_survives_its_line_and_is_in_the_syntax() {
        let v = Vector::new(3);
        let set = Vectors::new(1, 0xf0);
        let operations = vec![
            Operation::WriteConfig { offset: 2, len: 2, value: 0xc003 },
            Operation::ReadConfig { offset: 0, len: 4 },
            Operation::WriteTable { offset: 0x7ffc, len: 8, value: u64::MAX },
            Operation::ReadTable { offset: 12, len: 4 },
            Operation::PollPba { offset: 0, len: 8 },
            Operation::ReadPba { offset: 4, len: 4 },
            Operation::WritePba { offset: 8, len: 1 },
            Operation::Notify(v),
            Operation::Withdraw(v),
            Operation::Claim(v),
            Operation::Unclaim(v),
            Operation::UnclaimAll,
            Operation::SetMask(v, true),
            Operation::SetMessage(v, Message { address: 0x1_fee0_0000, data: 7 }),
            Operation::Attach,
            Operation::Detach,
            Operation::ReportFailed(set),
            Operation::ReportHeld(set),
            Operation::SetBusMaster(false),
            Operation::Reset,
            Operation::PrepareSave,
            Operation::SaveAndLoad,
            Operation::SaveAndLoadQemu,
            Operation::Resume,
        ];
        for line in operations.iter().map(ScriptInput::line) {
            let name = line.split(' ').next().unwrap();
            assert!(SYNTAX.contains(name), "{name}");
        }
        let script = Script { vectors: 2048, policy: "qemu".to_owned(), operations };
        assert_eq!(Script::parse(&script.to_string()), Ok(script));
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        for (text, line) in [
            ("", 1),
            ("hello", 1),
            ("msix-script 1\n", 1),
            ("msix-script 1\nvectors 0", 2),
            ("msix-script 1\nvectors 2049", 2),
            ("msix-script 1\nvectors 4\npolicy xen", 3),
            ("msix-script 1\nvectors 4\n\n# ok\nnotify", 5),
            ("msix-script 1\nvectors 4\nnotify 65536", 3),
            ("msix-script 1\nvectors 4\nset-mask 0 2", 3),
            ("msix-script 1\nvectors 4\nreset now", 3),
            ("msix-script 1\nvectors 4\nreset\npolicy qemu", 4),
            ("msix-script 1\nreset\nvectors 4", 2),
        ] {
            assert_eq!(Script::parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
