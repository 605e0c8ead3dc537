//! The engine under [`Policy::QEMU`](msix_core::Policy::QEMU) and a real QEMU, side by side: random inputs to both,
//! every read and every message compared.

mod bench;
mod generate;
mod pair;
mod questions;
mod shrink;

pub use bench::DiffOptions;
pub use pair::{Compared, PeerDifference};
pub use shrink::ShrunkDifference;

use bench::{Bench, Found, Lane};
use generate::Generator;
use msix_core::operation::Operation;
use msix_peers::QemuError;

/// A defect of QEMU that is stepped around.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct KnownDefect {
    /// What QEMU does.
    pub defect: &'static str,
    /// The rule it is described in.
    pub rule: &'static str,
    /// What is done so that nothing else is skipped.
    pub avoided: &'static str,
}

/// All known ones; every version that was tried (7.2) has them.
pub const KNOWN_DEFECTS: [KnownDefect; 1] = [KnownDefect {
    defect: "a reset of an enabled, unmasked function leaves the cached function mask clear: a \
             vector unmasked before the next control write sends although MSI-X is disabled",
    rule: "H8",
    avoided: "every reset is followed by a control write of 0",
}];

/// What came of it.
#[derive(Debug, serde::Serialize)]
pub struct DiffOutcome {
    /// Whom the engine was compared with, and its version.
    pub peer: String,
    /// Of the random numbers.
    pub seed: u64,
    /// Vectors of each device.
    pub vectors: u16,
    /// Devices.
    pub devices: usize,
    /// What was compared.
    pub compared: Compared,
    /// How often answers of QEMU were waited for, those while a difference was shrunk included.
    pub round_trips: u64,
    /// What was stepped around.
    pub known_defects: [KnownDefect; 1],
    /// The first difference, if there is one.
    pub mismatch: Option<ShrunkDifference>,
    /// Whether it was asked to end before all inputs were compared, or before the difference was as
    /// short as it gets.
    pub interrupted: bool,
}

/// Runs it. `go_on` is called with the inputs done so far, and says whether to go on.
///
/// # Errors
/// [`QemuError`] when QEMU cannot be run or talked to.
pub fn run(
    options: &DiffOptions,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<DiffOutcome, QemuError> {
    let mut bench = Bench::start(options)?;
    let mut generators: Vec<Generator> = (0_u64..)
        .zip(0..options.devices)
        .map(|(offset, index)| {
            let (window, len) = pair::window(index, options.vectors);
            Generator::new(options.seed.wrapping_add(offset), options.vectors, window, len)
        })
        .collect();
    let (mut mismatch, mut interrupted) = (None, false);
    while bench.compared.operations < options.operations {
        let mut lanes: Vec<_> = generators
            .iter_mut()
            .enumerate()
            .map(|(index, generator)| {
                let inputs = std::iter::from_fn(|| Some(generator.next())).take(64);
                let migrates = options.player.migrates();
                Lane::new(
                    index,
                    inputs.filter(move |input| migrates || *input != Operation::SaveAndLoadQemu),
                )
            })
            .collect();
        let found = bench.give(&mut lanes)?;
        let done = bench.compared.operations;
        let mut go_on = || {
            interrupted |= !go_on(done);
            !interrupted
        };
        if let Some(Found { device, difference }) = found {
            mismatch = Some(shrink::shrink(&mut bench, device, difference, &mut go_on)?);
            break;
        }
        if !go_on() {
            break;
        }
    }
    Ok(DiffOutcome {
        peer: format!("{} {}", options.player.name(), bench.qemu.version()),
        seed: options.seed,
        vectors: options.vectors,
        devices: options.devices,
        compared: bench.compared,
        round_trips: bench.round_trips(),
        known_defects: KNOWN_DEFECTS,
        mismatch,
        interrupted,
    })
}

/// Gives `operations` to both sides, with one device of `vectors` vectors. Returns the first difference.
///
/// # Errors
/// [`QemuError`].
pub fn run_script(
    vectors: u16,
    operations: impl IntoIterator<Item = Operation>,
    options: &DiffOptions,
) -> Result<Option<PeerDifference>, QemuError> {
    let options = DiffOptions { vectors, devices: 1, ..options.clone() };
    Bench::start(&options)?.repeat(0, operations)
}
