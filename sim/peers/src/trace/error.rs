//! What can be wrong with a line.

/// Why a line is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The line is not UTF-8 or holds a NUL.
    #[error("not text: byte {at} of the line is 0x{byte:02x}")]
    NotText {
        /// Position in the line, from 1.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A known event after a `:` without `PID@SECONDS.MICROS` before it.
    #[error("{event}: '{prefix}' is not a PID@SECONDS.MICROS prefix")]
    Prefix {
        /// The event.
        event: &'static str,
        /// What stands before it, shortened.
        prefix: String,
    },
    /// Something else stands where a field belongs, or nothing.
    #[error("{event}: {wanted} expected, got {got}")]
    Field {
        /// The event.
        event: &'static str,
        /// What belongs there.
        wanted: &'static str,
        /// What stands there, shortened.
        got: String,
    },
}
