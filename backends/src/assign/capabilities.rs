//! Walks the chains of capabilities, as those of a hostile device.

use super::error::AssignError;
use super::rules;
use msix_core::spec::{CAPABILITY_ID, MSI_CAPABILITY_ID};

/// A capability of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capability {
    /// Its id; extended capabilities (at 0x100 and above) have a numbering of their own.
    pub id: u16,
    /// Where it is in config space.
    pub at: u16,
    /// The number of bytes known to belong to it: all of a capability that is known here or states
    /// its length, and the header of others.
    pub len: u16,
}

impl Capability {
    /// Returns whether it is in the extended chain, which begins at 0x100.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.at >= EXTENDED
    }

    /// Returns the first byte behind it.
    pub(super) const fn end(&self) -> u16 {
        self.at.saturating_add(self.len)
    }
}

/// Returns both chains, in their order. `config` has 256 or 4096 bytes. Takes at most 48 and 960
/// steps.
pub(super) fn capabilities(config: &[u8]) -> Result<Vec<Capability>, AssignError> {
    let mut found = Vec::new();
    if byte(config, STATUS) & HAS_CAPABILITIES != 0 {
        let walk = Walk { first: POINTER, least: 0x40, limit: EXTENDED };
        walk.run(&mut found, u16::from(byte(config, POINTER)), |at| {
            let id = byte(config, at);
            let len = rules::len(id, rest(config, at));
            Some((u16::from(id), len, at + 1, u16::from(byte(config, at + 1))))
        })?;
    }
    if config.len() > usize::from(EXTENDED) {
        let walk = Walk { first: EXTENDED, least: EXTENDED, limit: 0x1000 };
        walk.run(&mut found, EXTENDED, |at| {
            let header = dword(config, at);
            // Nothing there: all zeros, or a bus that has no extended config space.
            if header == 0 || header == u32::MAX {
                return None;
            }
            let [i0, i1, n0, n1] = header.to_le_bytes();
            let id = u16::from_le_bytes([i0, i1]);
            let len = rules::extended_len(id, rest(config, at));
            Some((id, len, at + 2, u16::from_le_bytes([n0, n1]) >> 4))
        })?;
    }
    refuse_overlaps(&found)?;
    for id in [CAPABILITY_ID, MSI_CAPABILITY_ID].map(u16::from) {
        let mut with = found.iter().filter(|c| c.id == id && !c.is_extended());
        if let (Some(first), Some(second)) = (with.next(), with.next()) {
            return Err(AssignError::Twice { id, first: first.at, second: second.at });
        }
    }
    Ok(found)
}

struct Walk {
    /// The offset of the pointer to the first capability.
    first: u16,
    least: u16,
    limit: u16,
}

impl Walk {
    /// Walks the chain. `read` returns id, length, and the position and value of the next pointer.
    fn run(
        &self,
        found: &mut Vec<Capability>,
        mut to: u16,
        read: impl Fn(u16) -> Option<(u16, u16, u16, u16)>,
    ) -> Result<(), AssignError> {
        let mut from = self.first;
        loop {
            to &= !3; // reserved, and software masks them
            if to == 0 {
                return Ok(());
            }
            if to < self.least {
                return Err(AssignError::Below { from, to, least: self.least });
            }
            if found.iter().any(|capability| capability.at == to) {
                return Err(AssignError::Loop { from, to });
            }
            let Some((id, len, pointer, next)) = read(to) else { return Ok(()) };
            let capability = Capability { id, at: to, len };
            let (end, limit) = (capability.end(), self.limit);
            if end > limit {
                return Err(AssignError::RunsOver { id, at: to, end, limit });
            }
            found.push(capability);
            (from, to) = (pointer, next);
        }
    }
}

fn refuse_overlaps(found: &[Capability]) -> Result<(), AssignError> {
    let mut sorted = found.to_vec();
    sorted.sort_by_key(|capability| capability.at);
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && second.at < first.end()
        {
            return Err(AssignError::Overlap {
                id: first.id,
                at: first.at,
                other: second.id,
                other_at: second.at,
            });
        }
    }
    Ok(())
}

/// Returns byte `at` of `config`; 0 past its end.
pub(super) fn byte(config: &[u8], at: u16) -> u8 {
    config.get(usize::from(at)).copied().unwrap_or(0)
}

/// Returns the dword at `at`; 0 past the end.
pub(super) fn dword(config: &[u8], at: u16) -> u32 {
    u32::from_le_bytes(rest(config, at).first_chunk().copied().unwrap_or([0; 4]))
}

/// Returns the bytes from `at` on.
pub(super) fn rest(config: &[u8], at: u16) -> &[u8] {
    config.get(usize::from(at)..).unwrap_or(&[])
}

/// Where extended config space begins.
pub(super) const EXTENDED: u16 = 0x100;
/// Offset of the pointer to the first capability.
pub(super) const POINTER: u16 = 0x34;
/// Offset of Status.
const STATUS: u16 = 6;
/// Status bit 4, Capabilities List.
const HAS_CAPABILITIES: u8 = 0x10;
