//! Seeded defects, so that a search which finds nothing means something.

use super::property::Property;
use super::subject::{Input, List, Subject};
use msix_core::operation::{Answer, Operation};
use msix_core::spec::{CONTROL_ENABLE, CONTROL_FUNCTION_MASK};
use msix_core::{Effect, EffectSink, Storage, Vector, Vectors};

/// A defect that some implementation had, or might have. Each is put at the boundary of the real
/// engine: inputs, effects or reads are tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[expect(missing_docs, reason = "`MsixDefect::text` says what each is")]
pub enum MsixDefect {
    ShortBit,
    FunctionMaskIgnored,
    PendingNotSent,
    NoReleaseOnDisable,
    StaleFunctionMask,
    FirstUnmaskLoses,
    NoReleaseOnMask,
    RestoreWithoutUse,
    PollRange,
    NoReroute,
    SendWhileDisabled,
    UseCountIgnored,
    LoadMutatesOnError,
    HeldSurvivesReset,
    FailureIgnored,
    SendBeforeUse,
    TornReroute,
    LateAnswerDropped,
    UsedTwice,
    BusMasterIgnored,
    QwordHalved,
    WithdrawIgnored,
    WithdrawClearsWord,
    IntxForgotten,
    UnboundedList,
    NeighbourWritten,
}

impl MsixDefect {
    /// All of them, what each is, and the property that finds it first.
    pub const ALL: [(Self, &'static str, Property); 26] = [
        (Self::ShortBit, "the bit of a vector from 32 up in 32-bit arithmetic", Property::Lossless),
        (Self::FunctionMaskIgnored, "the Function Mask has no effect (A6)", Property::Told),
        (Self::PendingNotSent, "an unmask clears pending and sends nothing", Property::Pending),
        (Self::NoReleaseOnDisable, "a disable releases nothing (H1)", Property::Told),
        (Self::StaleFunctionMask, "what a reset masks stays unmasked (H8)", Property::Told),
        (Self::FirstUnmaskLoses, "the first unmask drops what is pending", Property::Pending),
        (Self::NoReleaseOnMask, "a mask releases nothing", Property::Told),
        (Self::RestoreWithoutUse, "a restore uses nothing (H15)", Property::Told),
        (Self::PollRange, "a PBA read polls too few vectors (G6)", Property::Poll),
        (Self::NoReroute, "a live message is rewritten unnoticed (H4)", Property::Message),
        (Self::SendWhileDisabled, "an event sends although disabled (A10)", Property::Send),
        (Self::UseCountIgnored, "a vector without a use sends (C24)", Property::Send),
        (Self::LoadMutatesOnError, "a refused snapshot changes an entry", Property::Refused),
        (Self::HeldSurvivesReset, "a reset leaves the host's events (E8f)", Property::Drain),
        (Self::FailureIgnored, "what the host could not do is not heard (H11)", Property::Told),
        (Self::SendBeforeUse, "a message is sent before its vector is used", Property::Order),
        (Self::TornReroute, "the host is told half an address (H4)", Property::Message),
        (Self::LateAnswerDropped, "a late answer to Poll is ignored", Property::Lossless),
        (Self::UsedTwice, "a second attach uses live vectors again", Property::Told),
        (Self::BusMasterIgnored, "bus master off gates nothing (H16)", Property::Told),
        (Self::QwordHalved, "a QWORD loses its upper half (A4)", Property::Registers),
        (Self::WithdrawIgnored, "a withdrawn event stays pending (A8)", Property::Pending),
        (Self::WithdrawClearsWord, "a withdrawal clears its neighbours", Property::Pending),
        (Self::IntxForgotten, "a disable says nothing of INTx (H17)", Property::Intx),
        (Self::UnboundedList, "a control write emits an effect a vector (H22)", Property::Bound),
        (Self::NeighbourWritten, "a write reaches the entry before, too (I7)", Property::Idle),
    ];

    /// What is wrong.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.iter().find(|(defect, ..)| *defect == self).map_or("", |(_, text, _)| text)
    }

    /// Gives `subject` an input, wrongly.
    pub(super) fn input<S: Storage>(
        self,
        subject: &mut Subject<S>,
        input: Input<'_>,
        fx: &mut List,
    ) -> Answer {
        let Input::Operation(operation) = input else {
            subject.memory = 0;
            return subject.pass(input, fx);
        };
        if !fx.is_empty() {
            return subject.pass(input, fx); // refused, as by the real engine
        }
        let n = subject.msix.vectors();
        let uses = |v: Vector| subject.msix.claims(v).unwrap_or(0);
        match (self, operation) {
            (Self::ShortBit, Operation::Notify(v)) if v.index() >= 32 => {
                let short = Vector::new(v.index() % 32);
                subject.pass(Input::Operation(Operation::Notify(short)), fx)
            }
            (
                Self::FunctionMaskIgnored,
                Operation::WriteConfig { offset: offset @ 2, len, value },
            ) => {
                subject.memory = (value & MASK != 0).into();
                let value = value & !MASK;
                subject.pass(Input::Operation(Operation::WriteConfig { offset, len, value }), fx)
            }
            (Self::FunctionMaskIgnored, Operation::Reset) => {
                subject.memory = 0;
                subject.pass(input, fx)
            }
            (Self::StaleFunctionMask, Operation::Reset) => {
                close(subject);
                stale_reset(subject, fx)
            }
            (Self::StaleFunctionMask, Operation::WriteConfig { offset: 2, .. }) => {
                close(subject);
                subject.pass(input, fx)
            }
            (Self::SendWhileDisabled, Operation::Notify(v))
                if !subject.msix.is_enabled()
                    && subject.msix.is_masked(v) == Some(false)
                    && uses(v) != 0 =>
            {
                fx.push(Effect::Send(Vectors::one(v)));
                Answer::Nothing
            }
            (Self::UseCountIgnored, Operation::Notify(v))
                if uses(v) == 0 && subject.msix.is_deliverable(v) == Some(true) =>
            {
                fx.push(Effect::Send(Vectors::one(v)));
                Answer::Nothing
            }
            (Self::FirstUnmaskLoses, _) => {
                if let Some(v) = unmasked_by(operation).filter(|v| v.index() < n) {
                    let bit = 1 << (v.index() % 16);
                    if subject.memory & bit == 0 {
                        subject.memory |= bit;
                        let lost = Input::Operation(Operation::Withdraw(v));
                        subject.pass(lost, &mut List::new());
                    }
                }
                subject.pass(input, fx)
            }
            (Self::FailureIgnored, Operation::ReportFailed(_))
            | (Self::BusMasterIgnored, Operation::SetBusMaster(_)) => Answer::Nothing,
            (Self::WithdrawIgnored, Operation::Withdraw(v)) => {
                let answer = subject.pass(input, fx);
                if answer == Answer::Withdrawn(true) {
                    let again = Input::Operation(Operation::ReportHeld(Vectors::one(v)));
                    subject.pass(again, &mut List::new());
                }
                answer
            }
            (Self::LateAnswerDropped, Operation::ReportHeld(_)) if !subject.msix.is_enabled() => {
                Answer::Nothing
            }
            (Self::QwordHalved, Operation::WriteTable { offset, len: 8, value })
                if offset % 8 == 0 =>
            {
                let half = Operation::WriteTable { offset, len: 4, value };
                subject.pass(Input::Operation(half), fx)
            }
            (Self::NeighbourWritten, Operation::WriteTable { offset, len: 4, value })
                if offset % 4 == 0 && (16..n * 16).contains(&offset) =>
            {
                let before = Operation::WriteTable { offset: offset - 16, len: 4, value };
                subject.pass(Input::Operation(before), &mut List::new());
                subject.pass(input, fx)
            }
            (Self::WithdrawClearsWord, Operation::Withdraw(v)) if v.index() < n => {
                let all: Vec<Vectors> = subject.msix.pending().collect();
                for neighbour in all.into_iter().flat_map(Vectors::iter).filter(|n| *n != v) {
                    let lost = Input::Operation(Operation::Withdraw(neighbour));
                    subject.pass(lost, &mut List::new());
                }
                subject.pass(input, fx)
            }
            _ => self.emitted(subject, operation, fx),
        }
    }

    /// Passes an input on and tampers with what it emits.
    fn emitted<S: Storage>(
        self,
        subject: &mut Subject<S>,
        operation: Operation,
        fx: &mut List,
    ) -> Answer {
        let mut list = List::new();
        let answer = subject.pass(Input::Operation(operation), &mut list);
        if self == Self::UsedTwice && operation == Operation::Attach {
            let live: Vec<Vectors> = subject.msix.live().collect();
            live.into_iter().for_each(|set| fx.push(Effect::Arm(set)));
        }
        let mut held_back = None;
        while let Some(effect) = list.take() {
            match (self, effect, operation) {
                (Self::SendBeforeUse, Effect::Arm(_), _) => held_back = Some(effect),
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
            if offset % 16 == 0 && subject.msix.is_live(v) == Some(true) {
                fx.push(Effect::Reroute(Vectors::one(v)));
            }
        }
        answer
    }

    fn swallows(self, effect: Effect, operation: Operation) -> bool {
        match (self, effect) {
            (Self::PendingNotSent, Effect::Send(_)) => !matches!(operation, Operation::Notify(_)),
            (Self::NoReleaseOnDisable, Effect::Disarm(_)) => {
                matches!(operation, Operation::WriteConfig { value, .. } if value & ENABLE == 0)
            }
            (Self::NoReleaseOnMask, Effect::Disarm(_)) => {
                matches!(operation, Operation::WriteTable { .. } | Operation::SetMask(..))
            }
            (Self::RestoreWithoutUse, Effect::Arm(_)) => operation == Operation::Resume,
            (Self::NoReroute, Effect::Reroute(_)) => true,
            (Self::HeldSurvivesReset, Effect::Drain(_)) => operation == Operation::Reset,
            (Self::IntxForgotten, Effect::IntxReevaluate) => true,
            _ => false,
        }
    }

    /// A load was refused.
    pub(super) fn refused<S: Storage>(self, subject: &mut Subject<S>) {
        if self == Self::LoadMutatesOnError {
            let [address, _] = subject.entry(Vector::new(0));
            let half = Operation::WriteTable { offset: 0, len: 4, value: !address };
            subject.pass(Input::Operation(half), &mut List::new());
        }
    }

    /// Message Control as the guest is shown it.
    pub(super) const fn control(self, control: u16, memory: u16) -> u16 {
        match self {
            Self::FunctionMaskIgnored if memory != 0 => control | 0x4000,
            Self::StaleFunctionMask if memory != 0 => control & 0x07ff,
            _ => control,
        }
    }
}

/// The first control write, or reset, after a reset closes the gate at last.
fn close<S: Storage>(subject: &mut Subject<S>) {
    if std::mem::take(&mut subject.memory) != 0 {
        let off = Operation::WriteConfig { offset: 2, len: 2, value: 0 };
        subject.pass(Input::Operation(off), &mut List::new());
    }
}

/// The gate is left as it was: what is unmasked next is used and sent although disabled.
fn stale_reset<S: Storage>(subject: &mut Subject<S>, fx: &mut List) -> Answer {
    let control = subject.msix.control();
    let answer = subject.pass(Input::Operation(Operation::Reset), fx);
    if control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) == CONTROL_ENABLE {
        subject.memory = 1;
        let on = Operation::WriteConfig { offset: 2, len: 2, value: ENABLE };
        subject.pass(Input::Operation(on), &mut List::new());
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
