//! What must hold of one step, judged from the registers as the guest reads them, from what the
//! host was told, and from the counters.

use super::engine::Input;
use super::host::{Done, Failure};
use super::node::Node;
use super::property::{Found, Property, must};
use super::registers::Registers;
use super::world::MsixWorld;
use msix_core::operation::{Answer, Operation};
use msix_core::policy::{BusMasterOff, IntxRule, LiveRewrite, UnclaimedPending};
use msix_core::{Access, Storage};

/// A step that was taken.
#[derive(Debug)]
pub(crate) struct Step<'a, S> {
    pub(crate) world: &'a MsixWorld<S>,
    pub(crate) before: &'a Node<S>,
    pub(crate) input: Input<'a>,
    pub(crate) answer: Answer,
    pub(crate) done: &'a Done,
}

/// Checks all properties of a step that led to `after`.
pub(crate) fn check<S: Storage + Clone>(step: &Step<'_, S>, after: &Node<S>) -> Result<(), Found> {
    step.registers(after)?;
    step.told(after)?;
    step.sent(after)?;
    step.pending(after)?;
    step.lossless(after)?;
    step.polled()?;
    step.drained(after)?;
    step.messages(after)?;
    step.intx(after)?;
    step.bound()
}

impl<S: Storage + Clone> Step<'_, S> {
    fn operation(&self) -> Option<Operation> {
        match self.input {
            Input::Operation(operation) => Some(operation),
            Input::Load(_) => None,
        }
    }

    fn is_load(&self) -> bool {
        let own = Some(Operation::SaveAndLoad);
        self.operation().is_none()
            || self.operation() == own
            || self.operation() == Some(Operation::SaveAndLoadQemu)
    }

    /// Follows the guest through the rewriting of a live message (H4).
    pub(crate) fn rewrites(&self, after: &mut Node<S>) {
        if self.world.policy.live_rewrite != LiveRewrite::Reroute || after.host.loading {
            return;
        }
        for (index, v) in self.world.at.iter().enumerate() {
            let old = self.before.registers.entries[index].message(&self.world.policy);
            let new = after.registers.entries[index].message(&self.world.policy);
            let line = &mut after.host.lines[index];
            let complete = self.done.armed >> index & 1 != 0
                || match self.operation() {
                    Some(Operation::SetMessage(set, _)) => set == *v,
                    Some(Operation::WriteTable { offset, len, .. }) => {
                        offset / 16 == v.index() && (offset % 16 == 8 || len == 8)
                    }
                    _ => false,
                };
            line.rewriting = line.armed && !complete && (line.rewriting || old != new);
        }
    }

    fn registers(&self, after: &Node<S>) -> Result<(), Found> {
        let (old, world) = (&self.before.registers, self.world);
        let mut expected = match self.input {
            Input::Operation(operation) => old.after(operation, &world.at, &world.policy),
            Input::Load(snapshot) => snapshot.after(old, world.at.len()),
        };
        for (entry, new) in expected.entries.iter_mut().zip(&after.registers.entries) {
            entry.pending = new.pending;
        }
        must(expected == after.registers, Property::Registers, || {
            format!("the registers are {:x?}, not {expected:x?}", after.registers)
        })?;
        let carried_out = match (self.operation(), self.answer) {
            (Some(Operation::WriteTable { .. }), answer) => answer == Answer::Written(Access::Done),
            _ => true,
        };
        must(carried_out, Property::Registers, || format!("the access was {:?}", self.answer))
    }

    fn told(&self, after: &Node<S>) -> Result<(), Found> {
        let host = &after.host;
        for (index, v) in self.world.at.iter().enumerate() {
            let line = &host.lines[index];
            let deliverable =
                after.registers.deliverable(index, &self.world.policy, host.bus_master);
            let wanted = if host.loading {
                self.before.host.lines[index].armed && host.attached // H15
            } else {
                deliverable && host.attached
            };
            must(line.armed == wanted, Property::Told, || {
                format!("vector {v} is armed: {}, should be: {wanted}", line.armed)
            })?;
            let msix = after.engine.msix();
            must(msix.is_live(*v) == Some(line.armed), Property::Told, || {
                format!("the engine takes vector {v} for armed: {}", !line.armed)
            })?;
            let failed = line.failure == Failure::Reported;
            must(msix.is_fallback(*v) == Some(failed), Property::Told, || {
                format!("the host's failure for vector {v} is known: {}", !failed)
            })?;
        }
        Ok(())
    }

    fn sent(&self, after: &Node<S>) -> Result<(), Found> {
        let host = &after.host;
        for (index, v) in self.world.at.iter().enumerate() {
            let entry = &after.registers.entries[index];
            let deliverable = !host.loading
                && after.registers.deliverable(index, &self.world.policy, host.bus_master);
            let may = deliverable && entry.claims > 0 && host.bus_master;
            must(may || self.done.sent >> index & 1 == 0, Property::Send, || {
                format!("vector {v} sends and may not: {entry:x?}")
            })?;
            must(!(deliverable && entry.claims > 0 && entry.pending), Property::Send, || {
                format!("vector {v} is pending and could send")
            })?;
        }
        Ok(())
    }

    fn pending(&self, after: &Node<S>) -> Result<(), Found> {
        let policy = &self.world.policy;
        for (index, v) in self.world.at.iter().enumerate() {
            let (old, new) =
                (&self.before.registers.entries[index], &after.registers.entries[index]);
            let (cleared, set) = (old.pending && !new.pending, !old.pending && new.pending);
            let deliverable = !after.host.loading
                && after.registers.deliverable(index, policy, after.host.bus_master);
            let lost = deliverable
                && (new.claims == 0 && policy.unclaimed_pending == UnclaimedPending::Lose
                    || !after.host.bus_master
                        && policy.bus_master_off == BusMasterOff::DropMessage);
            let named = match self.operation() {
                None | Some(Operation::Reset | Operation::UnclaimAll) => true,
                Some(Operation::Withdraw(w)) => w == *v,
                Some(Operation::Unclaim(w)) => w == *v && new.claims == 0,
                _ => false,
            };
            let sent = self.done.sent >> index & 1 != 0;
            must(!cleared || sent || lost || named, Property::Pending, || {
                format!("vector {v} is pending no more, for no reason")
            })?;
            let event = match self.operation() {
                Some(Operation::Notify(n)) => n == *v,
                Some(Operation::ReportHeld(set)) => set.iter().any(|member| member == *v),
                operation => operation.is_none(),
            };
            must(!set || event, Property::Pending, || {
                format!("vector {v} is pending without an event")
            })?;
            let withdrawn = self.operation() == Some(Operation::Withdraw(*v));
            must(!(withdrawn && new.pending), Property::Pending, || {
                format!("vector {v} was withdrawn and is pending")
            })?;
        }
        Ok(())
    }

    fn lossless(&self, after: &Node<S>) -> Result<(), Found> {
        let (old, new) = (self.before.engine.msix().counters(), after.engine.msix().counters());
        let pending = |registers: &Registers| {
            registers.entries.iter().filter(|entry| entry.pending).count() as u64
        };
        let before = pending(&self.before.registers);
        let now = pending(&after.registers);
        let (notified, given) = match self.operation() {
            Some(Operation::Notify(v)) => (Some(v), 1),
            Some(Operation::ReportHeld(set)) => (None, u64::from(set.bits().count_ones())),
            _ => (None, 0),
        };
        let brought = if self.is_load() { now } else { 0 };
        let sent = new.sent - old.sent;
        let ended = sent + (new.coalesced - old.coalesced) + (new.withdrawn - old.withdrawn);
        let ended = ended + (new.to_intx - old.to_intx) + (new.dropped() - old.dropped());
        must(before + given + brought == ended + now, Property::Lossless, || {
            format!(
                "{before} pending and {given} new events became {now} pending and {ended} that \
                 ended otherwise"
            )
        })?;
        must(sent == u64::from(self.done.sent.count_ones()), Property::Lossless, || {
            format!("{sent} messages are counted, {:#b} were sent", self.done.sent)
        })?;
        let claims = |v| {
            let index = self.world.at.iter().position(|at| *at == v);
            index.map_or(0, |index| after.registers.entries[index].claims)
        };
        let policy = &self.world.policy;
        let unclaimed = match self.operation() {
            Some(Operation::Notify(v) | Operation::Unclaim(v)) => claims(v) == 0,
            Some(Operation::ReportHeld(set)) => set.iter().any(|v| claims(v) == 0),
            Some(Operation::UnclaimAll) => true,
            _ => policy.unclaimed_pending == UnclaimedPending::Lose,
        };
        let off = !after.host.bus_master && policy.bus_master_off == BusMasterOff::DropMessage;
        let reset = self.operation() == Some(Operation::Reset);
        let withdraw = matches!(self.operation(), Some(Operation::Withdraw(_)));
        for (reason, moved, may) in [
            ("no claim", new.dropped_unclaimed - old.dropped_unclaimed, unclaimed),
            ("disabled", new.dropped_disabled - old.dropped_disabled, false),
            ("bus master off", new.dropped_bus_master - old.dropped_bus_master, off),
            ("reset", new.dropped_reset - old.dropped_reset, reset),
            ("load", new.dropped_load - old.dropped_load, self.is_load()),
            ("withdrawn", new.withdrawn - old.withdrawn, withdraw),
            ("INTx", new.to_intx - old.to_intx, false),
            ("coalesced", new.coalesced - old.coalesced, given > 0 && before > 0),
        ] {
            must(moved == 0 || may, Property::Lossless, || {
                format!(
                    "an event{} ended as `{reason}`",
                    notified.map_or(String::new(), |v| { format!(" of vector {v}") })
                )
            })?;
        }
        Ok(())
    }

    fn polled(&self) -> Result<(), Found> {
        let (world, old) = (self.world, &self.before.registers);
        let whole = 0..world.vectors();
        let range = match self.operation() {
            Some(Operation::PollPba { offset, len }) => offset * 8..offset * 8 + u16::from(len) * 8,
            Some(Operation::PrepareSave) => whole,
            Some(Operation::Detach) if world.policy.poll_before_disable => whole,
            Some(Operation::WriteConfig { value, .. })
                if world.policy.poll_before_disable && old.enabled && value & 0x8000 == 0 =>
            {
                whole
            }
            _ => 0..0,
        };
        let mut expected = 0;
        for (index, v) in world.at.iter().enumerate() {
            let line = &self.before.host.lines[index];
            let holds = !line.armed || line.failure == Failure::Reported;
            let asked = holds && self.before.host.attached && range.contains(&v.index());
            expected |= u8::from(asked) << index;
        }
        must(self.done.polled == expected, Property::Poll, || {
            format!("polled were {:#b} of the vectors, not {expected:#b}", self.done.polled)
        })
    }

    fn drained(&self, after: &Node<S>) -> Result<(), Found> {
        let (world, drain) = (self.world, self.world.policy.drain);
        for (index, v) in world.at.iter().enumerate() {
            let named = match self.operation() {
                Some(Operation::Reset | Operation::UnclaimAll) => true,
                Some(Operation::Withdraw(w)) => w == *v,
                Some(Operation::Unclaim(w)) => {
                    let (old, new) = (&self.before.registers, &after.registers);
                    w == *v && old.entries[index].claims > 0 && new.entries[index].claims == 0
                }
                _ => false,
            };
            let line = &after.host.lines[index];
            let holds = !line.armed || line.failure == Failure::Reported;
            let expected = named && drain && holds && after.host.attached;
            must((self.done.drained >> index & 1 != 0) == expected, Property::Drain, || {
                format!("the host's events of vector {v} are dropped: {}", !expected)
            })?;
        }
        Ok(())
    }

    fn messages(&self, after: &Node<S>) -> Result<(), Found> {
        let policy = &self.world.policy;
        for (index, v) in self.world.at.iter().enumerate() {
            let (line, entry) = (&after.host.lines[index], &after.registers.entries[index]);
            let told = (self.done.armed | self.done.rerouted) >> index & 1 != 0;
            let current = match policy.live_rewrite {
                LiveRewrite::Reroute => !line.rewriting,
                LiveRewrite::Ignore => told,
            };
            let right = line.message == entry.message(policy);
            must(
                after.host.loading || !line.armed || !current || right,
                Property::Message,
                || {
                    let table = entry.message(policy);
                    format!("vector {v} delivers {:x?}, the table says {table:x?}", line.message)
                },
            )?;
            let torn = self.done.rerouted >> index & 1 != 0 && line.rewriting;
            must(!torn, Property::Message, || {
                format!("vector {v} is rerouted to half a message: {:x?}", line.message)
            })?;
        }
        let rerouted = self.done.rerouted == 0 || policy.live_rewrite == LiveRewrite::Reroute;
        must(rerouted, Property::Message, || "a Reroute, against the policy".to_owned())
    }

    fn intx(&self, after: &Node<S>) -> Result<(), Found> {
        let (told, new) = (self.before.host.intx_told, after.registers.enabled);
        let every = self.world.policy.intx == IntxRule::OnEveryWrite;
        let (deassert, reevaluate) = match self.operation() {
            _ if after.host.loading => (false, false), // the resume says it (H15)
            Some(Operation::WriteConfig { .. }) => {
                (new && (every || !told), told && !new && !every)
            }
            Some(Operation::Resume) => (new && !told, told && !new && !every),
            Some(Operation::Reset) => (false, told && !every),
            _ => (false, false),
        };
        must(
            (self.done.deassert, self.done.reevaluate) == (deassert, reevaluate),
            Property::Intx,
            || format!("INTx: deassert {deassert} and reevaluate {reevaluate} were due"),
        )
    }

    fn bound(&self) -> Result<(), Found> {
        let one = matches!(
            self.operation(),
            Some(
                Operation::WriteTable { .. }
                    | Operation::Notify(_)
                    | Operation::Withdraw(_)
                    | Operation::Claim(_)
                    | Operation::Unclaim(_)
                    | Operation::SetMask(..)
                    | Operation::SetMessage(..)
            )
        );
        let bound = if one { 4 } else { 2 + 3 * usize::from(self.world.vectors().div_ceil(64)) };
        must(self.done.effects <= bound, Property::Bound, || {
            format!("{} effects, at most {bound} are allowed", self.done.effects)
        })
    }
}
