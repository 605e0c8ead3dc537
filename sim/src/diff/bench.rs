//! QEMU and the engines side by side.

use super::pair::{Compared, Pair, PeerDifference};
use super::questions::{Differs, Questions, Turn};
use msix_core::Policy;
use msix_core::operation::{Answer, Operation};
use msix_peers::{Player, Qemu, QemuError, QemuFunction, Setup, find_msix_field};

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

/// Inputs to one device.
pub(super) struct Lane<I> {
    device: usize,
    inputs: I,
    /// An event that the engine has, and QEMU not: commands before it wait.
    event: Option<(Operation, Answer)>,
    /// An input that concerns all devices, and waits for them.
    machine: Option<Operation>,
}

impl<I> Lane<I> {
    pub(super) const fn new(device: usize, inputs: I) -> Self {
        Self { device, inputs, event: None, machine: None }
    }
}

/// A difference, and the device that it is about.
pub(super) struct Found {
    pub(super) device: usize,
    pub(super) difference: PeerDifference,
}

/// QEMU and the engines.
pub(super) struct Bench {
    pub(super) options: DiffOptions,
    pub(super) qemu: Qemu,
    pairs: Vec<Pair>,
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
        let mut qemu = Qemu::start(&setup)?;
        let functions = (0..options.devices)
            .map(|index| QemuFunction::set_up(&mut qemu, index))
            .collect::<Result<Vec<_>, _>>()?;
        let mut bench = Self {
            options: options.clone(),
            qemu,
            pairs: Vec::new(),
            history: Vec::new(),
            compared: Compared::default(),
            questions: Questions::default(),
            round_trips: 0,
        };
        bench.fresh(&functions)?;
        Ok(bench)
    }

    /// Resets the machine.
    fn reset(&mut self) -> Result<(), QemuError> {
        self.qemu.reset()?;
        let functions: Vec<_> = self.pairs.iter().map(|pair| pair.function).collect();
        self.fresh(&functions)
    }

    /// Makes engines for devices that were just reset.
    fn fresh(&mut self, functions: &[QemuFunction]) -> Result<(), QemuError> {
        let DiffOptions { vectors, policy, devices, .. } = self.options;
        self.pairs = functions
            .iter()
            .map(|function| Pair::new(*function, vectors, policy))
            .collect::<Result<_, _>>()?;
        self.history = vec![Vec::new(); devices];
        let settle = Operation::WriteConfig { offset: 2, len: 2, value: 0 };
        for (device, pair) in self.pairs.iter_mut().enumerate() {
            // KNOWN_DEFECTS[0]
            let mut uncounted = Compared::default();
            self.questions.turn = Turn { device, given: 0 };
            self.questions.tell(pair.begin_lines());
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

    /// Gives each device its inputs, on both sides. Many are compared together, and those of all devices
    /// side by side, so that one wait for QEMU serves all. Returns the first difference. What was done to its
    /// device after it is forgotten.
    pub(super) fn give<I: Iterator<Item = Operation>>(
        &mut self,
        lanes: &mut [Lane<I>],
    ) -> Result<Option<Found>, QemuError> {
        loop {
            let mut at_rest = true;
            for lane in &mut *lanes {
                at_rest &= self.advance(lane)?;
            }
            let found = if at_rest { self.settle()? } else { self.exchange()? };
            if found.is_some() {
                return Ok(found);
            }
            if at_rest {
                let machine = lanes.iter_mut().find_map(|lane| lane.machine.take());
                let Some(operation) = machine else { return Ok(None) };
                if let Some(found) = self.all(operation)? {
                    return Ok(Some(found));
                }
            }
        }
    }

    /// Gives a device its inputs up to one that has to wait. Returns whether it has all, or waits for the
    /// whole machine.
    fn advance<I: Iterator<Item = Operation>>(
        &mut self,
        lane: &mut Lane<I>,
    ) -> Result<bool, QemuError> {
        self.turn(lane.device);
        if let Some((event, answer)) = lane.event.take() {
            self.follow(lane.device, event, answer)?;
        }
        while lane.machine.is_none() {
            if self.questions.is_enough() {
                return Ok(false);
            }
            let Some(operation) = lane.inputs.next() else { break };
            if matches!(operation, Operation::Reset | Operation::SaveAndLoadQemu) {
                lane.machine = Some(operation);
                break;
            }
            let pair = pair(&mut self.pairs, lane.device)?;
            let answer = pair.begin(&operation, &mut self.questions, &mut self.compared);
            // It overtakes the commands before it, and those after it do not overtake it.
            if matches!(operation, Operation::Notify(_)) && self.questions.has_commands() {
                lane.event = Some((operation, answer));
                return Ok(false);
            }
            self.follow(lane.device, operation, answer)?;
        }
        Ok(true)
    }

    /// Gives QEMU what the engine of device `index` was given, and answered with `answer`.
    fn follow(
        &mut self,
        index: usize,
        operation: Operation,
        answer: Answer,
    ) -> Result<(), QemuError> {
        if let Operation::Notify(vector) = operation {
            self.questions.raise(vector.index());
        }
        if let Some(history) = self.history.get_mut(index) {
            history.push(operation);
        }
        self.turn(index);
        let pair = pair(&mut self.pairs, index)?;
        pair.follow(&operation, answer, &mut self.questions, &mut self.compared);
        Ok(())
    }

    /// What is asked from now on is about device `index` as it is.
    fn turn(&mut self, device: usize) {
        let given = self.history.get(device).map_or(0, Vec::len);
        self.questions.turn = Turn { device, given };
    }

    /// Gives an input that concerns all devices. It reaches QEMU on another way than the commands before
    /// it, so nothing may be left to ask for.
    fn all(&mut self, operation: Operation) -> Result<Option<Found>, QemuError> {
        self.compared.operations += 1;
        if operation == Operation::Reset {
            self.compared.resets += 1;
            self.reset()?;
            return Ok(None);
        }
        self.compared.migrations += 1;
        self.history.iter_mut().for_each(|history| history.push(operation));
        self.migrate()
    }

    /// Compares all that was done.
    fn settle(&mut self) -> Result<Option<Found>, QemuError> {
        for index in 0..self.pairs.len() {
            self.turn(index);
            let pair = pair(&mut self.pairs, index)?;
            pair.ask_memory(&mut self.questions, &mut self.compared);
        }
        self.exchange()
    }

    /// As [`settle`](Self::settle), without questions about the memory.
    fn exchange(&mut self) -> Result<Option<Found>, QemuError> {
        let Some(differs) = self.questions.settle(&mut self.qemu)? else { return Ok(None) };
        let Differs { difference, compared, turn: Turn { device, given } } = differs;
        self.compared = compared;
        if let Some(history) = self.history.get_mut(device) {
            history.truncate(given);
        }
        Ok(Some(Found { device, difference }))
    }

    /// Moves QEMU through a migration stream, and every engine through its msix field.
    fn migrate(&mut self) -> Result<Option<Found>, QemuError> {
        let path = self.qemu.migrate()?;
        let stream = std::fs::read(&path).map_err(QemuError::system("migration stream"))?;
        for pair in &mut self.pairs {
            let slot = Qemu::slot(pair.function.index);
            let field = pair.msix().qemu_len();
            let saved = find_msix_field(&stream, slot, pair.function.capability, field)?;
            if let Some(difference) = pair.load(saved.control, &saved.msix) {
                return Ok(Some(Found { device: pair.function.index, difference }));
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
        self.settle()
    }

    /// Resets everything and gives `operations` to device `index`; the first difference.
    pub(super) fn repeat(
        &mut self,
        index: usize,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Result<Option<PeerDifference>, QemuError> {
        self.reset()?;
        let found = self.give(&mut [Lane::new(index, operations.into_iter())])?;
        Ok(found.map(|found| found.difference))
    }
}

fn pair(pairs: &mut [Pair], index: usize) -> Result<&mut Pair, QemuError> {
    let none = || QemuError::Device(format!("there is no device {index}"));
    pairs.get_mut(index).ok_or_else(none)
}
