//! Pieces of an access or a range, each with one owner.

use std::ops::Range;

/// Consecutive bytes with one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRange<T> {
    /// Their offsets in the config space or the BAR.
    pub range: Range<u64>,
    /// Their owner.
    pub owner: T,
}

/// Ranges, in order and without overlap, that cover a whole from 0 on, each with one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tiles<T> {
    runs: Vec<OwnedRange<T>>,
}

impl<T: Copy + PartialEq> Tiles<T> {
    /// Makes `size` bytes of one owner.
    pub(super) fn new(size: u64, owner: T) -> Self {
        let whole = OwnedRange { range: 0..size, owner };
        Self { runs: Vec::from_iter((size > 0).then_some(whole)) }
    }

    /// Gives `range`, as far as it is inside, to `owner`. Neighbours of one owner become one run.
    pub(super) fn give(&mut self, range: Range<u64>, owner: T) {
        let mut runs: Vec<OwnedRange<T>> = Vec::with_capacity(self.runs.len() + 2);
        for run in &self.runs {
            let inside = intersection(&run.range, &range);
            for (part, owner) in [
                (run.range.start..inside.start, run.owner),
                (inside.clone(), owner),
                (inside.end..run.range.end, run.owner),
            ] {
                match runs.last_mut() {
                    _ if part.is_empty() => {}
                    Some(last) if last.owner == owner => last.range.end = part.end,
                    _ => runs.push(OwnedRange { range: part, owner }),
                }
            }
        }
        self.runs = runs;
    }

    /// Returns all runs, in order.
    pub(super) fn runs(&self) -> &[OwnedRange<T>] {
        &self.runs
    }
}

/// Returns what two ranges share. If they share nothing, returns an empty range inside `of`: at the
/// end of its part before `with`, or at its start.
pub(super) fn intersection(of: &Range<u64>, with: &Range<u64>) -> Range<u64> {
    let start = with.start.clamp(of.start, of.end);
    start..with.end.clamp(start, of.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_is_cut_out_and_neighbours_grow_together() {
        let mut tiles = Tiles::new(100, 'd');
        tiles.give(20..40, 't');
        tiles.give(40..60, 't');
        tiles.give(30..35, 'p');
        tiles.give(90..200, 'n');
        tiles.give(50..50, 'x');
        tiles.give(300..400, 'x');
        let runs: Vec<_> = tiles.runs().iter().map(|run| (run.range.clone(), run.owner)).collect();
        let expected = [
            (0..20, 'd'),
            (20..30, 't'),
            (30..35, 'p'),
            (35..60, 't'),
            (60..90, 'd'),
            (90..100, 'n'),
        ];
        assert_eq!(runs, expected);
        assert_eq!(Tiles::new(0, 'd').runs(), []);
    }
}
