//! Which registers an access reaches (E2, E3).

use std::ops::Range;

/// IntrMask.
pub(super) const MASK: u64 = 0;
/// IntrStatus.
pub(super) const STATUS: u64 = 4;
/// IVPosition.
pub(super) const POSITION: u64 = 8;
/// Doorbell.
pub(super) const DOORBELL: u64 = 12;

/// Which accesses to BAR0 and BAR1 are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// To BAR0 as the device's specification has it: aligned dwords. To BAR1 as the guest made them.
    Strict,
    /// As QEMU splits them and its device answers them (E3), but for the doorbell's vector, which has
    /// 16 bits here.
    Qemu,
}

/// The parts of an access of `len` bytes at `offset`: aligned, a power of two, at most `most` bytes.
pub(super) fn parts(offset: u64, len: usize, most: u64) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let left = len.checked_sub(from).filter(|left| *left > 0)?;
        let at = offset.wrapping_add(from as u64);
        let aligned = if at == 0 { most } else { at & at.wrapping_neg() };
        let fits = (1_u64 << left.ilog2()).min(aligned).min(most) as usize;
        let part = from..from + fits;
        from = part.end;
        Some(part)
    })
}

/// The register that a read of `len` bytes at `offset` of BAR0 reads.
pub(super) fn read(width: Width, offset: u64, len: usize) -> Option<u64> {
    match width {
        Width::Strict => (len == 4 && offset.is_multiple_of(4)).then_some(offset),
        Width::Qemu => Some(offset),
    }
}

/// The register that a write of `len` bytes at `offset` of BAR0 writes.
pub(super) fn written(width: Width, offset: u64, len: usize) -> Option<u64> {
    match width {
        Width::Strict => (len == 4 && offset.is_multiple_of(4)).then_some(offset),
        Width::Qemu => Some(offset & 0xfc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_split_where_a_bus_splits_it() {
        let split = |offset, len, most| parts(offset, len, most).collect::<Vec<_>>();
        assert_eq!(split(0, 8, 4), [0..4, 4..8]);
        assert_eq!(split(0, 16, 8), [0..8, 8..16]);
        assert_eq!(split(4, 8, 8), [0..4, 4..8]);
        assert_eq!(split(6, 4, 8), [0..2, 2..4]);
        assert_eq!(split(1, 4, 4), [0..1, 1..3, 3..4]);
        assert_eq!(split(0, 3, 8), [0..2, 2..3]);
        assert_eq!(split(u64::MAX, 2, 8), [0..1, 1..2]);
        assert_eq!(split(0, 0, 8), []);
        for offset in 0..32 {
            for len in 0..40 {
                let all: Vec<usize> = parts(offset, len, 8).flatten().collect();
                assert!(all.into_iter().eq(0..len));
            }
        }
    }
}
