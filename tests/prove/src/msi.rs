//! The rules for one vector of MSI, and for one event: written from A14 to A16, for every number of
//! vectors from 1 to 32 and each of the four shapes.

use crate::any::{self, assume};
use crate::case::Ask;
use crate::case::inputs::switched;
use crate::engine::{COUNTED, MSI_LOG};
use crate::rule::{Registers, Step, Switches, Told, case};
use crate::sink::Kinds;
use msix_core::policy::{
    BusMasterOff, LiveRewrite, MessageEnable, Policy, UnclaimedPending, WhileDisabled,
};
use msix_core::prove::MsiState;
use msix_core::{Counters, Delivery, DropReason, Message, MsiCapability};

/// MSI as a whole, and the two that are looked at: the vector `v`, and an event. Of all others the rules
/// below say nothing, so what they become stays open.
#[derive(Debug, Clone, Copy)]
pub struct MsiCase {
    pub policy: Policy,
    pub shape: MsiCapability,
    /// Its address has 64 bits.
    pub wide: bool,
    /// It has mask and pending registers.
    pub masks: bool,
    pub state: MsiState,
    /// A vector that the function is capable of.
    pub v: u16,
    /// The number of an event, of these too.
    pub event: u16,
    /// The counters, where the input is about this event alone.
    pub counters: Counters,
}

/// Returns bit `k` of a set.
pub fn bit(set: u32, k: u16) -> bool {
    set >> (k & 31) & 1 != 0
}

fn put(set: &mut u32, k: u16, is: bool) {
    *set = *set & !(1 << (k & 31)) | u32::from(is) << (k & 31);
}

impl MsiCase {
    /// Makes MSI in any state, of any shape.
    pub fn any(policy: Policy) -> Option<Self> {
        let control = any::u16();
        assume(control >> 1 & 7 <= MSI_LOG);
        let shape = MsiCapability::from_control(control).ok()?;
        let (wide, masks) = (control & 0x80 != 0, control & 0x100 != 0);
        // Of few vectors, so that all that is not there is plainly 0.
        let set = || any::u32() & if COUNTED { 0xf } else { u32::MAX };
        let state = MsiState {
            enabled: any::bool(),
            overridden: any::bool(),
            loading: any::bool(),
            attached: any::bool(),
            bus_master: any::bool(),
            multiple: any::u16() as u8,
            next: any::u16() as u8,
            address: any::u64(),
            data: any::u16(),
            masked: set(),
            events: set(),
            live: set(),
            fallback: set(),
            stale: set(),
        };
        let (v, event) = (any::u16(), any::u16());
        assume(v < shape.vectors() && event < shape.vectors());
        let counters = any::counters();
        Some(Self { policy, shape, wide, masks, state, v, event, counters })
    }

    /// Returns the vectors that the function is capable of, as a set.
    pub fn all(&self) -> u32 {
        u32::MAX >> ((32 - self.shape.vectors()) & 31)
    }

    /// Returns the number of vectors allocated (A15).
    pub fn allocated(&self) -> u16 {
        (1 << (self.state.multiple & 7)).min(self.shape.vectors())
    }

    /// Returns the vector that an event is sent as: the low bits of its number (A15).
    pub fn sent_as(&self, event: u16) -> u16 {
        event & (self.allocated() - 1)
    }

    /// Returns the events that are sent as `v`.
    pub fn waiting(&self, v: u16) -> u32 {
        let mut waiting = 0;
        for event in 0..32 {
            if self.sent_as(event) == v && bit(self.state.events, event) {
                waiting |= 1 << event;
            }
        }
        waiting
    }

    pub fn message(&self, v: u16) -> Message {
        let low = self.allocated() - 1;
        let data = self.state.data & !low | v & low;
        Message { address: self.state.address, data: data.into() }
    }

    /// Returns whether MSI is enabled, and MSI-X does not take its place (H18).
    fn in_force(&self) -> bool {
        self.state.enabled && !self.state.overridden
    }

    fn told(&self) -> Told<bool> {
        let MsiState { live, fallback, stale, .. } = self.state;
        Told { live: bit(live, self.v), fallback: bit(fallback, self.v), stale: bit(stale, self.v) }
    }

    /// Returns the step of `v`: a vector that is not allocated sends nothing, and there are no claims.
    fn step(&self, complete: bool) -> Step<bool> {
        let masked = bit(self.state.masked, self.v) || self.v >= self.allocated();
        let pending = self.waiting(self.v) != 0;
        let registers = Registers { masked, exempt: false, pending, claimed: true };
        let gated = self.policy.bus_master_off == BusMasterOff::Latch && !self.state.bus_master;
        let switches = Switches {
            open: self.in_force() && !gated, // H16
            function_masked: false,
            loading: self.state.loading,
            attached: self.state.attached,
            bus_master: self.state.bus_master,
            lossy: self.policy.unclaimed_pending == UnclaimedPending::Lose,
        };
        case(self.told(), registers, switches, complete)
    }

    /// Returns whether `v` satisfies the induction hypothesis (I1, I2, and what holds of every vector).
    pub fn sound(&self) -> bool {
        let step = self.step(false);
        let Told { live, fallback, stale } = self.told();
        let told = !step.arm && !step.disarm;
        let sent = !step.send && !step.dropped;
        told && sent && (live || !fallback && !stale)
    }

    /// Returns whether the registers have only bits that a guest can write, and nothing is said of
    /// vectors that the function is not capable of.
    pub fn fits(&self) -> bool {
        let MsiState { multiple, next, address, masked, events, live, fallback, stale, .. } =
            self.state;
        let outside = (masked | events | live | fallback | stale) & !self.all();
        let address = address & 3 == 0 && (self.wide || address >> 32 == 0); // A14
        let masks = self.masks || masked == 0;
        multiple < 8 && next & 3 == 0 && address && masks && outside == 0
    }

    pub fn held(&self) -> bool {
        let Told { live, fallback, .. } = self.told();
        self.state.attached && (!live || fallback)
    }

    pub fn pollable(&self) -> bool {
        self.held() && (self.in_force() || self.policy.while_disabled == WhileDisabled::Latch)
    }

    /// Ends an input. Returns the effects that name `v`.
    pub fn settle(&mut self, ask: Ask) -> Kinds {
        let poll = Kinds::POLL.when(ask.poll && self.held());
        let step = self.step(ask.complete);
        let v = self.v;
        if step.disarm {
            put(&mut self.state.live, v, false);
        }
        put(&mut self.state.fallback, v, step.told.fallback);
        let drain = Kinds::DRAIN.when(ask.drain && self.held());
        put(&mut self.state.live, v, step.told.live);
        put(&mut self.state.stale, v, step.told.stale);
        if step.send || step.dropped {
            self.state.events &= !self.waiting(v); // A12: one message for all of them
        }
        poll | Kinds::DISARM.when(step.disarm)
            | drain
            | Kinds::ARM.when(step.arm)
            | Kinds::REROUTE.when(step.reroute)
            | Kinds::SEND.when(step.send)
    }
}

/// What inputs do.
impl MsiCase {
    /// A guest's write to the capability (A14).
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Kinds {
        let covers = |at: usize| at.checked_sub(offset).and_then(|index| bytes.get(index)).copied();
        let before = *self;
        if let Some(control) = covers(2) {
            self.state.enabled = control & 1 != 0;
            self.state.multiple = control >> 4 & 7;
            let most = self.shape.vectors().trailing_zeros() as u8;
            let capped = self.policy.message_enable == MessageEnable::Capped; // H26
            if capped && self.state.enabled && self.state.multiple > most {
                self.state.multiple = most;
            }
        }
        let data = self.data_at();
        let byte = |at: usize, old: u8| covers(at).unwrap_or(old);
        let mut address = self.state.address.to_le_bytes();
        for (at, old) in (4..data).zip(&mut address) {
            *old = byte(at, *old);
        }
        self.state.address = u64::from_le_bytes(address) & !3;
        let [low, high] = self.state.data.to_le_bytes();
        self.state.data = u16::from_le_bytes([byte(data, low), byte(data + 1, high)]);
        if self.masks {
            let mut masked = self.state.masked.to_le_bytes();
            for (at, old) in (data + 4..data + 8).zip(&mut masked) {
                *old = byte(at, *old);
            }
            self.state.masked = u32::from_le_bytes(masked) & self.all();
        }
        if before.told().live && self.message(self.v) != before.message(self.v) {
            put(&mut self.state.stale, self.v, true); // H4
        }
        let address = (4..data).all(|at| covers(at).is_some());
        let data = covers(data).is_some() || covers(data + 1).is_some();
        let fewer = before.allocated() != self.allocated() && before.state.stale == 0;
        let at_once = self.policy.live_rewrite == LiveRewrite::Ignore;
        let complete = address || data || fewer || at_once;
        self.switch(before.in_force(), complete)
    }

    /// Takes place for MSI-X, or gives it up (H18).
    pub fn set_overridden(&mut self, is: bool) -> Kinds {
        let was = self.in_force();
        self.state.overridden = is;
        self.switch(was, false)
    }

    fn switch(&mut self, was: bool, complete: bool) -> Kinds {
        let ask = switched(&self.policy, was, self.in_force());
        let off = was && !self.in_force();
        if off && self.policy.pending_on_disable == msix_core::policy::PendingOnDisable::Drop {
            self.state.events = 0; // H2
        }
        self.settle(Ask { complete, ..ask })
    }

    /// A read of `len` bytes at `offset` begins.
    pub fn poll(&self, offset: usize, len: usize) -> Kinds {
        let register = if self.wide { 20..24 } else { 16..20_usize };
        let covered = register.into_iter().any(|at| at >= offset && at - offset < len);
        Kinds::POLL.when(self.masks && covered && self.pollable())
    }

    /// Returns byte `at` of the capability as a guest reads it.
    pub fn byte(&self, at: usize) -> u8 {
        let mut pending = 0;
        for v in 0..32 {
            pending |= u32::from(self.waiting(v) != 0) << v;
        }
        if at < self.length() { self.image(at, pending) } else { 0xff }
    }

    fn data_at(&self) -> usize {
        if self.wide { 12 } else { 8 }
    }

    /// Returns the length of the capability.
    pub fn length(&self) -> usize {
        self.data_at() + if self.masks { 12 } else { 2 }
    }

    /// Returns byte `at` of the capability with these pending bits; 0 past its end.
    fn image(&self, at: usize, pending: u32) -> u8 {
        let (state, data) = (&self.state, self.data_at());
        let of = |bytes: &[u8], first: usize| bytes.get(at - first).copied().unwrap_or(0);
        match at {
            0 => 5,
            1 => state.next,
            2 => {
                let capable = (self.shape.vectors().trailing_zeros() as u8) << 1;
                u8::from(state.enabled) | capable | state.multiple << 4 | u8::from(self.wide) << 7
            }
            3 => self.masks.into(),
            _ if at >= self.length() => 0,
            4.. if at < data => of(&state.address.to_le_bytes(), 4),
            _ if at < data + 2 => of(&state.data.to_le_bytes(), data),
            _ if at < data + 4 => 0,
            _ if at < data + 8 => of(&state.masked.to_le_bytes(), data + 4),
            _ => of(&pending.to_le_bytes(), data + 8),
        }
    }

    /// Returns byte `at` of the 24 in a snapshot.
    pub fn saved(&self, at: usize) -> u8 {
        if at == 1 { 0 } else { self.image(at, 0) }
    }

    /// Loads registers and events. They come from QEMU's config space, or from a snapshot together with
    /// `events` (H15). `None` if a bit is not this function's that a guest cannot write.
    pub fn load(&self, image: &[u8; 24], events: Option<u32>) -> Option<Self> {
        let (mut new, data) = (*self, self.data_at());
        let dword = |at: usize| match image.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        };
        let high = if self.wide { dword(8) } else { 0 };
        let (masked, pending) =
            if self.masks { (dword(data + 4), dword(data + 8)) } else { (0, 0) };
        new.state.next = image[1]; // it is ignored
        new.state.enabled = image[2] & 1 != 0;
        new.state.multiple = image[2] >> 4 & 7;
        new.state.address = u64::from(high) << 32 | u64::from(dword(4) & !3);
        new.state.data = dword(data) as u16;
        new.state.masked = masked & self.all();
        let mut own = true;
        for (at, byte) in image.iter().enumerate() {
            let pending = if events.is_none() { pending & self.all() } else { 0 };
            own &= *byte == new.image(at, pending);
        }
        new.state.next = self.state.next;
        new.state.events = events.unwrap_or(pending);
        put(&mut new.state.stale, self.v, false);
        new.state.loading = true;
        (own && new.state.events & !self.all() == 0).then_some(new)
    }

    /// Takes an event with the number of `event`, which is sent as `v`.
    pub fn notify(&mut self) -> (Delivery, Kinds) {
        let one = |total: &mut u64| *total = total.wrapping_add(1);
        let was = self.state.events;
        put(&mut self.state.events, self.event, true);
        let step = self.step(false);
        self.state.events = was;
        let off = !self.in_force();
        if step.send {
            one(&mut self.counters.sent);
            (Delivery::Sent, Kinds::SEND)
        } else if step.dropped {
            one(&mut self.counters.dropped_bus_master); // H16
            (Delivery::Dropped(DropReason::BusMaster), Kinds::NONE)
        } else if off && self.policy.while_disabled == WhileDisabled::Drop {
            one(&mut self.counters.dropped_disabled); // H3
            (Delivery::Dropped(DropReason::Disabled), Kinds::NONE)
        } else if off && self.policy.while_disabled == WhileDisabled::Intx {
            one(&mut self.counters.to_intx);
            (Delivery::Intx, Kinds::NONE)
        } else if bit(was, self.event) {
            one(&mut self.counters.coalesced); // A12
            (Delivery::Coalesced, Kinds::NONE)
        } else {
            put(&mut self.state.events, self.event, true);
            (Delivery::Pending, Kinds::NONE)
        }
    }

    /// Withdraws the event (A8). Returns whether it was pending.
    pub fn withdraw(&mut self) -> bool {
        let was = bit(self.state.events, self.event);
        put(&mut self.state.events, self.event, false);
        self.counters.withdrawn = self.counters.withdrawn.wrapping_add(u64::from(was));
        was
    }

    pub fn attach(&mut self) -> Kinds {
        self.state.attached = true;
        self.settle(Ask::NOTHING)
    }

    pub fn detach(&mut self) -> Kinds {
        let poll = Kinds::POLL.when(self.policy.poll_before_disable && self.pollable()); // H13
        self.state.attached = false;
        poll | self.settle(Ask::NOTHING)
    }

    pub fn set_bus_master(&mut self, on: bool) -> Kinds {
        self.state.bus_master = on;
        self.settle(Ask::NOTHING)
    }

    /// Those of `held` that the function is capable of become events.
    pub fn report_held(&mut self, held: u32) -> Kinds {
        self.state.events |= held & self.all();
        self.settle(Ask::NOTHING)
    }

    pub fn report_failed(&mut self, failed: u32) {
        if self.told().live && bit(failed, self.v) {
            put(&mut self.state.fallback, self.v, true); // H11
        }
    }

    pub fn reset(&mut self) -> Kinds {
        let MsiState { attached, next, live, fallback, stale, .. } = self.state;
        self.state = MsiState { attached, next, live, fallback, stale, ..NEW };
        self.settle(Ask { drain: self.policy.drain, ..Ask::NOTHING }) // H8
    }

    /// As for MSI-X.
    pub fn resume(&mut self) -> Kinds {
        let disarm = Kinds::DISARM.when(self.told().live);
        for set in [&mut self.state.live, &mut self.state.fallback, &mut self.state.stale] {
            put(set, self.v, false);
        }
        self.state.loading = false;
        disarm | self.settle(Ask::NOTHING)
    }
}

/// MSI after its making, with bus master off as in a new function (A13).
pub const NEW: MsiState = MsiState {
    enabled: false,
    overridden: false,
    loading: false,
    attached: false,
    bus_master: false,
    multiple: 0,
    next: 0,
    address: 0,
    data: 0,
    masked: 0,
    events: 0,
    live: 0,
    fallback: 0,
    stale: 0,
};
