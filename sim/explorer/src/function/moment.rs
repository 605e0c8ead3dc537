//! A state of a function and the world around it, and what must hold in it and of every step: judged from
//! the registers and from what the world did, not from the function's opinion of itself.

use super::defect::{self, FunctionDefect};
use super::explored::{Explored, FunctionRegisters};
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::policy::{BusMasterOff, IntxRule, LiveRewrite, UnclaimedPending};
use msix_core::{
    Counters, Delivery, Effect, FunctionEffect, IntxEffect, IntxSource, Mode, Vector, Vectors,
};
use std::hash::{Hash, Hasher};

/// A property that does not hold.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) property: &'static str,
    pub(super) detail: String,
    /// The inputs that were tried in a state to find it there.
    pub(super) tried: Vec<FunctionOperation>,
}

/// A state: the function, and what the world knows beside it.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    function: Explored,
    /// The device's level, or that the physical line fired and is masked.
    high: bool,
    attached: bool,
    loading: bool,
    told: Told,
    /// Of the function, as it is now.
    registers: FunctionRegisters,
}

/// What the host was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    msi: u64,
    msix: u64,
    pin: bool,
    asserted: bool,
    /// The address of the message that the host was told of each vector of MSI.
    address: [u64; 2],
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
        let t = &self.told;
        // Of what the host was told counts only whether it is what the register says.
        let stale = [0, 1].map(|v| {
            let now = self.function.msi().and_then(|msi| msi.message(Vector::new(v)));
            let told = t.address.get(usize::from(v)).copied();
            t.msi >> v & 1 != 0 && now.map(|message| message.address) != told
        });
        (self.high, self.attached, self.loading, t.msi, t.msix, t.pin, t.asserted).hash(state);
        stale.hash(state);
    }
}

fn must(holds: bool, property: &'static str, detail: impl FnOnce() -> String) -> Result<(), Found> {
    if holds { Ok(()) } else { Err(Found { property, detail: detail(), tried: Vec::new() }) }
}

impl Moment {
    pub(super) fn new(function: Explored) -> Self {
        let registers = FunctionRegisters::of(&function);
        let told = Told::default();
        Self { function, high: false, attached: false, loading: false, told, registers }
    }

    /// Whether the world lets an input happen.
    pub(super) fn can(&self, operation: &FunctionOperation) -> bool {
        match *operation {
            FunctionOperation::ReportFailed(Mode::Msi, set) => self.told.msi & set.bits() != 0,
            FunctionOperation::ReportFailed(Mode::MsiX, set) => self.told.msix & set.bits() != 0,
            FunctionOperation::ReportFailed(..) => self.told.pin,
            // Only a vector that is not live, or that failed, has events that the host holds.
            FunctionOperation::ReportHeld(Mode::Msi, set) => {
                self.attached && self.told.msi & set.bits() == 0
            }
            FunctionOperation::ReportHeld(Mode::MsiX, set) => {
                self.attached && self.told.msix & set.bits() == 0
            }
            FunctionOperation::ReportFired => self.told.pin && !self.high,
            _ => true,
        }
    }

    /// One step.
    pub(super) fn after(
        &self,
        operation: &FunctionOperation,
        defect: Option<FunctionDefect>,
    ) -> Result<Self, Found> {
        let mut next = self.clone();
        let (answer, effects) = defect::apply(&mut next.function, operation, defect);
        next.registers = FunctionRegisters::of(&next.function);
        next.world(operation);
        let sent = next.carry_out(operation, &effects)?;
        next.physical(&effects);
        next.settled()?;
        self.counted(&next, operation, answer)?;
        must(sent.is_none_or(|mode| mode == next.function.mode()), "send", || {
            format!("{sent:?} sends in mode {:?}", next.function.mode())
        })?;
        self.polled(&next, operation, &effects)?;
        if *operation == FunctionOperation::Reset {
            let f = &next.function;
            let clear = f.mode() == Mode::Intx && f.command() == 0 && f.status() == 0;
            must(clear, "reset", || format!("{:?}, Command {:#x}", f.mode(), f.command()))?;
            let armed = effects.contains(&FunctionEffect::Intx(IntxEffect::Arm));
            must(armed == self.attached, "reset", || "the pin is not armed again".to_owned())?;
        }
        Ok(next)
    }

    /// What the input does to the world around the function.
    fn world(&mut self, operation: &FunctionOperation) {
        match *operation {
            FunctionOperation::Attach => self.attached = true,
            FunctionOperation::Detach => self.attached = false,
            FunctionOperation::SetLevel(high) => self.high = high,
            FunctionOperation::ReportFired => self.high = true,
            FunctionOperation::Eoi if self.is_physical() && self.told.asserted && !self.loading => {
                self.high = false;
            }
            FunctionOperation::Reset => (self.high, self.loading) = (false, false),
            FunctionOperation::SaveAndLoad => {
                self.loading = true;
                self.high &= !self.is_physical();
            }
            FunctionOperation::Resume if self.loading => {
                self.loading = false;
                self.high &= !self.is_physical();
            }
            _ => {}
        }
        let forgets = self.function.policy().intx == IntxRule::OnEveryWrite;
        let enables = match *operation {
            FunctionOperation::WriteMsi { offset: 2, .. } => self.function.mode() == Mode::Msi,
            FunctionOperation::WriteMsix { .. } => self.function.mode() == Mode::MsiX,
            _ => false,
        };
        self.high &= !(forgets && enables && !self.is_physical()); // H27
    }

    /// Nobody masks a disarmed physical line.
    fn physical(&mut self, effects: &[FunctionEffect]) {
        let disarmed = effects.contains(&FunctionEffect::Intx(IntxEffect::Disarm));
        self.high &= !(disarmed && self.is_physical());
    }

    fn is_physical(&self) -> bool {
        self.function.intx().is_some_and(|intx| intx.source() == IntxSource::Physical)
    }

    /// Follows the list as a host does, effect by effect. Which mode sent something.
    fn carry_out(
        &mut self,
        operation: &FunctionOperation,
        effects: &[FunctionEffect],
    ) -> Result<Option<Mode>, Found> {
        let (mut sent, mut unmasked) = (None, false);
        must(effects.len() <= Explored::MAX_EFFECTS, "bound", || format!("{effects:?}"))?;
        let loads = *operation == FunctionOperation::SaveAndLoad;
        must(!loads || effects.is_empty(), "told", || format!("a load says {effects:?}"))?;
        for effect in effects {
            let before = self.told;
            let wrong = || format!("{effect:?} after {before:x?}, in {effects:?}");
            match *effect {
                FunctionEffect::Intx(effect) => {
                    unmasked |= effect == IntxEffect::Unmask;
                    let eoi = *operation == FunctionOperation::Eoi;
                    must(self.told.pin_follows(effect, eoi), "alternate", wrong)?;
                }
                FunctionEffect::Msi(effect) => {
                    let told = &mut self.told.msi;
                    must(vectors_follow(told, effect)?, "alternate", wrong)?;
                    self.learn(effect);
                    sent = if matches!(effect, Effect::Send(_)) { Some(Mode::Msi) } else { sent };
                }
                FunctionEffect::MsiX(effect) => {
                    let told = &mut self.told.msix;
                    must(vectors_follow(told, effect)?, "alternate", wrong)?;
                    sent = if matches!(effect, Effect::Send(_)) { Some(Mode::MsiX) } else { sent };
                }
            }
            let t = &self.told;
            let armed = [t.msi != 0, t.msix != 0, t.pin].into_iter().filter(|armed| *armed).count();
            must(armed <= 1, "alone", wrong)?;
        }
        let lowered = effects.contains(&FunctionEffect::Intx(IntxEffect::Deassert));
        let due = self.is_physical() && *operation == FunctionOperation::Eoi && lowered;
        must(unmasked == due, "level", || format!("unmasked: {unmasked}, in {effects:?}"))?;
        Ok(sent)
    }

    /// The message that an effect tells the host.
    fn learn(&mut self, effect: Effect) {
        if let (Effect::Arm(set) | Effect::Reroute(set), Some(msi)) = (effect, self.function.msi())
        {
            for v in set.iter() {
                if let (Some(slot), Some(message)) =
                    (self.told.address.get_mut(usize::from(v.index())), msi.message(v))
                {
                    *slot = message.address;
                }
            }
        }
    }

    /// What the registers say should hold, and what the host was told.
    fn settled(&self) -> Result<(), Found> {
        let registers = &self.registers;
        let t = &self.told;
        let mode = registers.mode();
        must(self.function.mode() == mode, "mode", || format!("it is {mode:?}"))?;
        must(self.function.check(), "function", || "it finds fault with itself".to_owned())?;
        let live = (registers.msi_live, registers.msix_live);
        must((t.msi, t.msix) == live, "told", || format!("{t:x?}, the function thinks {live:x?}"))?;
        if self.loading {
            return Ok(());
        }
        let on = if self.attached { 3 } else { 0 };
        let expected = (registers.msi_open & on, registers.msix_open & on);
        must(live == expected, "told", || format!("{live:x?} is armed, should be {expected:x?}"))?;
        let stuck = registers.msi_open & registers.msi_pending
            | registers.msix_open & registers.msix_pending & registers.claimed;
        must(stuck == 0, "send", || format!("{stuck:#b} is pending and could be sent"))?;
        let open = mode == Mode::Intx && self.function.command() & 0x400 == 0;
        must(t.pin == (open && self.attached), "told", || format!("the pin is armed: {}", t.pin))?;
        let high = open && self.high && (t.pin || !self.is_physical());
        must(t.asserted == high, "level", || format!("the line is high: {}", t.asserted))?;
        // Of a physical pin only the device knows it.
        let emulated = !self.is_physical();
        let status = u16::from(emulated && self.high && mode == Mode::Intx) << 3;
        must(self.function.status() == status, "level", || format!("Status is not {status:#x}"))
    }

    /// Every event ends in one place, and for a reason.
    fn counted(
        &self,
        next: &Self,
        operation: &FunctionOperation,
        answer: Answer,
    ) -> Result<(), Found> {
        let (old, new) = (&self.registers, &next.registers);
        let taken = matches!(answer, Answer::Event(d) if d != Delivery::Intx);
        let polled = |of: Mode| match *operation {
            FunctionOperation::ReportHeld(mode, set) if mode == of => set.bits().count_ones(),
            _ => 0,
        };
        let notified = |of: Mode| u32::from(taken && self.function.mode() == of);
        let parts = [
            (Mode::Msi, old.msi_events, new.msi_events, old.msi_counters, new.msi_counters),
            (Mode::MsiX, old.msix_pending, new.msix_pending, old.msix_counters, new.msix_counters),
        ];
        for (mode, before, after, was, is) in parts {
            let (before, after) = (u64::from(before.count_ones()), u64::from(after.count_ones()));
            let loaded = if *operation == FunctionOperation::SaveAndLoad { after } else { 0 };
            let given = u64::from(polled(mode) + notified(mode)) + loaded;
            let total = |c: &Counters| c.sent + c.coalesced + c.withdrawn + c.to_intx + c.dropped();
            let ended = total(&is) - total(&was);
            must(before + given == ended + after, "lossless", || {
                format!("{mode:?}: {before} and {given} new became {after} and {ended} ended")
            })?;
            let policy = self.function.msix().map(|msix| *msix.policy());
            let off = policy.is_some_and(|p| p.bus_master_off == BusMasterOff::DropMessage);
            let off = off && next.function.command() & 4 == 0;
            let lose = policy.is_some_and(|p| p.unclaimed_pending == UnclaimedPending::Lose);
            let unclaimed = (old.claimed & new.claimed) != 3 || lose;
            let withdrawn = matches!(operation, FunctionOperation::Withdraw(of, _) if *of == mode);
            for (moved, may) in [
                (is.withdrawn - was.withdrawn, withdrawn),
                (is.dropped_reset - was.dropped_reset, *operation == FunctionOperation::Reset),
                (is.dropped_load - was.dropped_load, loaded > 0),
                (is.dropped_bus_master - was.dropped_bus_master, off),
                (is.dropped_unclaimed - was.dropped_unclaimed, unclaimed && mode == Mode::MsiX),
                (is.dropped_disabled - was.dropped_disabled + is.to_intx - was.to_intx, false),
            ] {
                must(moved == 0 || may, "lossless", || format!("{mode:?}: {was:?} became {is:?}"))?;
            }
        }
        Ok(())
    }

    /// What the host holds is asked for before it is needed, and a message that is complete is told.
    fn polled(
        &self,
        next: &Self,
        operation: &FunctionOperation,
        effects: &[FunctionEffect],
    ) -> Result<(), Found> {
        let reads =
            matches!(operation, FunctionOperation::PrepareSave | FunctionOperation::PollMsi { .. });
        if let (true, Some(msi)) = (reads, self.function.msi()) {
            let held = (!self.told.msi | msi.fallback().bits()) & 3;
            let held = if self.attached { held } else { 0 };
            let asked = effects.iter().find_map(|effect| match effect {
                FunctionEffect::Msi(Effect::Poll(set)) => Some(set.bits()),
                _ => None,
            });
            must(asked.unwrap_or(0) == held, "poll", || format!("{held:#b} holds events"))?;
        }
        let at_once = next.function.policy().live_rewrite == LiveRewrite::Ignore;
        let complete = match operation {
            FunctionOperation::WriteMsi { offset, .. } => at_once || *offset == 8,
            _ => false,
        };
        if let (true, false, Some(msi)) = (complete, self.loading, next.function.msi()) {
            for v in msi.live().iter() {
                let told = next.told.address.get(usize::from(v.index())).copied();
                let now = msi.message(v).map(|message| message.address);
                must(told == now, "message", || format!("{v} goes to {told:x?}, not {now:x?}"))?;
            }
        }
        Ok(())
    }

    /// Checks that nothing stays behind when everything is let through, first of MSI, then of MSI-X, then
    /// of the pin.
    pub(super) fn delivers(&self, defect: Option<FunctionDefect>) -> Result<(), Found> {
        let mut tried = Vec::new();
        self.let_through(defect, &mut tried).map_err(|found| Found { tried, ..found })
    }

    fn let_through(
        &self,
        defect: Option<FunctionDefect>,
        tried: &mut Vec<FunctionOperation>,
    ) -> Result<(), Found> {
        let mut now = self.clone();
        let v = [0, 1].map(Vector::new);
        let msix = |value| FunctionOperation::WriteMsix { offset: 3, len: 1, value };
        let msi = |value| FunctionOperation::WriteMsi { offset: 2, len: 1, value };
        let unmask = |v: Vector| FunctionOperation::WriteTable {
            offset: v.index() * 16 + 12,
            len: 4,
            value: 0,
        };
        let unmasked = FunctionOperation::WriteMsi { offset: 12, len: 4, value: 0 };
        let on = FunctionOperation::WriteCommand { offset: 0, len: 2, value: 4 };
        for (operations, of) in [
            (
                &[
                    FunctionOperation::Resume,
                    FunctionOperation::Attach,
                    on,
                    msix(0),
                    unmasked,
                    msi(0x11),
                ][..],
                Mode::Msi,
            ),
            (&[msi(0), unmask(v[0]), unmask(v[1]), msix(0x80)], Mode::MsiX),
            (&[msix(0)], Mode::Intx),
        ] {
            for operation in operations {
                tried.push(*operation);
                now = now.after(operation, defect)?;
            }
            let registers = &now.registers;
            let left = match of {
                Mode::Msi => registers.msi_events,
                Mode::MsiX => registers.msix_pending,
                _ => u64::from(now.told.asserted != now.high),
            };
            must(left == 0, "delivered", || format!("{of:?}: {left:#b} is left behind"))?;
        }
        Ok(())
    }
}

impl Told {
    /// Whether an effect fits what the host was told.
    fn pin_follows(&mut self, effect: IntxEffect, eoi: bool) -> bool {
        match effect {
            IntxEffect::Deassert => std::mem::replace(&mut self.asserted, false),
            IntxEffect::Disarm => std::mem::replace(&mut self.pin, false),
            IntxEffect::Arm => !std::mem::replace(&mut self.pin, true),
            IntxEffect::Assert => !std::mem::replace(&mut self.asserted, true) || eoi,
            IntxEffect::Unmask => eoi && !self.asserted,
        }
    }
}

/// Whether an effect fits the vectors that are armed.
fn vectors_follow(told: &mut u64, effect: Effect) -> Result<bool, Found> {
    let set: Vectors = effect.vectors();
    let intx = matches!(effect, Effect::IntxDeassert | Effect::IntxReevaluate);
    must(!intx, "kinds", || format!("{effect:?} is the pin's"))?;
    must(set.word() == 0 && set.bits() & !3 == 0, "kinds", || format!("{effect:?}"))?;
    let (bits, all) = (set.bits(), *told & set.bits() == set.bits());
    Ok(match effect {
        Effect::Disarm(_) => {
            *told &= !bits;
            all
        }
        Effect::Arm(_) => std::mem::replace(told, *told | bits) & bits == 0,
        Effect::Reroute(_) => all,
        _ => true,
    })
}
