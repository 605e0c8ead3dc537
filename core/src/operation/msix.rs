//! The inputs of MSI-X alone, as data.

use super::{Answer, low, nothing, read};
use crate::effects::EffectSink;
use crate::msix::{Access, Message, Msix};
use crate::storage::Storage;
use crate::vectors::{Vector, Vectors};

/// One input of [`Msix`]. I1 to I7 hold for any sequence of them. With feature `arbitrary` it can
/// be made from fuzzer bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Operation {
    /// [`Msix::write_config`] of the low `len` bytes (up to 8) of `value`.
    WriteConfig {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Msix::read_config`] of `len` bytes (up to 8).
    ReadConfig {
        /// Byte offset in the capability.
        offset: u8,
        /// Bytes.
        len: u8,
    },
    /// [`Msix::write_table`] of the low `len` bytes (up to 8) of `value`.
    WriteTable {
        /// Byte offset in the table.
        offset: u16,
        /// Bytes.
        len: u8,
        /// Little-endian value.
        value: u64,
    },
    /// [`Msix::read_table`] of `len` bytes (up to 8).
    ReadTable {
        /// Byte offset in the table.
        offset: u16,
        /// Bytes.
        len: u8,
    },
    /// [`Msix::poll_pba`] of `len` bytes (up to 8).
    PollPba {
        /// Byte offset in the PBA.
        offset: u16,
        /// Bytes.
        len: u8,
    },
    /// [`Msix::read_pba`] of `len` bytes (up to 8).
    ReadPba {
        /// Byte offset in the PBA.
        offset: u16,
        /// Bytes.
        len: u8,
    },
    /// [`Msix::write_pba`] of `len` bytes (up to 8).
    WritePba {
        /// Byte offset in the PBA.
        offset: u16,
        /// Bytes.
        len: u8,
    },
    /// [`Msix::notify`].
    Notify(Vector),
    /// [`Msix::withdraw`].
    Withdraw(Vector),
    /// [`Msix::claim`].
    Claim(Vector),
    /// [`Msix::unclaim`].
    Unclaim(Vector),
    /// [`Msix::unclaim_all`].
    UnclaimAll,
    /// [`Msix::set_mask`].
    SetMask(Vector, bool),
    /// [`Msix::set_message`].
    SetMessage(Vector, Message),
    /// [`Msix::attach`].
    Attach,
    /// [`Msix::detach`].
    Detach,
    /// [`Msix::report_failed`].
    ReportFailed(Vectors),
    /// [`Msix::report_held`].
    ReportHeld(Vectors),
    /// [`Msix::set_bus_master`].
    SetBusMaster(bool),
    /// [`Msix::reset`].
    Reset,
    /// [`Msix::prepare_save`].
    PrepareSave,
    /// [`Msix::save`] and [`Msix::load`] of the same bytes.
    SaveAndLoad,
    /// [`Msix::save_qemu`] and [`Msix::load_qemu`] of the same bytes.
    SaveAndLoadQemu,
    /// [`Msix::resume`].
    Resume,
}

impl Operation {
    /// Applies the operation. `scratch` is room for a snapshot, [`Msix::saved_len`] bytes; with
    /// less, the two save-and-load operations do nothing.
    pub fn apply<S: Storage, K: EffectSink>(
        &self,
        msix: &mut Msix<S>,
        scratch: &mut [u8],
        fx: &mut K,
    ) -> Answer {
        match *self {
            Self::WriteConfig { offset, len, value } => {
                let bytes = value.to_le_bytes();
                nothing(msix.write_config(usize::from(offset), low(&bytes, len), fx))
            }
            Self::ReadConfig { offset, len } => read(len, |bytes| {
                msix.read_config(usize::from(offset), bytes);
                Access::Done
            }),
            Self::WriteTable { offset, len, value } => {
                let bytes = value.to_le_bytes();
                let written = msix.write_table(u64::from(offset), low(&bytes, len), fx);
                written.map_or(Answer::Nothing, Answer::Written)
            }
            Self::ReadTable { offset, len } => {
                read(len, |bytes| msix.read_table(u64::from(offset), bytes))
            }
            Self::PollPba { offset, len } => {
                nothing(msix.poll_pba(u64::from(offset), usize::from(len.min(8)), fx))
            }
            Self::ReadPba { offset, len } => {
                read(len, |bytes| msix.read_pba(u64::from(offset), bytes))
            }
            Self::WritePba { offset, len } => {
                Answer::Written(msix.write_pba(u64::from(offset), low(&[0xff; 8], len)))
            }
            Self::Notify(vector) => msix.notify(vector, fx).map_or(Answer::Nothing, Answer::Event),
            Self::Withdraw(vector) => {
                msix.withdraw(vector, fx).map_or(Answer::Nothing, Answer::Withdrawn)
            }
            Self::Claim(vector) => nothing(msix.claim(vector, fx)),
            Self::Unclaim(vector) => nothing(msix.unclaim(vector, fx)),
            Self::UnclaimAll => nothing(msix.unclaim_all(fx)),
            Self::SetMask(vector, masked) => nothing(msix.set_mask(vector, masked, fx)),
            Self::SetMessage(vector, message) => nothing(msix.set_message(vector, message, fx)),
            Self::Attach => nothing(msix.attach(fx)),
            Self::Detach => nothing(msix.detach(fx)),
            Self::ReportFailed(vectors) => {
                msix.report_failed(vectors);
                Answer::Nothing
            }
            Self::ReportHeld(vectors) => nothing(msix.report_held(vectors, fx)),
            Self::SetBusMaster(on) => nothing(msix.set_bus_master(on, fx)),
            Self::Reset => nothing(msix.reset(fx)),
            Self::PrepareSave => nothing(msix.prepare_save(fx)),
            Self::SaveAndLoad => match msix.save(scratch) {
                Ok(len) => nothing(msix.load(scratch.get(..len).unwrap_or_default())),
                Err(_) => Answer::Nothing,
            },
            Self::SaveAndLoadQemu => match msix.save_qemu(scratch) {
                Ok(len) => {
                    let control = msix.control();
                    nothing(msix.load_qemu(control, scratch.get(..len).unwrap_or_default()))
                }
                Err(_) => Answer::Nothing,
            },
            Self::Resume => nothing(msix.resume(fx)),
        }
    }
}
