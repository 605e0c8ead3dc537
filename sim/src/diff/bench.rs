//! QEMU and the engines side by side.

use super::pair::{Compared, Pair, PeerDifference};
use super::questions::{Differs, Questions};
use msix_core::Policy;
use msix_core::operation::Operation;
use msix_peers::{Player, Qemu, QemuError, Setup, find_msix_field};

/// What to run.
#[derive(Debug, Clone)]
#[non_exhaustive]
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

impl DiffOptions {
    /// Makes options to give `operations` inputs, of random numbers from `seed`, to one device with
    /// `vectors` vectors of `player`, with the engine under [`Policy::QEMU`].
    #[must_use]
    pub fn new(player: impl Into<Player>, operations: u64, seed: u64, vectors: u16) -> Self {
        let player = player.into();
        Self { operations, seed, vectors, devices: 1, player, policy: Policy::QEMU }
    }
}

/// QEMU and the engines.
pub(super) struct Bench {
    pub(super) options: DiffOptions,
    pub(super) qemu: Qemu,
    pub(super) pairs: Vec<Pair>,
    /// What each device was given since the last reset.
    pub(super) history: Vec<Vec<Operation>>,
    pub(super) compared: Compared,
    /// What QEMU was not asked yet.
    questions: Questions,
    /// What earlier QEMUs of this comparison were waited for.
    round_trips: u64,
}

impl Bench {
    pub(super) fn start(options: &DiffOptions) -> Result<Self, QemuError> {
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
            questions: Questions::default(),
            round_trips: 0,
        };
        bench.fresh()?;
        Ok(bench)
    }

    /// Fresh engines for devices that were just reset.
    pub(super) fn fresh(&mut self) -> Result<(), QemuError> {
        let DiffOptions { vectors, policy, devices, .. } = self.options;
        self.pairs = (0..devices)
            .map(|index| Pair::new(&mut self.qemu, index, vectors, policy))
            .collect::<Result<_, _>>()?;
        self.history = vec![Vec::new(); devices];
        let settle = Operation::WriteConfig { offset: 2, len: 2, value: 0 };
        for pair in &mut self.pairs {
            // KNOWN_DEFECTS[0]
            let mut uncounted = Compared::default();
            let answer = pair.begin(&settle, &mut self.questions, &mut uncounted);
            pair.follow(&settle, answer, &mut self.questions, &mut uncounted);
        }
        // Of a function that was just reset there is nothing to compare.
        self.questions.settle(&mut self.qemu).map(drop)
    }

    /// Returns how often QEMU's answers were waited for.
    pub(super) fn round_trips(&mut self) -> u64 {
        self.round_trips + self.qemu.qtest().round_trips()
    }

    /// Gives one input to device `index` on both sides. Many inputs are compared together: the
    /// difference that is returned may be of an earlier one of this device. Before another device's turn
    /// comes [`settle`](Self::settle).
    pub(super) fn step(
        &mut self,
        index: usize,
        operation: &Operation,
    ) -> Result<Option<PeerDifference>, QemuError> {
        // These reach QEMU on other ways than the commands before them, and leave nothing to ask for.
        if matches!(operation, Operation::Reset | Operation::SaveAndLoadQemu)
            && let Some(difference) = self.settle(index)?
        {
            return Ok(Some(difference));
        }
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
            _ => self.give(index, operation),
        }
    }

    /// Gives device `index` an input that concerns it alone.
    fn give(
        &mut self,
        index: usize,
        operation: &Operation,
    ) -> Result<Option<PeerDifference>, QemuError> {
        if self.questions.is_enough()
            && let Some(difference) = self.exchange(index)?
        {
            return Ok(Some(difference));
        }
        let answer =
            pair(&mut self.pairs, index)?.begin(operation, &mut self.questions, &mut self.compared);
        if let Operation::Notify(vector) = *operation {
            // It overtakes the commands before it, and those after it do not overtake it.
            if self.questions.has_commands()
                && let Some(difference) = self.exchange(index)?
            {
                return Ok(Some(difference));
            }
            let device = pair(&mut self.pairs, index)?.function.index;
            self.questions.raise(device, vector.index());
        }
        if let Some(history) = self.history.get_mut(index) {
            history.push(*operation);
            self.questions.given = history.len();
        }
        pair(&mut self.pairs, index)?.follow(
            operation,
            answer,
            &mut self.questions,
            &mut self.compared,
        );
        Ok(None)
    }

    /// Compares all that was done, all of it with device `index`. What was done after the first
    /// difference is forgotten.
    pub(super) fn settle(&mut self, index: usize) -> Result<Option<PeerDifference>, QemuError> {
        pair(&mut self.pairs, index)?.ask_memory(&mut self.questions, &mut self.compared);
        self.exchange(index)
    }

    /// As [`settle`](Self::settle), without a question about the memory.
    fn exchange(&mut self, index: usize) -> Result<Option<PeerDifference>, QemuError> {
        let Some(differs) = self.questions.settle(&mut self.qemu)? else { return Ok(None) };
        let Differs { difference, compared, given } = differs;
        self.compared = compared;
        if let Some(history) = self.history.get_mut(index) {
            history.truncate(given);
        }
        Ok(Some(difference))
    }

    /// Moves QEMU through a migration stream, and every engine through its msix field.
    pub(super) fn migrate(&mut self) -> Result<Option<PeerDifference>, QemuError> {
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
        self.round_trips = self.round_trips();
        self.qemu = next;
        for pair in &mut self.pairs {
            pair.ask_memory(&mut self.questions, &mut self.compared);
        }
        Ok(self.questions.settle(&mut self.qemu)?.map(|differs| differs.difference))
    }

    /// Resets everything and gives `operations` to device `index`; the first difference.
    pub(super) fn repeat(
        &mut self,
        index: usize,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Result<Option<PeerDifference>, QemuError> {
        self.qemu.reset()?;
        self.fresh()?;
        for operation in operations {
            if let Some(difference) = self.step(index, &operation)? {
                return Ok(Some(difference));
            }
        }
        self.settle(index)
    }
}

fn pair(pairs: &mut [Pair], index: usize) -> Result<&mut Pair, QemuError> {
    let none = || QemuError::Device(format!("there is no device {index}"));
    pairs.get_mut(index).ok_or_else(none)
}
