//! The inputs of a whole function as lines.

use super::{Line, ScriptInput, fields, flag, number, set, vector};
use msix_core::operation::FunctionOperation;
use msix_core::{Message, Mode, MsiCapability};
use std::fmt::Write as _;

impl ScriptInput for FunctionOperation {
    const HEADER: &'static str = "msix-function-script 1";
    const HAS_PIN: bool = true;
    const VECTORS: &'static str = "1, 2, 4, 8, 16 or 32 vectors";

    fn fits(vectors: u16) -> bool {
        MsiCapability::new(vectors.into()).is_ok()
    }

    fn line(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = match *self {
            Self::WriteMsi { offset, len, value } => {
                write!(text, "write-msi {offset:#x} {len} {value:#x}")
            }
            Self::ReadMsi { offset, len } => write!(text, "read-msi {offset:#x} {len}"),
            Self::PollMsi { offset, len } => write!(text, "poll-msi {offset:#x} {len}"),
            Self::WriteMsix { offset, len, value } => {
                write!(text, "write-msix {offset:#x} {len} {value:#x}")
            }
            Self::WriteCommand { offset, len, value } => {
                write!(text, "write-command {offset:#x} {len} {value:#x}")
            }
            Self::WriteTable { offset, len, value } => {
                write!(text, "write-table {offset:#x} {len} {value:#x}")
            }
            Self::PollPba { offset, len } => write!(text, "poll-pba {offset:#x} {len}"),
            Self::Notify(v) => write!(text, "notify {v}"),
            Self::Withdraw(mode, v) => write!(text, "withdraw {} {v}", name(mode)),
            Self::SetLevel(high) => write!(text, "set-level {}", u8::from(high)),
            Self::ReportFired => write!(text, "report-fired"),
            Self::Eoi => write!(text, "eoi"),
            Self::Claim(v) => write!(text, "claim {v}"),
            Self::Unclaim(v) => write!(text, "unclaim {v}"),
            Self::UnclaimAll => write!(text, "unclaim-all"),
            Self::SetMask(v, masked) => write!(text, "set-mask {v} {}", u8::from(masked)),
            Self::SetMessage(v, Message { address, data }) => {
                write!(text, "set-message {v} {address:#x} {data:#x}")
            }
            Self::Attach => write!(text, "attach"),
            Self::Detach => write!(text, "detach"),
            Self::ReportFailed(mode, set) => {
                write!(text, "report-failed {} {} {:#x}", name(mode), set.word(), set.bits())
            }
            Self::ReportHeld(mode, set) => {
                write!(text, "report-held {} {} {:#x}", name(mode), set.word(), set.bits())
            }
            Self::Reset => write!(text, "reset"),
            Self::PrepareSave => write!(text, "prepare-save"),
            Self::SaveAndLoad => write!(text, "save-and-load"),
            Self::Resume => write!(text, "resume"),
        };
        text
    }

    fn parsed(line: Line<'_>) -> Option<Self> {
        if let ("withdraw" | "report-failed" | "report-held", [mode, rest @ ..]) =
            (line.name, line.arguments)
        {
            let mode = mode_named(mode)?;
            let numbers: Vec<u64> = rest.iter().map(|word| number(word)).collect::<Option<_>>()?;
            return Some(match (line.name, &*numbers) {
                ("withdraw", &[v]) => Self::Withdraw(mode, vector(v)?),
                ("report-failed", &[word, bits]) => Self::ReportFailed(mode, set(word, bits)?),
                ("report-held", &[word, bits]) => Self::ReportHeld(mode, set(word, bits)?),
                _ => return None,
            });
        }
        let numbers = line.numbers()?;
        Some(match (line.name, &*numbers) {
            ("write-msi", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteMsi { offset, len, value }
            }
            ("read-msi", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::ReadMsi { offset, len }
            }
            ("poll-msi", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::PollMsi { offset, len }
            }
            ("write-msix", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteMsix { offset, len, value }
            }
            ("write-command", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteCommand { offset, len, value }
            }
            ("write-table", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteTable { offset, len, value }
            }
            ("poll-pba", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::PollPba { offset, len }
            }
            ("notify", &[v]) => Self::Notify(vector(v)?),
            ("set-level", &[high]) => Self::SetLevel(flag(high)?),
            ("report-fired", []) => Self::ReportFired,
            ("eoi", []) => Self::Eoi,
            ("claim", &[v]) => Self::Claim(vector(v)?),
            ("unclaim", &[v]) => Self::Unclaim(vector(v)?),
            ("unclaim-all", []) => Self::UnclaimAll,
            ("set-mask", &[v, masked]) => Self::SetMask(vector(v)?, flag(masked)?),
            ("set-message", &[v, address, data]) => {
                let message = Message { address, data: u32::try_from(data).ok()? };
                Self::SetMessage(vector(v)?, message)
            }
            ("attach", []) => Self::Attach,
            ("detach", []) => Self::Detach,
            ("reset", []) => Self::Reset,
            ("prepare-save", []) => Self::PrepareSave,
            ("save-and-load", []) => Self::SaveAndLoad,
            ("resume", []) => Self::Resume,
            _ => return None,
        })
    }
}

/// The names of modes in lines.
const MODES: [(&str, Mode); 4] =
    [("none", Mode::None), ("intx", Mode::Intx), ("msi", Mode::Msi), ("msix", Mode::MsiX)];

fn name(mode: Mode) -> &'static str {
    MODES.iter().find(|(_, known)| *known == mode).map_or("none", |(name, _)| name)
}

fn mode_named(word: &str) -> Option<Mode> {
    MODES.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{SYNTAX, ScriptReader};
    use msix_core::{IntxSource, Vector, Vectors};

    #[test]
    fn every_input_survives_its_line_and_is_in_the_syntax() {
        let (v, set) = (Vector::new(3), Vectors::new(1, 0xf0));
        let inputs = [
            FunctionOperation::WriteMsi { offset: 2, len: 2, value: 0x11 },
            FunctionOperation::ReadMsi { offset: 0, len: 4 },
            FunctionOperation::PollMsi { offset: 16, len: 4 },
            FunctionOperation::WriteMsix { offset: 2, len: 2, value: 0xc003 },
            FunctionOperation::WriteCommand { offset: 0, len: 2, value: 4 },
            FunctionOperation::WriteTable { offset: 0x7ffc, len: 8, value: u64::MAX },
            FunctionOperation::PollPba { offset: 0, len: 8 },
            FunctionOperation::Notify(v),
            FunctionOperation::Withdraw(Mode::Msi, v),
            FunctionOperation::SetLevel(true),
            FunctionOperation::ReportFired,
            FunctionOperation::Eoi,
            FunctionOperation::Claim(v),
            FunctionOperation::Unclaim(v),
            FunctionOperation::UnclaimAll,
            FunctionOperation::SetMask(v, true),
            FunctionOperation::SetMessage(v, Message { address: 0x1_fee0_0000, data: 7 }),
            FunctionOperation::Attach,
            FunctionOperation::Detach,
            FunctionOperation::ReportFailed(Mode::Intx, set),
            FunctionOperation::ReportHeld(Mode::MsiX, set),
            FunctionOperation::Reset,
            FunctionOperation::PrepareSave,
            FunctionOperation::SaveAndLoad,
            FunctionOperation::Resume,
        ];
        let mut text =
            format!("{}\nvectors 8\npolicy qemu\npin physical\n", FunctionOperation::HEADER);
        for input in &inputs {
            let line = input.line();
            let (name, _) = line.split_once(' ').unwrap_or((&line, ""));
            assert!(SYNTAX.contains(name), "{name}");
            text.push_str(&format!("{line}\n"));
        }
        let reader = ScriptReader::<_, FunctionOperation>::begin(text.as_bytes()).unwrap();
        assert_eq!((reader.vectors(), reader.policy()), (8, "qemu"));
        assert_eq!(reader.pin(), IntxSource::Physical);
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), inputs);
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        for (text, line) in [
            ("msix-script 1\nvectors 2\n", 1),
            ("msix-function-script 1\nvectors 33", 2),
            ("msix-function-script 1\nvectors 3", 2),
            ("msix-function-script 1\nvectors 2\npin high", 3),
            ("msix-function-script 1\nvectors 2\nwithdraw 0", 3),
            ("msix-function-script 1\nvectors 2\nwithdraw pin 0", 3),
            ("msix-function-script 1\nvectors 2\nwrite-config 2 2 0", 3),
        ] {
            let read = ScriptReader::<_, FunctionOperation>::begin(text.as_bytes());
            assert_eq!(read.map(|_| ()).unwrap_err().line, line, "{text}");
        }
    }
}
