//! The engine with a seeded defect: its inputs, effects or reads are tampered with.

use super::defect::MsixDefect;
use super::engine::{Engine, Input, List};
use super::registers::Registers;
use msix_core::operation::{Answer, Operation};
use msix_core::spec::{CONTROL_ENABLE, CONTROL_FUNCTION_MASK};
use msix_core::{Effect, EffectSink, Msix, Storage, Vector, Vectors};

/// The engine under exploration: the real one, or the real one with a defect at its boundary.
#[derive(Debug, Clone)]
pub(crate) struct SeededEngine<S> {
    engine: Engine<S>,
    defect: Option<MsixDefect>,
    /// What the defect remembers.
    memory: u16,
}

impl<S: Storage> PartialEq for SeededEngine<S> {
    fn eq(&self, other: &Self) -> bool {
        self.memory == other.memory && self.engine.0 == other.engine.0
    }
}

impl<S: Storage> SeededEngine<S> {
    pub(crate) const fn new(msix: Msix<S>, defect: Option<MsixDefect>) -> Self {
        Self { engine: Engine(msix), defect, memory: 0 }
    }

    /// Becomes what `other` is. A state is large, so it is not copied twice.
    pub(crate) fn become_as(&mut self, other: &Self)
    where
        S: Clone,
    {
        self.engine.0.clone_from(&other.engine.0);
        (self.defect, self.memory) = (other.defect, other.memory);
    }

    /// Gives it an input.
    pub(crate) fn input(&mut self, input: Input<'_>, fx: &mut List) -> Answer {
        match self.defect {
            None => self.engine.input(input, fx),
            Some(defect) => defect.tamper(self, input, fx),
        }
    }

    /// Loads bytes that no engine saved; whether they were taken.
    pub(crate) fn load_native(&mut self, bytes: &[u8]) -> bool {
        let loaded = self.engine.0.load(bytes).is_ok();
        if let Some(defect) = self.defect.filter(|_| !loaded) {
            defect.refused(self);
        }
        loaded
    }

    /// As [`Self::load_native`], in QEMU's encoding.
    pub(crate) fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> bool {
        let loaded = self.engine.0.load_qemu(control, bytes).is_ok();
        if let Some(defect) = self.defect.filter(|_| !loaded) {
            defect.refused(self);
        }
        loaded
    }

    /// The engine itself, for what no guest can read: claims, counters, what it thinks the host knows.
    pub(crate) const fn msix(&self) -> &Msix<S> {
        &self.engine.0
    }

    /// What the defect remembers.
    pub(crate) const fn memory(&self) -> u16 {
        self.memory
    }

    /// The registers of the function and of the vectors `at`, as the guest reads them.
    pub(crate) fn registers(&self, at: &[Vector]) -> Registers {
        let control = self.engine.control();
        let control = self.defect.map_or(control, |defect| defect.control(control, self.memory));
        let mut registers = Registers {
            enabled: control & 0x8000 != 0,
            function_masked: control & 0x4000 != 0,
            ..Registers::default()
        };
        for (entry, v) in registers.entries.iter_mut().zip(at) {
            *entry = self.engine.registers(*v);
        }
        registers
    }

    /// The entry of `vector` as the guest reads it, by DWORDs: address low and high, data, Vector Control.
    pub(crate) fn entry(&self, vector: Vector) -> [u32; 4] {
        self.engine.entry(vector)
    }

    /// The PBA's QWORD `word` as the guest reads it.
    pub(crate) fn pba(&self, word: u16) -> u64 {
        self.engine.pba(word)
    }
}

impl MsixDefect {
    /// Gives `seeded` an input, wrongly.
    fn tamper<S: Storage>(
        self,
        seeded: &mut SeededEngine<S>,
        input: Input<'_>,
        fx: &mut List,
    ) -> Answer {
        let Input::Operation(operation) = input else {
            seeded.memory = 0;
            return seeded.engine.input(input, fx);
        };
        if !fx.is_empty() {
            return seeded.engine.input(input, fx); // refused, as by the real engine
        }
        let n = seeded.msix().vectors();
        let claims = |v: Vector| seeded.msix().claims(v).unwrap_or(0);
        match (self, operation) {
            (Self::ShortBit, Operation::Notify(v)) if v.index() >= 32 => {
                let short = Vector::new(v.index() % 32);
                seeded.engine.input(Input::Operation(Operation::Notify(short)), fx)
            }
            (
                Self::FunctionMaskIgnored,
                Operation::WriteConfig { offset: offset @ 2, len, value },
            ) => {
                seeded.memory = (value & MASK != 0).into();
                let value = value & !MASK;
                seeded
                    .engine
                    .input(Input::Operation(Operation::WriteConfig { offset, len, value }), fx)
            }
            (Self::FunctionMaskIgnored, Operation::Reset) => {
                seeded.memory = 0;
                seeded.engine.input(input, fx)
            }
            (Self::StaleFunctionMask, Operation::Reset) => {
                close(seeded);
                stale_reset(seeded, fx)
            }
            (Self::StaleFunctionMask, Operation::WriteConfig { offset: 2, .. }) => {
                close(seeded);
                seeded.engine.input(input, fx)
            }
            (Self::SendWhileDisabled, Operation::Notify(v))
                if !seeded.msix().is_enabled()
                    && seeded.msix().is_masked(v) == Some(false)
                    && claims(v) != 0 =>
            {
                fx.push(Effect::Send(Vectors::one(v)));
                Answer::Nothing
            }
            (Self::ClaimsIgnored, Operation::Notify(v))
                if claims(v) == 0 && seeded.msix().is_deliverable(v) == Some(true) =>
            {
                fx.push(Effect::Send(Vectors::one(v)));
                Answer::Nothing
            }
            (Self::FirstUnmaskLoses, _) => {
                if let Some(v) = unmasked_by(operation).filter(|v| v.index() < n) {
                    let bit = 1 << (v.index() % 16);
                    if seeded.memory & bit == 0 {
                        seeded.memory |= bit;
                        let lost = Input::Operation(Operation::Withdraw(v));
                        seeded.engine.input(lost, &mut List::new());
                    }
                }
                seeded.engine.input(input, fx)
            }
            (Self::FailureIgnored, Operation::ReportFailed(_))
            | (Self::BusMasterIgnored, Operation::SetBusMaster(_)) => Answer::Nothing,
            (Self::WithdrawIgnored, Operation::Withdraw(v)) => {
                let answer = seeded.engine.input(input, fx);
                if answer == Answer::Withdrawn(true) {
                    let again = Input::Operation(Operation::ReportHeld(Vectors::one(v)));
                    seeded.engine.input(again, &mut List::new());
                }
                answer
            }
            (Self::FailureDisarms, Operation::ReportFailed(set))
                if set.iter().all(|v| seeded.msix().is_live(v) == Some(false)) =>
            {
                fx.push(Effect::Disarm(set)); // and the answer is as it was
                seeded.engine.input(input, &mut List::new())
            }
            (Self::LateAnswerDropped, Operation::ReportHeld(_)) if !seeded.msix().is_enabled() => {
                Answer::Nothing
            }
            (Self::QwordHalved, Operation::WriteTable { offset, len: 8, value })
                if offset % 8 == 0 =>
            {
                let half = Operation::WriteTable { offset, len: 4, value };
                seeded.engine.input(Input::Operation(half), fx)
            }
            (Self::NeighbourWritten, Operation::WriteTable { offset, len: 4, value })
                if offset % 4 == 0 && (16..n * 16).contains(&offset) =>
            {
                let before = Operation::WriteTable { offset: offset - 16, len: 4, value };
                seeded.engine.input(Input::Operation(before), &mut List::new());
                seeded.engine.input(input, fx)
            }
            (Self::WithdrawClearsWord, Operation::Withdraw(v)) if v.index() < n => {
                let all: Vec<Vectors> = seeded.msix().pending().collect();
                for neighbour in all.into_iter().flat_map(Vectors::iter).filter(|n| *n != v) {
                    let lost = Input::Operation(Operation::Withdraw(neighbour));
                    seeded.engine.input(lost, &mut List::new());
                }
                seeded.engine.input(input, fx)
            }
            _ => self.emitted(seeded, operation, fx),
        }
    }

    /// Passes an input on and tampers with what it emits.
    fn emitted<S: Storage>(
        self,
        seeded: &mut SeededEngine<S>,
        operation: Operation,
        fx: &mut List,
    ) -> Answer {
        let mut list = List::new();
        let answer = seeded.engine.input(Input::Operation(operation), &mut list);
        if self == Self::ArmedTwice && operation == Operation::Attach {
            let live: Vec<Vectors> = seeded.msix().live().collect();
            live.into_iter().for_each(|set| fx.push(Effect::Arm(set)));
        }
        let mut held_back = None;
        while let Some(effect) = list.take() {
            match (self, effect, operation) {
                (Self::SendBeforeArm, Effect::Arm(_), _) => held_back = Some(effect),
                (Self::PollRange, Effect::Poll(set), Operation::PollPba { offset, len }) => {
                    let end = u64::from(offset) + u64::from(len) * 8;
                    let below = if end < 64 { (1 << end) - 1 } else { u64::MAX };
                    fx.push(Effect::Poll(Vectors::new(set.word(), set.bits() & below)));
                }
                (Self::UnboundedList, Effect::IntxDeassert, _) => {
                    (0..6).for_each(|_| fx.push(effect));
                }
                _ if self.swallows(effect, operation) => {}
                _ => fx.push(effect),
            }
        }
        held_back.into_iter().for_each(|effect| fx.push(effect));
        if let (Self::TornReroute, Operation::WriteTable { offset, len: 4, .. }) = (self, operation)
        {
            let v = Vector::new(offset / 16);
            if offset % 16 == 0 && seeded.msix().is_live(v) == Some(true) {
                fx.push(Effect::Reroute(Vectors::one(v)));
            }
        }
        answer
    }

    fn swallows(self, effect: Effect, operation: Operation) -> bool {
        match (self, effect) {
            (Self::PendingNotSent, Effect::Send(_)) => !matches!(operation, Operation::Notify(_)),
            (Self::NoDisarmOnDisable, Effect::Disarm(_)) => {
                matches!(operation, Operation::WriteConfig { value, .. } if value & ENABLE == 0)
            }
            (Self::NoDisarmOnMask, Effect::Disarm(_)) => {
                matches!(operation, Operation::WriteTable { .. } | Operation::SetMask(..))
            }
            (Self::RestoreWithoutArm, Effect::Arm(_)) => operation == Operation::Resume,
            (Self::NoReroute, Effect::Reroute(_)) => true,
            (Self::HeldSurvivesReset, Effect::Drain(_)) => operation == Operation::Reset,
            (Self::IntxForgotten, Effect::IntxReevaluate) => true,
            (Self::IntxForgottenAtResume, Effect::IntxDeassert | Effect::IntxReevaluate) => {
                operation == Operation::Resume
            }
            _ => false,
        }
    }

    /// A load was refused.
    fn refused<S: Storage>(self, seeded: &mut SeededEngine<S>) {
        if self == Self::LoadMutatesOnError {
            let [low, ..] = seeded.engine.entry(Vector::new(0));
            let half = Operation::WriteTable { offset: 0, len: 4, value: u64::from(!low) };
            seeded.engine.input(Input::Operation(half), &mut List::new());
        }
    }

    /// Message Control as the guest is shown it.
    const fn control(self, control: u16, memory: u16) -> u16 {
        match self {
            Self::FunctionMaskIgnored if memory != 0 => control | 0x4000,
            Self::StaleFunctionMask if memory != 0 => control & 0x07ff,
            _ => control,
        }
    }
}

/// The first control write, or reset, after a reset closes the gate at last.
fn close<S: Storage>(seeded: &mut SeededEngine<S>) {
    if std::mem::take(&mut seeded.memory) != 0 {
        let off = Operation::WriteConfig { offset: 2, len: 2, value: 0 };
        seeded.engine.input(Input::Operation(off), &mut List::new());
    }
}

/// The gate is left as it was: what is unmasked next is armed and sent although disabled.
fn stale_reset<S: Storage>(seeded: &mut SeededEngine<S>, fx: &mut List) -> Answer {
    let control = seeded.msix().control();
    let answer = seeded.engine.input(Input::Operation(Operation::Reset), fx);
    if control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) == CONTROL_ENABLE {
        seeded.memory = 1;
        let on = Operation::WriteConfig { offset: 2, len: 2, value: ENABLE };
        seeded.engine.input(Input::Operation(on), &mut List::new());
    }
    answer
}

/// The vector that an input unmasks by its own bit.
fn unmasked_by(operation: Operation) -> Option<Vector> {
    match operation {
        Operation::SetMask(v, false) => Some(v),
        Operation::WriteTable { offset, len: 4, value } if offset % 16 == 12 && value & 1 == 0 => {
            Some(Vector::new(offset / 16))
        }
        _ => None,
    }
}

/// MSI-X Enable in Message Control.
const ENABLE: u64 = 0x8000;
/// Function Mask in Message Control.
const MASK: u64 = 0x4000;
