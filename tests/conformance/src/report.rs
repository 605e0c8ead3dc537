//! What a run reports, for people and for programs.

use super::Case;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
#[cfg(feature = "serde")]
use serde::Serialize;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize), serde(tag = "verdict", rename_all = "kebab-case"))]
pub enum Verdict {
    /// All that was expected was seen.
    Passed {
        /// The vector counts it was seen at.
        sizes: Vec<u16>,
        /// Which choice was seen where none was declared, and what was not looked at.
        notes: Vec<String>,
    },
    /// Something else was seen.
    Failed {
        /// The last things that were done.
        did: String,
        /// What should have been seen.
        expected: String,
        /// What was seen.
        got: String,
    },
    /// The adapter does not offer what the case takes.
    NotObservable {
        /// What is missing.
        why: String,
    },
}

/// A case and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct CaseReport {
    /// The case's id.
    pub id: &'static str,
    /// What must be seen.
    pub intent: &'static str,
    /// How it ended.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub verdict: Verdict,
}

impl CaseReport {
    pub(super) fn new(case: &Case, verdict: Verdict) -> Self {
        Self { id: case.id, intent: case.intent, verdict }
    }
}

/// All verdicts on one subject. Displays as a table; with feature `serde` it serialises with ids and
/// verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct Report {
    /// Who was judged.
    pub subject: String,
    /// One result for each case, in order.
    pub results: Vec<CaseReport>,
}

impl Report {
    /// Counts the cases that passed, failed, and could not be observed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |holds: fn(&Verdict) -> bool| {
            self.results.iter().filter(|result| holds(&result.verdict)).count()
        };
        (
            count(|verdict| matches!(verdict, Verdict::Passed { .. })),
            count(|verdict| matches!(verdict, Verdict::Failed { .. })),
            count(|verdict| matches!(verdict, Verdict::NotObservable { .. })),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, unseen) = self.counts();
        writeln!(f, "{}", self.subject)?;
        writeln!(f, "{passed} passed, {failed} failed, {unseen} not observable")?;
        for CaseReport { id, intent, verdict } in &self.results {
            match verdict {
                Verdict::Passed { notes, .. } => {
                    writeln!(f, "  {id}  passed          {intent}")?;
                    notes.iter().try_for_each(|note| writeln!(f, "         note      {note}"))?;
                }
                Verdict::Failed { did, expected, got } => {
                    writeln!(f, "  {id}  FAILED          {intent}")?;
                    writeln!(f, "         done      {did}")?;
                    writeln!(f, "         expected  {expected}")?;
                    writeln!(f, "         got       {got}")?;
                }
                Verdict::NotObservable { why } => {
                    writeln!(f, "  {id}  not observable  {intent}")?;
                    writeln!(f, "         because   {why}")?;
                }
            }
        }
        Ok(())
    }
}
