//! The inputs as data, so that sequences of them can be generated, stored, shrunk and replayed
//! (feature `operations`).

mod function;
mod msix;

pub use function::FunctionOperation;
pub use msix::Operation;

use crate::msix::{Access, Delivery};

/// The answer of an operation. I1 to I7 hold for any sequence of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The input has no answer, or was refused with an error and changed nothing.
    Nothing,
    /// A read, and the little-endian value of the bytes read.
    Read(Access, u64),
    /// A write.
    Written(Access),
    /// An event: what became of it.
    Event(Delivery),
    /// Whether a withdrawn vector was pending.
    Withdrawn(bool),
}

fn nothing<T, E>(_: Result<T, E>) -> Answer {
    Answer::Nothing
}

fn low(bytes: &[u8; 8], len: u8) -> &[u8] {
    bytes.get(..usize::from(len)).unwrap_or(bytes)
}

fn read(len: u8, read: impl FnOnce(&mut [u8]) -> Access) -> Answer {
    let mut bytes = [0; 8];
    let access = read(bytes.get_mut(..usize::from(len.min(8))).unwrap_or_default());
    Answer::Read(access, u64::from_le_bytes(bytes))
}
