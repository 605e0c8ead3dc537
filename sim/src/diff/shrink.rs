//! Finds a short sequence that still shows a difference.

use super::bench::Bench;
use super::pair::PeerDifference;
use msix_core::operation::Operation;
use msix_explorer::script::Script;
use msix_peers::QemuError;

/// A difference and how to see it again.
#[derive(Debug, serde::Serialize)]
pub struct ShrunkDifference {
    /// The difference, after shrinking.
    #[serde(flatten)]
    pub difference: PeerDifference,
    /// The shortest sequence found that shows it, as a script.
    pub script: String,
    /// Inputs before shrinking.
    pub inputs: usize,
}

/// Most sequences tried.
const TRIES: usize = 1500;

/// Shrinks what device `index` was given since the last reset, which ended in `difference`, until
/// `go_on` says no.
pub(super) fn shrink(
    bench: &mut Bench,
    index: usize,
    difference: PeerDifference,
    go_on: &mut impl FnMut() -> bool,
) -> Result<ShrunkDifference, QemuError> {
    let mut sequence = bench.history.get(index).cloned().unwrap_or_default();
    let inputs = sequence.len();
    let mut shown = difference;
    let mut tries = 0;
    let mut chunk = sequence.len().div_ceil(2).max(1);
    'shorter: while tries < TRIES {
        let mut start = 0;
        let mut removed = false;
        while start < sequence.len() && tries < TRIES {
            if !go_on() {
                break 'shorter;
            }
            let end = (start + chunk).min(sequence.len());
            let shorter: Vec<Operation> = [sequence.get(..start), sequence.get(end..)]
                .into_iter()
                .flatten()
                .flatten()
                .copied()
                .collect();
            tries += 1;
            match bench.repeat(index, shorter.iter().copied())? {
                Some(difference) => {
                    // What comes after the difference does not matter.
                    let len = bench.history.get(index).map_or(shorter.len(), Vec::len);
                    sequence = shorter.into_iter().take(len).collect();
                    shown = difference;
                    removed = true;
                }
                None => start = end,
            }
        }
        if chunk == 1 && !removed {
            break;
        }
        chunk = if removed && chunk == 1 { 1 } else { chunk.div_ceil(2).max(1) };
    }
    let script =
        Script { vectors: bench.options.vectors, policy: "qemu".to_owned(), operations: sequence };
    Ok(ShrunkDifference { difference: shown, script: script.to_string(), inputs })
}
