//! What a recording tells of a function whose accesses it shows in full, and whose events it does not.

use super::{Device, Standing};
use crate::timeline::Moment;
use msix_core::spec::{CONTROL_ENABLE, CONTROL_FUNCTION_MASK};
use msix_core::{Message, Vector};

/// What a read of the PBA says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PbaRead {
    /// Vectors that must be pending and read as if they were not.
    pub(crate) lies: Vec<u16>,
    /// Vectors that are pending, and the recording did not tell before.
    pub(crate) told: Vec<u16>,
}

impl Device {
    /// A read of the table gave `bytes`, which the recording did not tell before: the function has
    /// them there. Returns the vectors whose entries they are of.
    pub(crate) fn learn(&mut self, offset: u64, bytes: &[u8], now: Moment) -> [Option<u16>; 2] {
        let touched = self.write(offset, bytes, now);
        self.report.table_writes -= 1;
        for vector in touched.into_iter().flatten() {
            if let Some(known) = self.known.of_mut(vector) {
                known.rewritten = false; // it was so all the time
            }
            self.observe(vector, now);
        }
        touched
    }

    /// A read of Message Control found these bits. `Err` when they must be others.
    pub(crate) fn control_read(
        &mut self,
        read: (bool, bool),
        now: Moment,
    ) -> Result<(), (bool, bool)> {
        let known = self.known.control;
        let made = self.control_bits();
        if !known || made != read {
            // What it cannot have been told otherwise, it is.
            let _ = self.control(None, read, now);
        }
        if known && made != read { Err(made) } else { Ok(()) }
    }

    /// Whether it is known if the function masters the bus.
    pub(crate) const fn knows_bus_master(&self) -> bool {
        self.known.bus_master.is_some()
    }

    /// Whether `vector` sends at once.
    pub(crate) fn is_live(&self, vector: u16) -> bool {
        self.standing(vector) == Standing::Live
    }

    /// Why `vector` does not send, for people.
    pub(crate) fn blocked_by(&self, vector: u16) -> &'static str {
        let control = self.msix.control();
        if control & CONTROL_ENABLE == 0 {
            "while MSI-X is disabled"
        } else if control & CONTROL_FUNCTION_MASK != 0 {
            "while the function is masked"
        } else if self.msix.is_masked(Vector::new(vector)) == Some(true) {
            "while it is masked"
        } else {
            "while the function does not master the bus"
        }
    }

    /// Whether it may send a message that the recording did not tell.
    pub(crate) const fn is_opaque(&self) -> bool {
        self.opaque > 0
    }

    /// What the entry of `vector` held when it was last live with another message than it holds, and
    /// what it holds.
    pub(crate) fn rewritten(&self, vector: u16) -> Option<(Message, Message)> {
        if self.is_rewritten(vector) || !self.known.message(vector) {
            return None;
        }
        let now = self.entry(vector)?;
        let watched = self.watched.get(usize::from(vector))?;
        let before = watched.before(now);
        Some((before?, now))
    }

    /// An event of `vector` was delivered although the vector was blocked. It stays pending, but
    /// nothing is due when it is unmasked.
    pub(crate) fn raise_delivered(&mut self, vector: u16, now: Moment) {
        let before = self.is_pending(vector);
        self.raise(vector, now);
        if let Some(known) = self.known.of_mut(vector) {
            known.delivered |= !before;
        }
    }

    /// A read of the PBA at `offset` that gave `bytes`.
    pub(crate) fn read_pba(&mut self, offset: u64, bytes: &[u8], now: Moment) -> PbaRead {
        let mut found = PbaRead::default();
        let mut compared = false;
        let first = offset.saturating_mul(8);
        for (at, byte) in (0_u64..).zip(bytes) {
            for bit in 0..8_u64 {
                let vector = self.in_table(first.saturating_add(at * 8 + bit));
                let Some(vector) = vector else { continue };
                let set = byte >> bit & 1 != 0;
                let doubtful = self.known.of(vector).is_none_or(|known| known.doubtful);
                match (self.is_pending(vector), set) {
                    (true, true) => compared = true,
                    (true, false) if !doubtful => {
                        compared = true;
                        found.lies.push(vector);
                    }
                    (false, true) if self.standing(vector) == Standing::Blocked => {
                        found.told.push(vector);
                    }
                    // Not pending and live: sent at once, and so it reads.
                    (false, false) if self.standing(vector) == Standing::Live => compared = true,
                    _ => {}
                }
            }
        }
        for &vector in &found.told {
            self.report.raises.pending += 1;
            self.raise(vector, now);
        }
        if compared {
            self.report.pba_reads.compared += 1;
            self.report.pba_reads.mismatched += u64::from(!found.lies.is_empty());
        } else if found.told.is_empty() {
            self.report.undecided.reads += 1;
        }
        found
    }
}
