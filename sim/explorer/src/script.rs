//! Sequences of engine inputs as text, one per line: people read them, `msix replay` runs them.
//!
//! ```text
//! msix-script 1
//! vectors 4
//! policy qemu
//! # comment
//! write-config 2 2 0xc003
//! notify 0
//! ```
//!
//! `vectors` and `policy` stand before the first input.

mod line;
mod reader;

pub use line::line;
use msix_core::operation::Operation;
use msix_core::{Message, Vector, Vectors};
pub use reader::{MAX_LINE, ScriptReader};
use std::fmt;

/// First line of every script.
const HEADER: &str = "msix-script 1";

/// A script: what to make, and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How many vectors, 1 to 2048.
    pub vectors: u16,
    /// `spec` or `qemu`.
    pub policy: String,
    /// The inputs, in order.
    pub operations: Vec<Operation>,
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
    /// Returns whether a file that begins with these bytes claims to be a script.
    #[must_use]
    pub fn is_script(start: &[u8]) -> bool {
        start.starts_with(HEADER.as_bytes())
    }

    /// Parses a script.
    ///
    /// # Errors
    /// [`ScriptError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let reader = ScriptReader::new(text.as_bytes())?;
        let (vectors, policy) = (reader.vectors(), reader.policy().to_owned());
        let operations = reader.collect::<Result<_, _>>()?;
        Ok(Self { vectors, policy, operations })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nvectors {}\npolicy {}", self.vectors, self.policy)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "{}", line(operation)))
    }
}

fn operation(name: &str, arguments: &[&str]) -> Option<Operation> {
    let numbers: Vec<u64> = arguments.iter().map(|word| number(word)).collect::<Option<_>>()?;
    let byte = |n: u64| u8::try_from(n).ok();
    let word = |n: u64| u16::try_from(n).ok();
    let vector = |n: u64| word(n).map(Vector::new);
    let flag = |n: u64| (n < 2).then_some(n == 1);
    Some(match (name, numbers.as_slice()) {
        ("write-config", &[offset, len, value]) => {
            Operation::WriteConfig { offset: byte(offset)?, len: byte(len)?, value }
        }
        ("read-config", &[offset, len]) => {
            Operation::ReadConfig { offset: byte(offset)?, len: byte(len)? }
        }
        ("write-table", &[offset, len, value]) => {
            Operation::WriteTable { offset: word(offset)?, len: byte(len)?, value }
        }
        ("read-table", &[offset, len]) => {
            Operation::ReadTable { offset: word(offset)?, len: byte(len)? }
        }
        ("poll-pba", &[offset, len]) => {
            Operation::PollPba { offset: word(offset)?, len: byte(len)? }
        }
        ("read-pba", &[offset, len]) => {
            Operation::ReadPba { offset: word(offset)?, len: byte(len)? }
        }
        ("write-pba", &[offset, len]) => {
            Operation::WritePba { offset: word(offset)?, len: byte(len)? }
        }
        ("notify", &[v]) => Operation::Notify(vector(v)?),
        ("withdraw", &[v]) => Operation::Withdraw(vector(v)?),
        ("claim", &[v]) => Operation::Claim(vector(v)?),
        ("unclaim", &[v]) => Operation::Unclaim(vector(v)?),
        ("unclaim-all", []) => Operation::UnclaimAll,
        ("set-mask", &[v, masked]) => Operation::SetMask(vector(v)?, flag(masked)?),
        ("set-message", &[v, address, data]) => {
            let message = Message { address, data: u32::try_from(data).ok()? };
            Operation::SetMessage(vector(v)?, message)
        }
        ("attach", []) => Operation::Attach,
        ("detach", []) => Operation::Detach,
        ("report-failed", &[index, bits]) => {
            Operation::ReportFailed(Vectors::new(word(index)?, bits))
        }
        ("report-held", &[index, bits]) => Operation::ReportHeld(Vectors::new(word(index)?, bits)),
        ("bus-master", &[on]) => Operation::SetBusMaster(flag(on)?),
        ("reset", []) => Operation::Reset,
        ("prepare-save", []) => Operation::PrepareSave,
        ("save-and-load", []) => Operation::SaveAndLoad,
        ("save-and-load-qemu", []) => Operation::SaveAndLoadQemu,
        ("resume", []) => Operation::Resume,
        _ => return None,
    })
}

/// A number as `12` or `0xc`.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_survives_its_line() {
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
