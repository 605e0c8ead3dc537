//! The MSI-X index of a passed-through device: carries out its plan.

use super::irqs::Irqs;
use super::plan::{IrqCall, IrqIndex, IrqPlan};
use crate::eventfd::borrow;
use crate::kvm::PhysicalMsix;
use msix_core::Vector;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// EINVAL, which the kernel returns for an index that is not enabled (D5).
const EINVAL: i32 = 22;
/// The factor by which the bound vectors grow when a vector behind them is unmasked.
const GROWTH: u32 = 8;

/// What the device does with the events of a vector that the guest has masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhileMasked {
    /// It still writes the vector's eventfd, which is not read before the guest asks for pending
    /// bits or unmasks: the event is a pending bit that the guest can see (K8). Masking takes no
    /// SET_IRQS, and vectors that the guest has not unmasked yet can be bound ahead: for vectors
    /// that come up one by one the number of calls is logarithmic.
    #[default]
    Eventfd,
    /// Its own pending bit holds them, and it sends them when the vector is bound again (D8). They
    /// are not in the emulated PBA: the VMM adds the bits that it reads from the device's PBA. Each
    /// mask and each unmask takes one SET_IRQS.
    Physical,
}

/// The MSI-X index of a passed-through device.
#[derive(Debug)]
pub struct DeviceMsix<I> {
    irqs: I,
    plan: IrqPlan,
    while_masked: WhileMasked,
    /// Live vectors; the other bound ones are bound ahead.
    live: BTreeSet<u32>,
    /// The eventfds of all vectors that were ever bound.
    eventfds: BTreeMap<u32, Arc<EventFd>>,
    /// The end of what is bound ahead: the host has no more vectors.
    most: u32,
    /// Whether the host had not even one more vector. Vectors that become live now are refused at
    /// once, the first time: where growth takes a disable, trying would disturb all that are bound
    /// (D6).
    full: bool,
    refused: BTreeSet<u32>,
}

impl<I: Irqs> DeviceMsix<I> {
    /// Takes an index that is idle. Without a [`kvm::Function`](crate::kvm::Function), the caller
    /// must disable INTx and MSI before the guest enables MSI-X (D2).
    pub const fn new(irqs: I, index: IrqIndex, while_masked: WhileMasked) -> Self {
        Self {
            irqs,
            plan: IrqPlan::new(index),
            while_masked,
            live: BTreeSet::new(),
            eventfds: BTreeMap::new(),
            most: index.count,
            full: false,
            refused: BTreeSet::new(),
        }
    }

    /// Brings the kernel to what is wanted.
    fn apply(&mut self) -> io::Result<()> {
        for call in self.plan.calls() {
            if let Err(error) = self.carry_out(&call) {
                self.plan.failed(&call);
                return Err(error);
            }
            self.plan.done(&call);
        }
        Ok(())
    }

    fn carry_out(&mut self, call: &IrqCall) -> io::Result<()> {
        match call {
            IrqCall::Disable => match self.irqs.disable() {
                Err(error) if error.raw_os_error() == Some(EINVAL) => Ok(()), // it was disabled
                disabled => disabled,
            },
            IrqCall::Unset { vectors } => self.irqs.unset(vectors.clone()),
            IrqCall::Set { start, bound } => {
                let eventfd = |(vector, bound): (u32, &bool)| {
                    self.eventfds.get(&vector).filter(|_| *bound).map(|eventfd| borrow(eventfd))
                };
                let eventfds: Vec<_> = (*start..).zip(bound).map(eventfd).collect();
                match self.irqs.set(*start, &eventfds)? {
                    0 => Ok(()),
                    available => {
                        self.most = self.most.min(available); // D3: nothing was bound
                        Err(io::ErrorKind::StorageFull.into())
                    }
                }
            }
        }
    }

    /// Forgets the limits: the host may have more vectors by now.
    fn forget_limits(&mut self) {
        self.most = self.plan.index().count;
        self.full = false;
        self.refused.clear();
    }

    /// Reduces what is wanted to the live vectors, with none bound ahead.
    fn want_live(&mut self) {
        self.want(|_, live| live);
    }

    /// Reduces what is wanted to the vectors for which `keep` returns `true`; its second argument
    /// says whether the vector is live.
    fn want(&mut self, keep: impl Fn(u32, bool) -> bool) {
        let wanted: Vec<u32> = self.plan.wanted().collect();
        for vector in wanted {
            self.plan.set_bound(vector, keep(vector, self.live.contains(&vector)));
        }
    }

    /// Returns the first vector behind the live ones.
    fn live_end(&self) -> u32 {
        self.live.last().map_or(0, |last| last + 1)
    }

    /// Returns the vectors to bind ahead when `vector` becomes live.
    fn ahead(&self, vector: u32) -> std::ops::Range<u32> {
        let end = self.plan.end();
        match self.while_masked {
            WhileMasked::Eventfd if vector >= end => {
                let grown = end.saturating_mul(GROWTH).max(vector + 1);
                // Where an end is known to be too far, go halfway to it.
                let known = self.most < self.plan.index().count;
                let most = if known { end.midpoint(self.most + 1) } else { self.most };
                end..grown.min(most).max(vector + 1)
            }
            _ => vector..vector + 1,
        }
    }
}

impl<I: Irqs> PhysicalMsix for DeviceMsix<I> {
    fn set_enabled(&mut self, enabled: bool) {
        self.plan.set_enabled(enabled);
        self.forget_limits();
        if !enabled {
            self.live.clear();
            self.want_live();
        }
        // A failure is repaired with the next change; nothing is live before.
        let _ = self.apply().or_else(|_| self.apply());
    }

    fn bind(
        &mut self,
        vectors: &[Vector],
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> Vec<Vector> {
        let mut failed = Vec::new();
        self.plan.set_enabled(true);
        for &vector in vectors {
            let number = u32::from(vector.index());
            if self.full && !self.plan.is_bound(number) && self.refused.insert(number) {
                failed.push(vector);
                continue;
            }
            for ahead in self.ahead(number) {
                let Ok(index) = u16::try_from(ahead) else { continue };
                let made = eventfd(Vector::new(index));
                if let (Ok(made), true) = (made, ahead < self.plan.index().count) {
                    self.eventfds.insert(ahead, made);
                    self.plan.set_bound(ahead, true);
                }
            }
            if self.plan.wants(number) {
                self.live.insert(number);
            } else {
                failed.push(vector);
            }
        }
        if self.apply().is_ok() {
            let number = |vector: &Vector| u32::from(vector.index());
            let again = |vector: &u32| self.refused.contains(vector) && self.plan.is_bound(*vector);
            if vectors.iter().map(number).any(|vector| again(&vector)) {
                self.forget_limits(); // the host has more by now
            }
            return failed;
        }
        // Tries with ever fewer bound ahead, then without the new vectors, then without any.
        while self.plan.end() > self.live_end() {
            self.most = self.most.min(self.plan.end() - 1);
            let (least, target) = (self.live_end(), self.plan.end().midpoint(self.live_end()));
            let keep = target.min(self.most).max(least);
            self.want(|vector, live| live || vector < keep);
            if self.apply().is_ok() {
                return failed;
            }
        }
        // The cause of an error may be gone by now.
        if self.apply().is_ok() {
            return failed;
        }
        self.full = true;
        failed = vectors.to_vec();
        vectors.iter().for_each(|vector| _ = self.live.remove(&vector.index().into()));
        self.want_live();
        if self.apply().is_err() {
            let lost = std::mem::take(&mut self.live);
            failed
                .extend(lost.into_iter().filter_map(|v| Some(Vector::new(u16::try_from(v).ok()?))));
            self.want_live();
            let _ = self.apply();
        }
        failed
    }

    fn unused(&mut self, vectors: &[Vector]) {
        for vector in vectors {
            let number = u32::from(vector.index());
            self.live.remove(&number);
            if self.while_masked == WhileMasked::Physical {
                self.plan.set_bound(number, false);
            }
        }
        let _ = self.apply().or_else(|_| self.apply());
    }
}
