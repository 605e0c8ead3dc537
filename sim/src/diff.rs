//! The engine under [`Policy::QEMU`](msix_core::Policy::QEMU) and a real QEMU, side by side: random inputs to both,
//! every read and every message compared.

mod generate;
mod pair;
mod shrink;

pub use pair::{Compared, PeerDifference};

use generate::Generator;
use msix_core::Policy;
use msix_core::operation::Operation;
use msix_explorer::script::Script;
use msix_peers::{Player, Qemu, QemuError, Setup, find_msix_field};
use pair::Pair;

/// What to run.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// Inputs in all.
    pub operations: u64,
    /// Of the random numbers.
    pub seed: u64,
    /// Vectors of each device, 1 to 2048.
    pub vectors: u16,
    /// Devices in one QEMU, 1 to 24.
    pub devices: usize,
    /// The QEMU to run, or the qtest front instead.
    pub player: Player,
    /// The engine's policy; [`Policy::QEMU`] unless a difference is wanted.
    pub policy: Policy,
}

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
    /// What was stepped around.
    pub known_defects: [KnownDefect; 1],
    /// The first difference, if there is one.
    pub mismatch: Option<ShrunkDifference>,
}

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
    let mut mismatch = None;
    // Runs of one device: what it does depends on what it just did.
    'run: while bench.compared.operations < options.operations {
        for (index, generator) in generators.iter_mut().enumerate() {
            for _ in 0..64 {
                let operation = generator.next();
                if operation == Operation::SaveAndLoadQemu && !options.player.migrates() {
                    continue;
                }
                if let Some(difference) = bench.step(index, &operation)? {
                    mismatch = Some(shrink::shrink(&mut bench, index, difference)?);
                    break 'run;
                }
            }
        }
        if !go_on(bench.compared.operations) {
            break;
        }
    }
    Ok(DiffOutcome {
        peer: format!("{} {}", options.player.name(), bench.qemu.version()),
        seed: options.seed,
        vectors: options.vectors,
        devices: options.devices,
        compared: bench.compared,
        known_defects: KNOWN_DEFECTS,
        mismatch,
    })
}

/// Runs a script on both sides; the first difference.
///
/// # Errors
/// [`QemuError`].
pub fn run_script(
    script: &Script,
    options: &DiffOptions,
) -> Result<Option<PeerDifference>, QemuError> {
    let options = DiffOptions { vectors: script.vectors, devices: 1, ..options.clone() };
    let mut bench = Bench::start(&options)?;
    bench.repeat(0, &script.operations)
}

/// QEMU and the engines.
struct Bench {
    options: DiffOptions,
    qemu: Qemu,
    pairs: Vec<Pair>,
    /// What each device was given since the last reset.
    history: Vec<Vec<Operation>>,
    compared: Compared,
}

impl Bench {
    fn start(options: &DiffOptions) -> Result<Self, QemuError> {
        let setup = Setup {
            player: options.player.clone(),
            vectors: vec![options.vectors; options.devices],
            incoming: None,
        };
        let mut bench = Self {
            options: options.clone(),
            qemu: Qemu::start(&setup)?,
            pairs: Vec::new(),
            history: Vec::new(),
            compared: Compared::default(),
        };
        bench.fresh()?;
        Ok(bench)
    }

    /// Fresh engines for devices that were just reset.
    fn fresh(&mut self) -> Result<(), QemuError> {
        let DiffOptions { vectors, policy, devices, .. } = self.options;
        self.pairs = (0..devices)
            .map(|index| Pair::new(&mut self.qemu, index, vectors, policy))
            .collect::<Result<_, _>>()?;
        self.history = vec![Vec::new(); devices];
        let settle = Operation::WriteConfig { offset: 2, len: 2, value: 0 };
        for pair in &mut self.pairs {
            // KNOWN_DEFECTS[0]
            let mut uncounted = Compared::default();
            pair.step(&mut self.qemu, &settle, &mut uncounted)?;
        }
        Ok(())
    }

    /// Gives one input to device `index` on both sides.
    fn step(
        &mut self,
        index: usize,
        operation: &Operation,
    ) -> Result<Option<PeerDifference>, QemuError> {
        match operation {
            Operation::Reset => {
                self.compared.operations += 1;
                self.compared.resets += 1;
                self.qemu.reset()?;
                self.fresh()?;
                Ok(None)
            }
            Operation::SaveAndLoadQemu => {
                self.compared.operations += 1;
                self.compared.migrations += 1;
                self.history.iter_mut().for_each(|history| history.push(*operation));
                self.migrate()
            }
            _ => {
                if let Some(history) = self.history.get_mut(index) {
                    history.push(*operation);
                }
                match self.pairs.get_mut(index) {
                    Some(pair) => pair.step(&mut self.qemu, operation, &mut self.compared),
                    None => Err(QemuError::Device(format!("there is no device {index}"))),
                }
            }
        }
    }

    /// Moves QEMU through a migration stream, and every engine through its msix field.
    fn migrate(&mut self) -> Result<Option<PeerDifference>, QemuError> {
        let path = self.qemu.migrate()?;
        let stream = std::fs::read(&path).map_err(QemuError::system("migration stream"))?;
        for pair in &mut self.pairs {
            let slot = Qemu::slot(pair.function.index);
            let field = pair.msix().qemu_len();
            let saved = find_msix_field(&stream, slot, pair.function.capability, field)?;
            if let Some(difference) = pair.load(saved.control, &saved.msix) {
                return Ok(Some(difference));
            }
        }
        let setup = Setup {
            player: self.options.player.clone(),
            vectors: vec![self.options.vectors; self.options.devices],
            incoming: Some(path),
        };
        let mut next = Qemu::start(&setup)?;
        next.await_incoming()?;
        self.qemu = next;
        for pair in &mut self.pairs {
            let operation = Operation::SaveAndLoadQemu;
            let difference = pair.compare_memory(&mut self.qemu, &operation, &mut self.compared)?;
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }

    /// Resets everything and gives `operations` to device `index`; the first difference.
    fn repeat(
        &mut self,
        index: usize,
        operations: &[Operation],
    ) -> Result<Option<PeerDifference>, QemuError> {
        self.qemu.reset()?;
        self.fresh()?;
        for operation in operations {
            if let Some(difference) = self.step(index, operation)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }
}
