//! What changes of a function's vectors, noted for the timeline and for those who follow its messages.

use super::{Device, Standing};
use crate::replay::WINDOW;
use crate::replay::entries::Bearing;
use crate::report::Masked;
use crate::timeline::{Moment, Shown};
use msix_core::{Message, Vector};

/// What is remembered of a vector between two inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    shown: Shown,
    bearing: Bearing,
    masked_since: Option<Moment>,
    /// It may send, and its message is not known.
    opaque: bool,
    /// What the entry held when it was last live.
    live_as: Option<Message>,
    /// What it held when it was live before that, with another message.
    relic: Option<Message>,
}

impl Watched {
    /// Nothing is known yet.
    pub(super) const NOTHING: Self = Self {
        shown: Shown::Unknown,
        bearing: Bearing::Open,
        masked_since: None,
        opaque: true,
        live_as: None,
        relic: None,
    };

    /// What the entry held when it was last live with another message than `now`.
    pub(super) fn before(&self, now: Message) -> Option<Message> {
        if self.live_as == Some(now) { self.relic } else { self.live_as }
    }

    /// What the entry held may be gone.
    pub(super) const fn forget(&mut self) {
        (self.live_as, self.relic) = (None, None);
    }
}

impl Device {
    /// The state changes since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Vec<(u16, Shown)> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The vectors that bear on their message otherwise since this was last asked, and how.
    pub(crate) fn take_turned(&mut self) -> Vec<(u16, Bearing)> {
        let turned = std::mem::take(&mut self.turned).into_iter();
        turned.map(|vector| (vector, self.bearing(vector))).collect()
    }

    pub(super) fn observe_all(&mut self, now: Moment) {
        for vector in 0..self.vectors() {
            self.observe(vector, now);
        }
    }

    fn shown(&self, vector: u16) -> Shown {
        let (enabled, _) = self.control_bits();
        match self.msix.is_masked(Vector::new(vector)) {
            _ if !self.known.control => Shown::Unknown,
            _ if !enabled => Shown::Off,
            _ if !self.known.mask(vector) => Shown::Unknown,
            Some(false) => Shown::Live,
            _ if self.is_pending(vector) => Shown::Pending,
            _ => Shown::Masked,
        }
    }

    /// Notes what changed for `vector`.
    pub(super) fn observe(&mut self, vector: u16, now: Moment) {
        self.observe_shown(vector, now);
        let bearing = self.bearing(vector);
        let entry = self.entry(vector).filter(|_| self.known.message(vector));
        let opaque = entry.is_none() && self.standing(vector) != Standing::Blocked;
        let Some(watched) = self.watched.get_mut(usize::from(vector)) else { return };
        self.opaque += usize::from(opaque);
        self.opaque -= usize::from(std::mem::replace(&mut watched.opaque, opaque));
        if std::mem::replace(&mut watched.bearing, bearing) != bearing {
            self.turned.push(vector);
        }
        if bearing == Bearing::Live && watched.live_as != entry {
            watched.relic = std::mem::replace(&mut watched.live_as, entry);
        }
    }

    fn observe_shown(&mut self, vector: u16, now: Moment) {
        let shown = self.shown(vector);
        let pending = self.is_pending(vector);
        let owed = now.line + WINDOW + u64::from(self.vectors());
        let Some(watched) = self.watched.get_mut(usize::from(vector)) else { return };
        let before = std::mem::replace(&mut watched.shown, shown);
        if before == shown {
            return;
        }
        if let Some(changes) = &mut self.changes {
            changes.push((vector, shown));
        }
        let masked_since = watched.masked_since;
        match shown {
            Shown::Masked | Shown::Pending if before == Shown::Live => {
                watched.masked_since = Some(now);
            }
            Shown::Masked | Shown::Pending => {}
            Shown::Live | Shown::Off | Shown::Unknown => watched.masked_since = None,
        }
        if let (Some(since), Shown::Live | Shown::Off) = (masked_since, shown) {
            self.was_masked(vector, since, now);
        }
        let Some(known) = self.known.of_mut(vector) else { return };
        match shown {
            Shown::Live => {
                known.rewritten = false; // A9: read anew at every unmask
                known.pending_unknown_until = known.pending_unknown_until.min(owed);
            }
            Shown::Off => known.doubtful |= pending, // T5
            _ => {}
        }
    }

    fn was_masked(&mut self, vector: u16, since: Moment, until: Moment) {
        let length = until.at.saturating_sub(since.at) as f64;
        if self.report.longest_masked.is_none_or(|longest| length > longest.length) {
            self.report.longest_masked = Some(Masked { vector, length });
        }
    }

    /// The log ends.
    pub(crate) fn end(&mut self, now: Moment) {
        for vector in 0..self.vectors() {
            let watched = self.watched.get(usize::from(vector));
            if let Some(since) = watched.and_then(|watched| watched.masked_since) {
                self.was_masked(vector, since, now);
            }
        }
    }
}
