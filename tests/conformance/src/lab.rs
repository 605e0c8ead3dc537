//! Where a case makes its devices: one subject, one vector count.

use super::adapter::{NoDevice, Subject};
use super::bench::{Bench, Stop, message_of};
use super::choices::Choices;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Makes benches for one case and one vector count.
pub(super) struct Lab<'a> {
    /// Who is judged.
    pub(super) subject: &'a dyn Subject,
    /// How many vectors.
    pub(super) n: u16,
    /// Its choices.
    pub(super) choices: Choices,
    notes: RefCell<BTreeSet<String>>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(subject: &'a dyn Subject, n: u16) -> Self {
        Self { subject, n, choices: subject.choices(), notes: RefCell::default() }
    }

    /// Something the report should say about a case that passed.
    pub(super) fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().insert(note.into());
    }

    pub(super) fn into_notes(self) -> BTreeSet<String> {
        self.notes.into_inner()
    }

    /// The vectors worth a look: edges of dwords and qwords, and the last.
    pub(super) fn sample(&self) -> Vec<u16> {
        let edges = [0, 1, 31, 32, 33, 63, 64, 96, self.n - 1];
        edges.into_iter().filter(|v| *v < self.n).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// All vectors of a small table, the sample and its neighbours of a large one.
    pub(super) fn looked_at(&self) -> Vec<u16> {
        if self.n <= 65 {
            return (0..self.n).collect();
        }
        let near = self.sample().into_iter().flat_map(|v| [v.saturating_sub(1), v, v + 1]);
        near.filter(|v| *v < self.n).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A device as it is made.
    pub(super) fn fresh(&self) -> Result<Bench<'_>, Stop> {
        match self.subject.device(u32::from(self.n)) {
            Ok(device) => Ok(Bench::new(self, device)),
            Err(NoDevice::NotOffered(why)) => {
                Err(Stop::NotObservable(format!("no device with {} vectors: {why}", self.n)))
            }
            Err(NoDevice::Refused(why)) => Err(Stop::Failed {
                did: format!("made a device with {} vectors", self.n),
                expected: "a device".into(),
                got: why,
            }),
        }
    }

    /// A device that is enabled, whose sampled vectors are claimed and programmed, and all masked.
    pub(super) fn ready(&self) -> Result<Bench<'_>, Stop> {
        let mut bench = self.programmed()?;
        bench.enable();
        bench.forget();
        Ok(bench)
    }

    /// As [`ready`](Self::ready), but disabled.
    pub(super) fn programmed(&self) -> Result<Bench<'_>, Stop> {
        let mut bench = self.fresh()?;
        for v in self.sample() {
            bench.claim_if_offered(v)?;
            bench.program(v, message_of(v));
        }
        bench.forget();
        Ok(bench)
    }
}
