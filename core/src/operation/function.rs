//! The inputs of a function, as data.

use super::{Answer, low, nothing, read};
use crate::effects::EffectSink;
use crate::function::{Function, FunctionEffect, Mode};
use crate::msix::{Access, Message};
use crate::storage::Storage;
use crate::vectors::{Vector, Vectors};

/// One input of a [`Function`]. I1 to I7 hold for any sequence of them. With feature `arbitrary` it
/// can be made from fuzzer bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum FunctionOperation {
    /// [`Function::write_msi`] of the low `len` bytes (up to 8) of `value`.
    WriteMsi {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Function::read_msi`] of `len` bytes (up to 8); without MSI it has no answer.
    ReadMsi {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
    },
    /// [`Function::poll_msi`] of `len` bytes (up to 8).
    PollMsi {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
    },
    /// [`Function::write_msix`] of the low `len` bytes (up to 8) of `value`.
    WriteMsix {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Function::write_command`] of the low `len` bytes (up to 8) of `value`.
    WriteCommand {
        /// Byte offset in the register.
        offset: u8,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Function::write_table`] of the low `len` bytes (up to 8) of `value`.
    WriteTable {
        /// Byte offset in the table.
        offset: u16,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Function::poll_pba`] of `len` bytes (up to 8).
    PollPba {
        /// Byte offset in the PBA.
        offset: u16,
        /// Bytes.
        len: u8,
    },
    /// [`Function::notify`].
    Notify(Vector),
    /// [`Function::withdraw`].
    Withdraw(Mode, Vector),
    /// [`Function::set_level`].
    SetLevel(bool),
    /// [`Function::report_fired`].
    ReportFired,
    /// [`Function::eoi`].
    Eoi,
    /// [`Function::claim`].
    Claim(Vector),
    /// [`Function::unclaim`].
    Unclaim(Vector),
    /// [`Function::unclaim_all`].
    UnclaimAll,
    /// [`Function::set_mask`].
    SetMask(Vector, bool),
    /// [`Function::set_message`].
    SetMessage(Vector, Message),
    /// [`Function::attach`].
    Attach,
    /// [`Function::detach`].
    Detach,
    /// [`Function::report_failed`].
    ReportFailed(Mode, Vectors),
    /// [`Function::report_held`].
    ReportHeld(Mode, Vectors),
    /// [`Function::reset`].
    Reset,
    /// [`Function::prepare_save`].
    PrepareSave,
    /// [`Function::save`] and [`Function::load`] of the same bytes.
    SaveAndLoad,
    /// [`Function::resume`].
    Resume,
}

impl FunctionOperation {
    /// Applies the operation. `scratch` is room for a snapshot, [`Function::saved_len`] bytes; with
    /// less, [`SaveAndLoad`](Self::SaveAndLoad) does nothing.
    pub fn apply<S: Storage, K: EffectSink<FunctionEffect>>(
        &self,
        function: &mut Function<S>,
        scratch: &mut [u8],
        fx: &mut K,
    ) -> Answer {
        match *self {
            Self::WriteMsi { offset, len, value } => {
                let bytes = value.to_le_bytes();
                nothing(function.write_msi(usize::from(offset), low(&bytes, len), fx))
            }
            Self::ReadMsi { offset, len } => match function.msi() {
                Some(msi) => read(len, |bytes| {
                    msi.read_config(usize::from(offset), bytes);
                    Access::Done
                }),
                None => Answer::Nothing,
            },
            Self::PollMsi { offset, len } => {
                nothing(function.poll_msi(usize::from(offset), usize::from(len.min(8)), fx))
            }
            Self::WriteMsix { offset, len, value } => {
                let bytes = value.to_le_bytes();
                nothing(function.write_msix(usize::from(offset), low(&bytes, len), fx))
            }
            Self::WriteCommand { offset, len, value } => {
                let bytes = value.to_le_bytes();
                nothing(function.write_command(usize::from(offset), low(&bytes, len), fx))
            }
            Self::WriteTable { offset, len, value } => {
                let bytes = value.to_le_bytes();
                let written = function.write_table(u64::from(offset), low(&bytes, len), fx);
                written.map_or(Answer::Nothing, Answer::Written)
            }
            Self::PollPba { offset, len } => {
                nothing(function.poll_pba(u64::from(offset), usize::from(len.min(8)), fx))
            }
            Self::Notify(vector) => {
                function.notify(vector, fx).map_or(Answer::Nothing, Answer::Event)
            }
            Self::Withdraw(mode, vector) => {
                function.withdraw(mode, vector, fx).map_or(Answer::Nothing, Answer::Withdrawn)
            }
            Self::SetLevel(high) => nothing(function.set_level(high, fx)),
            Self::ReportFired => nothing(function.report_fired(fx)),
            Self::Eoi => nothing(function.eoi(fx)),
            Self::Claim(vector) => nothing(function.claim(vector, fx)),
            Self::Unclaim(vector) => nothing(function.unclaim(vector, fx)),
            Self::UnclaimAll => nothing(function.unclaim_all(fx)),
            Self::SetMask(vector, masked) => nothing(function.set_mask(vector, masked, fx)),
            Self::SetMessage(vector, message) => nothing(function.set_message(vector, message, fx)),
            Self::Attach => nothing(function.attach(fx)),
            Self::Detach => nothing(function.detach(fx)),
            Self::ReportFailed(mode, vectors) => {
                function.report_failed(mode, vectors);
                Answer::Nothing
            }
            Self::ReportHeld(mode, vectors) => nothing(function.report_held(mode, vectors, fx)),
            Self::Reset => nothing(function.reset(fx)),
            Self::PrepareSave => nothing(function.prepare_save(fx)),
            Self::SaveAndLoad => match function.save(scratch) {
                Ok(len) => nothing(function.load(scratch.get(..len).unwrap_or_default())),
                Err(_) => Answer::Nothing,
            },
            Self::Resume => nothing(function.resume(fx)),
        }
    }
}
