//! The naive model of MSI-X (feature `fuzz`): registers are bytes, every other fact is one value for each
//! vector, and after every input a loop over all vectors tells the host what changed.
//!
//! Written from the rules; it shares nothing with the engine but the types of its interface.

mod access;
mod inputs;
pub mod policies;
mod saved;
pub mod vector_effects;

pub use saved::sealed;

use access::{low, number};
use msix_core::operation::{Answer, Operation};
use msix_core::policy::{BusMasterOff, MessageAddress, UnclaimedPending};
use msix_core::{Access, Counters, Message, Policy, Vector, Vectors};
use policies::{Behaviour, vector_zero};
use vector_effects::VectorEffect;

/// The bits of the capability that a guest can write: Enable and Function Mask (A1).
const WRITABLE: [u8; 12] = [0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Enable in byte 3 of the capability (A1).
const ENABLE: u8 = 0x80;
/// Function Mask in byte 3 of the capability (A1).
const FUNCTION_MASK: u8 = 0x40;

/// A function with its table and PBA laid out as [`msix_core::Layout::exclusive_bar`] does in
/// BAR 0.
#[derive(Debug, Clone)]
pub struct Reference {
    policy: Policy,
    /// Messages of vector 0 are exempt from masks (H25).
    exempts: bool,
    /// The capability.
    config: [u8; 12],
    /// 16 bytes a vector, as the guest reads them.
    table: Vec<u8>,
    /// 8 bytes for every 64 vectors, as the guest reads them.
    pba: Vec<u8>,
    claims: Vec<u16>,
    /// Vectors that the host was asked to arm.
    live: Vec<bool>,
    /// Live vectors that the host could not serve (H11).
    fallback: Vec<bool>,
    /// Live vectors whose new message the host does not have yet (H4).
    stale: Vec<bool>,
    bus_master: bool,
    attached: bool,
    /// Between a load and its resume (H15).
    loading: bool,
    /// Enable, as INTx was told last (A10).
    intx_told: bool,
    counters: Counters,
}

/// What an input asks for besides telling the host what changed.
#[derive(Default)]
struct Ask {
    deassert: bool,
    poll: Vec<usize>,
    release_all: bool,
    drain: Vec<usize>,
    completed: Option<usize>,
    snoop: Vec<usize>,
    reevaluate: bool,
}

impl Reference {
    /// A function with `vectors` vectors (1 to 2048) after reset: A1, A3, A5, C01.
    #[must_use]
    pub fn new(vectors: u16, behaviour: impl Into<Behaviour>) -> Self {
        let Behaviour { policy, exempts } = behaviour.into();
        let n = usize::from(vectors);
        let size = (vectors - 1).to_le_bytes();
        let pba = if n <= 128 { 0x800 } else { 16 * u32::from(vectors) }.to_le_bytes(); // section G
        let mut model = Self {
            policy,
            exempts,
            config: [0x11, 0, size[0], size[1], 0, 0, 0, 0, pba[0], pba[1], pba[2], pba[3]],
            table: vec![0; 16 * n],
            pba: vec![0; 8 * n.div_ceil(64)],
            claims: vec![0; n],
            live: vec![false; n],
            fallback: vec![false; n],
            stale: vec![false; n],
            bus_master: true,
            attached: false,
            loading: false,
            intx_told: false,
            counters: Counters::default(),
        };
        model.reset_registers();
        model
    }

    /// Applies one input: returns its answer and its effects, in order.
    pub fn apply(&mut self, operation: &Operation) -> (Answer, Vec<VectorEffect>) {
        match *operation {
            Operation::WriteConfig { offset, len, value } => {
                (Answer::Nothing, self.write_config(usize::from(offset), &low(value, len)))
            }
            Operation::ReadConfig { offset, len } => {
                let byte = |at: usize| self.config.get(at).copied().unwrap_or(0xff);
                let first = usize::from(offset);
                let bytes = (first..first + usize::from(len.min(8))).map(byte).collect();
                (Answer::Read(Access::Done, number(bytes)), vec![])
            }
            Operation::WriteTable { offset, len, value } => {
                self.write_table(usize::from(offset), &low(value, len))
            }
            Operation::ReadTable { offset, len } => (self.read(&self.table, offset, len), vec![]),
            Operation::PollPba { offset, len } => {
                (Answer::Nothing, self.poll(self.covered_by(offset, len)))
            }
            Operation::ReadPba { offset, len } => (self.read(&self.pba, offset, len), vec![]),
            Operation::WritePba { offset, len } => match self.read(&self.pba, offset, len) {
                Answer::Read(Access::Done, _) => (Answer::Written(Access::ReadOnly), vec![]), // A5
                Answer::Read(ignored, _) => (Answer::Written(ignored), vec![]),
                _ => unreachable!("a read answers with what was read"),
            },
            Operation::UnclaimAll => (Answer::Nothing, self.unclaim_all()),
            Operation::Attach => {
                self.attached = true;
                (Answer::Nothing, self.settle(Ask::default()))
            }
            Operation::Detach => (Answer::Nothing, self.detach()),
            Operation::ReportFailed(set) => {
                self.report_failed(set);
                (Answer::Nothing, vec![])
            }
            Operation::ReportHeld(set) => (Answer::Nothing, self.report_held(set)),
            Operation::SetBusMaster(on) => {
                self.bus_master = on;
                (Answer::Nothing, self.settle(Ask::default()))
            }
            Operation::Reset => (Answer::Nothing, self.reset()),
            Operation::PrepareSave => (Answer::Nothing, self.poll(self.all())),
            Operation::SaveAndLoad | Operation::SaveAndLoadQemu => {
                self.loaded(); // the same registers: nothing else changes
                (Answer::Nothing, vec![])
            }
            Operation::Resume => (Answer::Nothing, self.resume()),
            Operation::Notify(v)
            | Operation::Withdraw(v)
            | Operation::Claim(v)
            | Operation::Unclaim(v)
            | Operation::SetMask(v, _)
            | Operation::SetMessage(v, _) => match self.slot(v) {
                Some(v) => self.apply_to(v, operation),
                None => (Answer::Nothing, vec![]), // G3: refused, nothing changes
            },
        }
    }

    /// Inputs about one vector of the table.
    fn apply_to(&mut self, v: usize, operation: &Operation) -> (Answer, Vec<VectorEffect>) {
        match *operation {
            Operation::Notify(_) => self.notify(v),
            Operation::Withdraw(_) => self.withdraw(v),
            Operation::Claim(_) => {
                // H9: checked, and refused at the end of the range.
                self.claims[v] = self.claims[v].saturating_add(1);
                (Answer::Nothing, self.settle(Ask::default()))
            }
            Operation::Unclaim(_) => (Answer::Nothing, self.unclaim(v)),
            Operation::SetMask(_, masked) => {
                self.table[16 * v + 12] = self.table[16 * v + 12] & !1 | u8::from(masked);
                (Answer::Nothing, self.settle(Ask::default()))
            }
            Operation::SetMessage(_, message) => (Answer::Nothing, self.set_message(v, message)),
            _ => unreachable!("not about one vector"),
        }
    }

    // What follows from the registers.

    /// How many vectors.
    #[must_use]
    pub fn vectors(&self) -> usize {
        self.claims.len()
    }

    /// Whether the mask bit of `v` or the Function Mask is set, and the message is not one that no
    /// mask holds back (A6, H25).
    #[must_use]
    pub fn masked(&self, v: usize) -> bool {
        let masked = self.table[16 * v + 12] & 1 != 0 || self.config[3] & FUNCTION_MASK != 0;
        let exempt = self.exempts && vector_zero(self.message(v));
        masked && !exempt
    }

    /// Whether a message of `v` would be sent now (A7, A10, A11, H16).
    #[must_use]
    pub fn deliverable(&self, v: usize) -> bool {
        let gated = self.policy.bus_master_off == BusMasterOff::Latch && !self.bus_master;
        self.enabled() && !gated && !self.loading && !self.masked(v)
    }

    /// The message of `v` (A3, H7).
    #[must_use]
    pub fn message(&self, v: usize) -> Message {
        let low = match self.policy.message_address {
            MessageAddress::Verbatim => self.dword(16 * v),
            MessageAddress::Aligned => self.dword(16 * v) / 4 * 4,
        };
        let high = self.dword(16 * v + 4);
        let address = u64::from(high) * 0x1_0000_0000 + u64::from(low);
        Message { address, data: self.dword(16 * v + 8) }
    }

    /// MSI-X Enable (A1).
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.config[3] & ENABLE != 0
    }

    /// Whether `v` is pending (A5).
    #[must_use]
    pub fn pending(&self, v: usize) -> bool {
        self.pba[v / 8] & (1 << (v % 8)) != 0
    }

    /// Returns how many claims `v` has.
    #[must_use]
    pub fn claims(&self, v: usize) -> u16 {
        self.claims[v]
    }

    /// Returns whether the host was asked to arm `v`.
    #[must_use]
    pub fn is_live(&self, v: usize) -> bool {
        self.live[v]
    }

    /// Whether `v` is live but the host could not serve it.
    #[must_use]
    pub fn is_fallback(&self, v: usize) -> bool {
        self.fallback[v]
    }

    /// Whether a backend listens.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether a resume is to come.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// The totals.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The capability.
    #[must_use]
    pub fn config(&self) -> [u8; 12] {
        self.config
    }

    fn all(&self) -> Vec<usize> {
        (0..self.vectors()).collect()
    }

    fn slot(&self, v: Vector) -> Option<usize> {
        let v = usize::from(v.index());
        (v < self.vectors()).then_some(v)
    }

    /// Those of `set` that are in the table.
    fn members(&self, set: Vectors) -> Vec<usize> {
        let first = 64 * usize::from(set.word());
        let member =
            |v: &usize| *v >= first && *v < first + 64 && set.bits() >> (v - first) & 1 != 0;
        self.all().into_iter().filter(member).collect()
    }

    fn set_pending(&mut self, v: usize, pending: bool) {
        self.pba[v / 8] = self.pba[v / 8] & !(1 << (v % 8)) | u8::from(pending) << (v % 8);
    }

    /// Clears the pending bit of `v`; how many events that were, 0 or 1.
    fn clear_pending(&mut self, v: usize) -> u64 {
        let was = self.pending(v);
        self.set_pending(v, false);
        u64::from(was)
    }

    fn dword(&self, at: usize) -> u32 {
        u32::from_le_bytes([
            self.table[at],
            self.table[at + 1],
            self.table[at + 2],
            self.table[at + 3],
        ])
    }

    /// Whether the host has events of `v`, if there are any: not delivered by it (K8, H11).
    fn held(&self, v: usize) -> bool {
        self.attached && (!self.live[v] || self.fallback[v])
    }

    /// Whether the host should be using `v`. A load tells the host nothing yet (H15).
    fn wanted(&self, v: usize) -> bool {
        self.attached && if self.loading { self.live[v] } else { self.deliverable(v) }
    }

    /// Tells the host all that changed and what the input asks for, in the order of the effects
    /// (I5), lowest vector first.
    fn settle(&mut self, ask: Ask) -> Vec<VectorEffect> {
        let mut effects = Vec::new();
        if ask.deassert {
            effects.push(VectorEffect::IntxDeassert);
        }
        for v in ask.poll {
            if self.held(v) {
                effects.push(VectorEffect::Poll(v as u16));
            }
        }
        for v in 0..self.vectors() {
            if self.live[v] && (ask.release_all || !self.wanted(v)) {
                self.live[v] = false;
                self.fallback[v] = false;
                self.counters.disarms += 1;
                effects.push(VectorEffect::Disarm(v as u16));
            }
        }
        for v in ask.drain {
            if self.held(v) {
                effects.push(VectorEffect::Drain(v as u16));
            }
        }
        for v in 0..self.vectors() {
            if !self.live[v] && self.wanted(v) {
                self.live[v] = true;
                self.stale[v] = false;
                self.counters.arms += 1;
                effects.push(VectorEffect::Arm(v as u16, self.message(v)));
            }
        }
        let news = |v: &usize| self.live[*v] && self.stale[*v] && !self.loading; // H4, H15
        if let Some(v) = ask.completed.filter(news) {
            self.stale[v] = false;
            self.counters.reroutes += 1;
            effects.push(VectorEffect::Reroute(v as u16, self.message(v)));
        }
        for v in ask.snoop {
            effects.push(VectorEffect::Snoop(v as u16));
        }
        for v in 0..self.vectors() {
            if self.pending(v) && self.deliverable(v) {
                self.send(v, &mut effects); // A7
            }
        }
        if ask.reevaluate {
            effects.push(VectorEffect::IntxReevaluate);
        }
        effects
    }

    /// Sends the message of a pending, deliverable vector, or loses it as the policy says.
    fn send(&mut self, v: usize, effects: &mut Vec<VectorEffect>) {
        if self.claims[v] > 0 && self.bus_master {
            self.counters.sent += self.clear_pending(v);
            effects.push(VectorEffect::Send(v as u16, self.message(v)));
        } else if self.claims[v] > 0 {
            self.counters.dropped_bus_master += self.clear_pending(v); // H16
        } else if self.policy.unclaimed_pending == UnclaimedPending::Lose {
            self.counters.dropped_unclaimed += self.clear_pending(v); // H9
        }
    }
}
