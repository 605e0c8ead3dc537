//! MSI as bytes and one `bool` a vector and fact, written from the rules (A14 to A16).

use crate::vector_effects::VectorEffect;
use msix_core::operation::Answer;
use msix_core::policy::{
    BusMasterOff, LiveRewrite, MessageEnable, PendingOnDisable, WhileDisabled,
};
use msix_core::{Counters, Delivery, DropReason, Message, MsiCapability, Policy, Vectors};

/// The MSI side of a function.
#[derive(Debug, Clone)]
pub struct NaiveMsi {
    policy: Policy,
    capability: MsiCapability,
    /// The capability as the guest reads it.
    pub config: Vec<u8>,
    /// The bits of it that a guest can write.
    writable: Vec<u8>,
    /// Vectors with an event, by their own numbers.
    events: Vec<bool>,
    /// Vectors that the host was asked to arm.
    pub live: Vec<bool>,
    /// Live vectors that the host could not serve.
    pub fallback: Vec<bool>,
    /// Live vectors whose new message the host does not have yet (H4).
    stale: Vec<bool>,
    /// MSI-X is enabled too (H18).
    overridden: bool,
    bus_master: bool,
    /// Whether a backend listens.
    pub attached: bool,
    /// Whether a resume is to come.
    pub loading: bool,
    /// Totals.
    pub counters: Counters,
}

/// What an input asks for besides telling the host what changed.
#[derive(Default)]
struct Ask {
    poll: Vec<usize>,
    drain: Vec<usize>,
    complete: bool,
    release_all: bool,
}

impl NaiveMsi {
    /// After reset, with bus master off.
    #[must_use]
    pub fn new(capability: MsiCapability, policy: Policy) -> Self {
        let n = usize::from(capability.vectors());
        let (wide, masks) = (capability.is_64_bit(), capability.has_masks());
        let mut config = vec![0; 10 + if wide { 4 } else { 0 } + if masks { 10 } else { 0 }];
        let mut writable = config.clone();
        config[0] = 5;
        config[2] = 2 * n.ilog2() as u8 + if wide { 0x80 } else { 0 };
        config[3] = u8::from(masks);
        writable[2] = 0x71;
        writable[4..8].copy_from_slice(&[0xfc, 0xff, 0xff, 0xff]);
        let data = if wide { 12 } else { 8 };
        writable[8..data + 2].fill(0xff);
        if masks {
            for v in 0..n {
                writable[data + 4 + v / 8] |= 1 << (v % 8);
            }
        }
        Self {
            policy,
            capability,
            config,
            writable,
            events: vec![false; n],
            live: vec![false; n],
            fallback: vec![false; n],
            stale: vec![false; n],
            overridden: false,
            bus_master: false,
            attached: false,
            loading: false,
            counters: Counters::default(),
        }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.events.len()).collect()
    }

    /// The members of a set of bits.
    #[must_use]
    pub fn those(&self, bits: &[bool]) -> Vec<u16> {
        self.numbers(|v| bits[v])
    }

    /// The vectors of which something holds.
    #[must_use]
    pub fn numbers(&self, holds: impl Fn(usize) -> bool) -> Vec<u16> {
        self.all().into_iter().filter(|v| holds(*v)).map(|v| v as u16).collect()
    }

    /// Whether the Enable bit is set.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.config[2] & 1 != 0
    }

    fn in_force(&self) -> bool {
        self.enabled() && !self.overridden
    }

    fn allocated(&self) -> usize {
        let wanted = 1 << (self.config[2] >> 4 & 7);
        self.events.len().min(wanted)
    }

    fn data_at(&self) -> usize {
        if self.capability.is_64_bit() { 12 } else { 8 }
    }

    fn address(&self) -> u64 {
        let end = self.data_at();
        self.config[4..end].iter().rev().fold(0, |value, byte| value * 256 + u64::from(*byte))
    }

    /// The message of `v` (A15).
    #[must_use]
    pub fn message(&self, v: usize) -> Message {
        let at = self.data_at();
        let data = usize::from(self.config[at]) + 256 * usize::from(self.config[at + 1]);
        let n = self.allocated();
        Message { address: self.address(), data: (data - data % n + v % n) as u32 }
    }

    fn masked(&self, v: usize) -> bool {
        let at = self.data_at() + 4 + v / 8;
        self.capability.has_masks() && self.config[at] & 1 << (v % 8) != 0
    }

    /// Whether a message of `v` would be sent now.
    #[must_use]
    pub fn deliverable(&self, v: usize) -> bool {
        let gated = self.policy.bus_master_off == BusMasterOff::Latch && !self.bus_master;
        v < self.allocated() && self.in_force() && !gated && !self.loading && !self.masked(v)
    }

    fn wanted(&self, v: usize) -> bool {
        self.attached && if self.loading { self.live[v] } else { self.deliverable(v) }
    }

    fn held(&self, v: usize) -> bool {
        self.attached && (!self.live[v] || self.fallback[v])
    }

    /// The vectors that go out as `v` and have an event.
    fn waiting(&self, v: usize) -> Vec<usize> {
        let n = self.allocated();
        self.all().into_iter().filter(|e| self.events[*e] && v < n && e % n == v).collect()
    }

    /// The pending register, whether the guest can see it or not (A16).
    #[must_use]
    pub fn pending(&self) -> Vec<u16> {
        self.numbers(|v| !self.waiting(v).is_empty())
    }

    /// The pending register as the guest reads it.
    fn show_pending(&mut self) {
        if self.capability.has_masks() {
            let at = self.data_at() + 8;
            self.config[at..at + 4].fill(0);
            for v in self.pending().into_iter().map(usize::from) {
                self.config[at + v / 8] |= 1 << (v % 8);
            }
        }
    }

    /// A guest write.
    pub fn write_config(&mut self, offset: usize, bytes: &[u8]) -> Vec<VectorEffect> {
        let (was, before) = (self.in_force(), self.clone());
        let covered = |at: &usize| *at >= offset && *at < offset + bytes.len();
        for at in (0..self.config.len()).filter(covered) {
            let keep = self.config[at] & !self.writable[at];
            self.config[at] = keep | bytes[at - offset] & self.writable[at];
        }
        let most = self.events.len().ilog2() as u8;
        let too_many = self.config[2] >> 4 & 7 > most;
        if self.policy.message_enable == MessageEnable::Capped
            && covered(&2)
            && self.enabled()
            && too_many
        {
            self.config[2] = self.config[2] & 0x8f | most << 4; // H26
        }
        let stale = self.stale.contains(&true);
        for v in self.all() {
            if self.live[v] && self.message(v) != before.message(v) {
                self.stale[v] = true;
            }
        }
        let data = self.data_at();
        let mut ask = self.switched(was);
        ask.complete = (4..data).all(|at| covered(&at))
            || (data..data + 2).any(|at| covered(&at))
            || before.allocated() != self.allocated() && !stale
            || self.policy.live_rewrite == LiveRewrite::Ignore;
        self.settle(ask)
    }

    /// What leaving or entering force asks for.
    fn switched(&mut self, was: bool) -> Ask {
        let mut ask = Ask::default();
        let (on, off) = (!was && self.in_force(), was && !self.in_force());
        if on && self.policy.while_disabled != WhileDisabled::Latch && self.policy.drain {
            ask.drain = self.all(); // H3
        }
        if off && self.policy.pending_on_disable == PendingOnDisable::Drop {
            self.counters.dropped_disabled += self.forget_all(); // H2
            if self.policy.drain {
                ask.drain = self.all();
            }
        } else if off && self.policy.poll_before_disable {
            ask.poll = self.all(); // H13
        }
        ask
    }

    fn forget_all(&mut self) -> u64 {
        let events = self.events.iter().filter(|event| **event).count();
        self.events.fill(false);
        events as u64
    }

    /// MSI-X is enabled, or not any more.
    pub fn set_overridden(&mut self, on: bool) -> Vec<VectorEffect> {
        let was = self.in_force();
        self.overridden = on;
        let ask = self.switched(was);
        self.settle(ask)
    }

    /// Bus Master Enable.
    pub fn set_bus_master(&mut self, on: bool) -> Vec<VectorEffect> {
        self.bus_master = on;
        self.settle(Ask::default())
    }

    /// First step of a read.
    pub fn poll_config(&mut self, offset: usize, len: usize) -> Vec<VectorEffect> {
        let at = self.data_at() + 8;
        let covers = self.capability.has_masks()
            && (at..at + 4).any(|byte| byte >= offset && byte < offset + len);
        if covers { self.poll() } else { vec![] }
    }

    /// Asks for all that the host holds, where it is wanted (H3).
    pub fn poll(&mut self) -> Vec<VectorEffect> {
        let wanted = self.in_force() || self.policy.while_disabled == WhileDisabled::Latch;
        let poll = if wanted { self.all() } else { vec![] };
        self.settle(Ask { poll, ..Ask::default() })
    }

    /// The device has an event.
    pub fn notify(&mut self, v: usize) -> (Answer, Vec<VectorEffect>) {
        if !self.in_force() && self.policy.while_disabled == WhileDisabled::Drop {
            self.counters.dropped_disabled += 1;
            return (Answer::Event(Delivery::Dropped(DropReason::Disabled)), vec![]);
        }
        if !self.in_force() && self.policy.while_disabled == WhileDisabled::Intx {
            self.counters.to_intx += 1;
            return (Answer::Event(Delivery::Intx), vec![]);
        }
        if self.events[v] {
            self.counters.coalesced += 1;
            return (Answer::Event(Delivery::Coalesced), vec![]);
        }
        self.events[v] = true;
        let effects = self.settle(Ask::default());
        let delivery = match (self.events[v], self.bus_master) {
            (true, _) => Delivery::Pending,
            (false, true) => Delivery::Sent,
            (false, false) => Delivery::Dropped(DropReason::BusMaster),
        };
        (Answer::Event(delivery), effects)
    }

    /// The cause of an event is gone (A8).
    pub fn withdraw(&mut self, v: usize) -> (Answer, Vec<VectorEffect>) {
        let was = std::mem::take(&mut self.events[v]);
        self.counters.withdrawn += u64::from(was);
        let drain = if self.policy.drain { vec![v] } else { vec![] };
        (Answer::Withdrawn(was), self.settle(Ask { drain, ..Ask::default() }))
    }

    /// The host held events of these.
    pub fn report_held(&mut self, set: Vectors) -> Vec<VectorEffect> {
        for v in self.members(set) {
            self.counters.coalesced += u64::from(self.events[v]);
            self.events[v] = true;
        }
        self.settle(Ask::default())
    }

    /// The host could not serve these live vectors.
    pub fn report_failed(&mut self, set: Vectors) {
        for v in self.members(set).into_iter().filter(|v| self.live[*v]).collect::<Vec<_>>() {
            self.fallback[v] = true;
            self.counters.failures += 1;
        }
    }

    fn members(&self, set: Vectors) -> Vec<usize> {
        let member = |v: &usize| set.word() == 0 && set.bits() >> v & 1 != 0;
        self.all().into_iter().filter(member).collect()
    }

    /// A backend comes.
    pub fn attach(&mut self) -> Vec<VectorEffect> {
        self.attached = true;
        self.settle(Ask::default())
    }

    /// The backend goes.
    pub fn detach(&mut self) -> Vec<VectorEffect> {
        let mut effects = if self.policy.poll_before_disable { self.poll() } else { vec![] };
        self.attached = false;
        effects.extend(self.settle(Ask::default()));
        effects
    }

    /// Function reset.
    pub fn reset(&mut self) -> Vec<VectorEffect> {
        for (byte, writable) in self.config.iter_mut().zip(&self.writable) {
            *byte &= !writable;
        }
        self.loading = false;
        self.stale.fill(false);
        self.counters.dropped_reset += self.forget_all();
        let drain = if self.policy.drain { self.all() } else { vec![] };
        let effects = self.settle(Ask { drain, ..Ask::default() });
        (self.overridden, self.bus_master) = (false, false);
        effects
    }

    /// The same registers were loaded (H15).
    pub fn loaded(&mut self) {
        self.counters.dropped_load += self.events.iter().filter(|event| **event).count() as u64;
        self.stale.fill(false);
        self.loading = true;
    }

    /// Ends a load.
    pub fn resume(&mut self) -> Vec<VectorEffect> {
        if !self.loading {
            return vec![];
        }
        self.loading = false;
        self.settle(Ask { release_all: true, ..Ask::default() })
    }

    /// The native encoding.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        let mut bytes = b"MSI \x02\x00".to_vec();
        let mut config = self.config.clone();
        config[1] = 0;
        if self.capability.has_masks() {
            let at = self.data_at() + 8;
            config[at..at + 4].fill(0);
        }
        config.resize(24, 0);
        bytes.extend(config);
        let events = self.all().iter().fold(0, |bits, v| bits | u32::from(self.events[*v]) << v);
        bytes.extend(events.to_le_bytes());
        crate::reference::sealed(bytes)
    }

    /// Tells the host all that changed and what the input asks for, lowest vector first.
    fn settle(&mut self, ask: Ask) -> Vec<VectorEffect> {
        let mut effects = Vec::new();
        for v in ask.poll {
            if self.held(v) {
                effects.push(VectorEffect::Poll(v as u16));
            }
        }
        for v in self.all() {
            if self.live[v] && (ask.release_all || !self.wanted(v)) {
                (self.live[v], self.fallback[v], self.stale[v]) = (false, false, false);
                self.counters.disarms += 1;
                effects.push(VectorEffect::Disarm(v as u16));
            }
        }
        for v in ask.drain {
            if self.held(v) {
                effects.push(VectorEffect::Drain(v as u16));
            }
        }
        for v in self.all() {
            if !self.live[v] && self.wanted(v) {
                self.live[v] = true;
                self.counters.arms += 1;
                effects.push(VectorEffect::Arm(v as u16, self.message(v)));
            }
        }
        for v in self.all() {
            if ask.complete && self.stale[v] && !self.loading {
                self.stale[v] = false;
                self.counters.reroutes += 1;
                effects.push(VectorEffect::Reroute(v as u16, self.message(v)));
            }
        }
        for v in self.all() {
            let waiting = self.waiting(v);
            if !waiting.is_empty() && self.deliverable(v) {
                self.counters.coalesced += waiting.len() as u64 - 1; // A12
                waiting.into_iter().for_each(|event| self.events[event] = false);
                if self.bus_master {
                    self.counters.sent += 1;
                    effects.push(VectorEffect::Send(v as u16, self.message(v)));
                } else {
                    self.counters.dropped_bus_master += 1; // H16
                }
            }
        }
        self.show_pending();
        effects
    }
}
