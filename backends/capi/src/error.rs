//! Error codes and their words.

use core::ffi::{CStr, c_char, c_int};
use msix_core::{
    LayoutError, LoadError, NewError, NotCarriedOut, SaveError, StorageError, VectorError,
};

/// What a function returns instead of its answer: a negative number. Nothing was changed then, unless
/// the function says otherwise. msix_strerror() returns the words.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CError {
    /// A pointer is null that must not be.
    Null = -1,
    /// A pointer is not a multiple of the alignment of what it points to.
    Misaligned = -2,
    /// A length is wrong: the memory is too small, a buffer is too short, or the `size` of a struct is
    /// not that of this version.
    Size = -3,
    /// The memory holds no engine: it was not initialised, or was moved since.
    NotInitialized = -4,
    /// An input was called from a callback. Call it after the outer call has returned.
    Busy = -5,
    /// Effects of the last input are still in the list. Take them and carry them out first.
    NotCarriedOut = -6,
    /// A value is none of its enum.
    Value = -7,
    /// There is no such vector.
    Vector = -8,
    /// The vector has 65535 claims already.
    TooManyClaims = -9,
    /// An invariant does not hold: a defect of this library.
    Invariant = -10,
    /// The vector count is not 1 to 2048.
    LayoutVectors = -11,
    /// A BAR index is above 5.
    LayoutBar = -12,
    /// An offset is not a multiple of 8 bytes.
    LayoutMisaligned = -13,
    /// An offset does not fit 32 bits.
    LayoutOffset = -14,
    /// The table or the PBA ends past its BAR.
    LayoutOutsideBar = -15,
    /// Table and PBA overlap.
    LayoutOverlap = -16,
    /// The snapshot has another length than one of this function.
    LoadLength = -17,
    /// The bytes are not a snapshot.
    LoadMagic = -18,
    /// The snapshot has a version that this library does not know.
    LoadVersion = -19,
    /// The snapshot is of a function with another number of vectors.
    LoadVectors = -20,
    /// The snapshot's checksum is wrong.
    LoadChecksum = -21,
    /// Message Control in the snapshot has a reserved bit set.
    LoadReservedControl = -22,
    /// The PBA in the snapshot has bits set past the last vector.
    LoadPbaTail = -23,
    /// The snapshot is of a function with other parts.
    LoadFunction = -24,
    /// An error that this version of the interface has no code for.
    Other = -25,
    /// The system refused: `errno` says why.
    System = -26,
    /// It is there already.
    Exists = -27,
}

/// An answer as C reads it: the value, or the error, which is negative.
pub(crate) fn answer(result: Result<c_int, CError>) -> c_int {
    result.unwrap_or_else(CError::code)
}

/// The answer of a function that has none but that it worked.
pub(crate) fn done(result: Result<(), CError>) -> c_int {
    answer(result.map(|()| 0))
}

impl CError {
    #[expect(clippy::as_conversions, reason = "a discriminant")]
    pub(crate) const fn code(self) -> c_int {
        self as c_int
    }

    const ALL: [(Self, &CStr); 27] = [
        (Self::Null, c"a pointer is null that must not be"),
        (Self::Misaligned, c"a pointer is not aligned for what it points to"),
        (Self::Size, c"a length is wrong: too small, or not the size of this version's struct"),
        (Self::NotInitialized, c"the memory holds no engine, or was moved"),
        (Self::Busy, c"an input was called from a callback: call it after the outer call"),
        (Self::NotCarriedOut, c"the effects of the last input are not carried out yet"),
        (Self::Value, c"a value is none of its enum"),
        (Self::Vector, c"there is no such vector"),
        (Self::TooManyClaims, c"the vector has 65535 claims already"),
        (Self::Invariant, c"an invariant does not hold: a defect of the library"),
        (Self::LayoutVectors, c"the vector count is not 1 to 2048"),
        (Self::LayoutBar, c"a BAR index is above 5"),
        (Self::LayoutMisaligned, c"an offset of table or PBA is not a multiple of 8"),
        (Self::LayoutOffset, c"an offset of table or PBA does not fit 32 bits"),
        (Self::LayoutOutsideBar, c"the table or the PBA ends past its BAR"),
        (Self::LayoutOverlap, c"table and PBA overlap"),
        (Self::LoadLength, c"the snapshot has another length than one of this function"),
        (Self::LoadMagic, c"the bytes are not a snapshot"),
        (Self::LoadVersion, c"the snapshot has an unknown version"),
        (Self::LoadVectors, c"the snapshot is of a function with another number of vectors"),
        (Self::LoadChecksum, c"the snapshot's checksum is wrong"),
        (Self::LoadReservedControl, c"Message Control in the snapshot has a reserved bit set"),
        (Self::LoadPbaTail, c"the PBA in the snapshot has bits past the last vector"),
        (Self::LoadFunction, c"the snapshot is of a function with other parts"),
        (Self::Other, c"an error without a code of its own"),
        (Self::System, c"the system refused: errno says why"),
        (Self::Exists, c"it is there already"),
    ];
}

/// Returns the words of an error, or "no error" for a number that is not negative. The string lives as
/// long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn msix_strerror(error: c_int) -> *const c_char {
    let named = CError::ALL.iter().find(|(code, _)| code.code() == error);
    let words = match named {
        Some((_, words)) => words,
        None if error >= 0 => c"no error",
        None => c"an unknown error code",
    };
    words.as_ptr()
}

#[cfg(feature = "kvm")]
impl From<msix_backends::kvm::FunctionError> for CError {
    fn from(_: msix_backends::kvm::FunctionError) -> Self {
        Self::Value // the config lacks the requester id
    }
}

impl From<NotCarriedOut> for CError {
    fn from(_: NotCarriedOut) -> Self {
        Self::NotCarriedOut
    }
}

impl From<VectorError> for CError {
    fn from(error: VectorError) -> Self {
        match error {
            VectorError::OutOfRange { .. } => Self::Vector,
            VectorError::TooManyClaims { .. } => Self::TooManyClaims,
            VectorError::NotCarriedOut => Self::NotCarriedOut,
            _ => Self::Other,
        }
    }
}

impl From<SaveError> for CError {
    fn from(_: SaveError) -> Self {
        Self::Size
    }
}

impl From<StorageError> for CError {
    fn from(_: StorageError) -> Self {
        Self::Size
    }
}

impl From<NewError> for CError {
    fn from(_: NewError) -> Self {
        Self::Size
    }
}

impl From<LayoutError> for CError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::Vectors(_) => Self::LayoutVectors,
            LayoutError::ReservedBar(_) => Self::LayoutBar,
            LayoutError::Misaligned { .. } => Self::LayoutMisaligned,
            LayoutError::OffsetTooLarge { .. } => Self::LayoutOffset,
            LayoutError::OutsideBar { .. } => Self::LayoutOutsideBar,
            LayoutError::Overlap { .. } => Self::LayoutOverlap,
            _ => Self::Other,
        }
    }
}

impl From<LoadError> for CError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Length { .. } => Self::LoadLength,
            LoadError::Magic(_) => Self::LoadMagic,
            LoadError::Version(_) => Self::LoadVersion,
            LoadError::Vectors { .. } => Self::LoadVectors,
            LoadError::Checksum => Self::LoadChecksum,
            LoadError::ReservedControl(_) => Self::LoadReservedControl,
            LoadError::PbaTail(_) => Self::LoadPbaTail,
            LoadError::Function => Self::LoadFunction,
            _ => Self::Other,
        }
    }
}
