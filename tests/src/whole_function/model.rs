//! The whole function, from its three naive parts.

use super::PartEffect;
use super::msi::NaiveMsi;
use super::pin::NaivePin;
use crate::policies::Behaviour;
use crate::reference::{Reference, sealed};
use crate::vector_effects::VectorEffect;
use msix_core::operation::{Answer, FunctionOperation, Operation};
use msix_core::policy::IntxRule;
use msix_core::{
    Access, Delivery, FunctionCounters, IntxEffect, IntxSource, Mode, Parts, Policy, Vector,
};

/// A function: the parts it has, and Command.
#[derive(Debug, Clone)]
pub struct NaiveFunction {
    policy: Policy,
    /// MSI.
    pub msi: Option<NaiveMsi>,
    /// MSI-X.
    pub msix: Option<Reference>,
    /// The pin.
    pub intx: Option<NaivePin>,
    emulated: bool,
    /// Command: bits 0, 1, 2 and 10.
    pub command: u16,
    /// Totals.
    pub counters: FunctionCounters,
}

/// The effects of the parts in one input.
#[derive(Default)]
struct Lists {
    msix: Vec<VectorEffect>,
    msi: Vec<VectorEffect>,
    intx: Vec<IntxEffect>,
}

impl NaiveFunction {
    /// After reset.
    #[must_use]
    pub fn new(parts: Parts, behaviour: impl Into<Behaviour>) -> Self {
        let behaviour = behaviour.into();
        let policy = behaviour.policy;
        let msix = parts.msix.map(|layout| {
            let mut msix = Reference::new(layout.vectors(), behaviour);
            msix.apply(&Operation::SetBusMaster(false));
            msix
        });
        Self {
            policy,
            msi: parts.msi.map(|capability| NaiveMsi::new(capability, policy)),
            msix,
            intx: parts.pin.map(NaivePin::new),
            emulated: parts.pin == Some(IntxSource::Emulated),
            command: 0,
            counters: FunctionCounters::default(),
        }
    }

    /// How it interrupts now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (self.msix_on(), self.msi_on(), self.intx.is_some()) {
            (true, ..) => Mode::MsiX,
            (false, true, _) => Mode::Msi,
            (false, false, true) => Mode::Intx,
            (false, false, false) => Mode::None,
        }
    }

    /// Interrupt Status in its place.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.intx.as_ref().map_or(0, |intx| 8 * u16::from(intx.status()))
    }

    /// Whether a resume is to come.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.msi.as_ref().is_some_and(|msi| msi.loading)
            || self.msix.as_ref().is_some_and(Reference::is_loading)
            || self.intx.as_ref().is_some_and(|intx| intx.loading)
    }

    /// The encoding of the whole.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        let level = self.intx.as_ref().is_some_and(|intx| self.emulated && intx.level);
        let flags = u8::from(self.msi.is_some())
            + 2 * u8::from(self.msix.is_some())
            + 4 * u8::from(self.intx.is_some())
            + 8 * u8::from(level);
        let mut bytes = b"FNCT\x02\x00".to_vec();
        bytes.extend([flags, 0]);
        bytes.extend(self.command.to_le_bytes());
        bytes.extend(self.msi.iter().flat_map(NaiveMsi::saved));
        bytes.extend(self.msix.iter().flat_map(Reference::saved));
        sealed(bytes)
    }

    fn msi_on(&self) -> bool {
        self.msi.as_ref().is_some_and(NaiveMsi::enabled)
    }

    fn msix_on(&self) -> bool {
        self.msix.as_ref().is_some_and(Reference::enabled)
    }

    /// Applies one input: returns its answer and its effects, in order.
    pub fn apply(&mut self, operation: &FunctionOperation) -> (Answer, Vec<PartEffect>) {
        let old = self.mode();
        let (answer, lists) = self.parts(operation);
        let resumed = *operation == FunctionOperation::Resume;
        (answer, order(lists, old, self.mode(), resumed))
    }

    fn parts(&mut self, operation: &FunctionOperation) -> (Answer, Lists) {
        let mut lists = Lists::default();
        let mut answer = Answer::Nothing;
        match *operation {
            FunctionOperation::WriteMsi { offset, len, value } => {
                let was = self.msi_on();
                let bytes = &value.to_le_bytes()[..usize::from(len.min(8))];
                if let Some(msi) = &mut self.msi {
                    lists.msi = msi.write_config(usize::from(offset), bytes);
                    let reached = offset <= 2 && offset + len.min(8) > 2;
                    self.switched(was, self.msix_on(), reached && !self.msix_on(), &mut lists);
                }
            }
            FunctionOperation::ReadMsi { offset, len } => {
                if let Some(msi) = &self.msi {
                    let byte = |at: usize| u64::from(*msi.config.get(at).unwrap_or(&0xff));
                    let first = usize::from(offset);
                    let bytes = (first..first + usize::from(len.min(8))).rev();
                    let value = bytes.fold(0, |value, at| value << 8 | byte(at));
                    answer = Answer::Read(Access::Done, value);
                }
            }
            FunctionOperation::PollMsi { offset, len } => {
                let (offset, len) = (usize::from(offset), usize::from(len.min(8)));
                lists.msi = self.msi.as_mut().map_or(vec![], |m| m.poll_config(offset, len));
            }
            FunctionOperation::WriteMsix { offset, len, value } => {
                let (was, msi) = (self.msix_on(), self.msi_on());
                lists.msix = self.msix(&Operation::WriteConfig { offset, len, value }).1;
                let reached = offset <= 3 && offset + len.min(8) > 3 && self.msix_on();
                if was != self.msix_on() {
                    let on = self.msix_on();
                    lists.msi = self.msi.as_mut().map_or(vec![], |m| m.set_overridden(on));
                }
                self.switched(was, msi, reached, &mut lists);
            }
            FunctionOperation::WriteCommand { offset, len, value } => {
                let mut bytes = self.command.to_le_bytes();
                for (i, byte) in value.to_le_bytes().iter().take(usize::from(len)).enumerate() {
                    if let Some(to) = bytes.get_mut(usize::from(offset) + i) {
                        *to = *byte;
                    }
                }
                self.command = u16::from_le_bytes(bytes) & 0x0407;
                let (master, disabled) = (self.command & 4 != 0, self.command & 0x400 != 0);
                lists.msi = self.msi.as_mut().map_or(vec![], |m| m.set_bus_master(master));
                lists.msix = self.msix(&Operation::SetBusMaster(master)).1;
                lists.intx = self.intx.as_mut().map_or(vec![], |i| i.set_disabled(disabled));
            }
            FunctionOperation::WriteTable { offset, len, value } => {
                (answer, lists.msix) = match self.msix {
                    Some(_) => self.msix(&Operation::WriteTable { offset, len, value }),
                    None => (Answer::Written(Access::OutOfRange), vec![]),
                };
            }
            FunctionOperation::PollPba { offset, len } => {
                lists.msix = self.msix(&Operation::PollPba { offset, len }).1;
            }
            FunctionOperation::Notify(v) => (answer, lists) = self.notify(v),
            FunctionOperation::Withdraw(Mode::MsiX, v) => {
                (answer, lists.msix) = self.msix(&Operation::Withdraw(v));
            }
            FunctionOperation::Withdraw(Mode::Msi, v) => {
                if let Some((msi, v)) = self.msi_vector(v) {
                    (answer, lists.msi) = msi.withdraw(v);
                }
            }
            FunctionOperation::Withdraw(..) => answer = Answer::Withdrawn(false),
            FunctionOperation::SetLevel(high) => lists.intx = self.pin(|pin| pin.set_level(high)),
            FunctionOperation::ReportFired => lists.intx = self.pin(NaivePin::fire),
            FunctionOperation::Eoi => lists.intx = self.pin(NaivePin::eoi),
            FunctionOperation::Claim(v) => lists.msix = self.msix(&Operation::Claim(v)).1,
            FunctionOperation::Unclaim(v) => lists.msix = self.msix(&Operation::Unclaim(v)).1,
            FunctionOperation::UnclaimAll => lists.msix = self.msix(&Operation::UnclaimAll).1,
            FunctionOperation::SetMask(v, on) => {
                lists.msix = self.msix(&Operation::SetMask(v, on)).1
            }
            FunctionOperation::SetMessage(v, m) => {
                lists.msix = self.msix(&Operation::SetMessage(v, m)).1;
            }
            FunctionOperation::Attach => {
                lists.msi = self.msi.as_mut().map_or(vec![], NaiveMsi::attach);
                lists.msix = self.msix(&Operation::Attach).1;
                lists.intx = self.pin(|pin| pin.set_attached(true));
            }
            FunctionOperation::Detach => {
                lists.msi = self.msi.as_mut().map_or(vec![], NaiveMsi::detach);
                lists.msix = self.msix(&Operation::Detach).1;
                lists.intx = self.pin(|pin| pin.set_attached(false));
            }
            FunctionOperation::ReportFailed(Mode::MsiX, set) => {
                _ = self.msix(&Operation::ReportFailed(set))
            }
            FunctionOperation::ReportFailed(Mode::Msi, set) => {
                self.msi.iter_mut().for_each(|msi| msi.report_failed(set));
            }
            FunctionOperation::ReportFailed(Mode::Intx, _) => {
                self.intx.iter_mut().for_each(NaivePin::fail);
            }
            FunctionOperation::ReportHeld(Mode::MsiX, set) => {
                lists.msix = self.msix(&Operation::ReportHeld(set)).1;
            }
            FunctionOperation::ReportHeld(Mode::Msi, set) => {
                lists.msi = self.msi.as_mut().map_or(vec![], |msi| msi.report_held(set));
            }
            FunctionOperation::ReportFailed(..) | FunctionOperation::ReportHeld(..) => {}
            FunctionOperation::Reset => {
                self.command = 0;
                lists.msi = self.msi.as_mut().map_or(vec![], NaiveMsi::reset);
                lists.msix = self.msix(&Operation::Reset).1;
                self.msix(&Operation::SetBusMaster(false));
                lists.intx = self.pin(NaivePin::reset);
            }
            FunctionOperation::PrepareSave => {
                lists.msi = self.msi.as_mut().map_or(vec![], NaiveMsi::poll);
                lists.msix = self.msix(&Operation::PrepareSave).1;
            }
            FunctionOperation::SaveAndLoad => {
                self.msi.iter_mut().for_each(NaiveMsi::loaded);
                self.msix(&Operation::SaveAndLoad);
                self.intx.iter_mut().for_each(NaivePin::loaded);
            }
            FunctionOperation::Resume => {
                lists.msi = self.msi.as_mut().map_or(vec![], NaiveMsi::resume);
                lists.msix = self.msix(&Operation::Resume).1;
                lists.intx = self.pin(NaivePin::resume);
            }
        }
        (answer, lists)
    }

    /// A capability was written; it was enabled before or not, and so is the other one. `reached`: its
    /// control byte, and it is in force.
    fn switched(&mut self, was: bool, other: bool, reached: bool, lists: &mut Lists) {
        let prohibited = self.msi_on() || self.msix_on();
        let both = self.msi_on() && self.msix_on();
        self.counters.conflicts += u64::from(!was && other && both); // H18
        lists.intx = self.pin(|pin| pin.set_prohibited(prohibited));
        if reached && prohibited && self.policy.intx == IntxRule::OnEveryWrite {
            self.intx.iter_mut().for_each(NaivePin::forget); // H27
        }
    }

    fn notify(&mut self, v: Vector) -> (Answer, Lists) {
        let mut lists = Lists::default();
        let mut answer = Answer::Nothing;
        match self.mode() {
            Mode::Intx => {
                self.counters.to_intx += 1;
                answer = Answer::Event(Delivery::Intx);
            }
            Mode::None | Mode::MsiX if self.msix.is_some() => {
                (answer, lists.msix) = self.msix(&Operation::Notify(v));
            }
            _ => {
                if let Some((msi, v)) = self.msi_vector(v) {
                    (answer, lists.msi) = msi.notify(v);
                }
            }
        }
        (answer, lists)
    }

    fn msi_vector(&mut self, v: Vector) -> Option<(&mut NaiveMsi, usize)> {
        let msi = self.msi.as_mut()?;
        let v = usize::from(v.index());
        (v < msi.live.len()).then_some((msi, v))
    }

    fn pin(&mut self, input: impl FnOnce(&mut NaivePin) -> Vec<IntxEffect>) -> Vec<IntxEffect> {
        self.intx.as_mut().map_or(vec![], input)
    }

    fn msix(&mut self, operation: &Operation) -> (Answer, Vec<VectorEffect>) {
        let intx = |effect: &VectorEffect| {
            !matches!(effect, VectorEffect::IntxDeassert | VectorEffect::IntxReevaluate)
        };
        match &mut self.msix {
            Some(msix) => {
                let (answer, effects) = msix.apply(operation);
                (answer, effects.into_iter().filter(intx).collect())
            }
            None => (Answer::Nothing, vec![]),
        }
    }
}

/// What enters the new mode comes last (D2); after a load every Disarm and Deassert comes first.
fn order(lists: Lists, old: Mode, new: Mode, resumed: bool) -> Vec<PartEffect> {
    let place = |mode: Mode| u8::from(old != new && mode == new);
    // Parts of one place stand in this order.
    let parts = [
        (Mode::Msi, lists.msi.into_iter().map(PartEffect::Msi).collect::<Vec<_>>()),
        (Mode::MsiX, lists.msix.into_iter().map(PartEffect::MsiX).collect()),
        (Mode::Intx, lists.intx.into_iter().map(PartEffect::Intx).collect()),
    ];
    let mut all: Vec<(u8, PartEffect)> = Vec::new();
    for (mode, effects) in parts {
        all.extend(effects.into_iter().map(|effect| {
            let leaves = matches!(
                effect,
                PartEffect::MsiX(VectorEffect::Disarm(_))
                    | PartEffect::Msi(VectorEffect::Disarm(_))
                    | PartEffect::Intx(IntxEffect::Disarm | IntxEffect::Deassert)
            );
            let place = if resumed { u8::from(!leaves) } else { place(mode) };
            (place, effect)
        }));
    }
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, effect)| effect).collect()
}
