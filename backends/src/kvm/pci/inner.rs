//! The effects of a whole function, carried out: KVM first or the device first, as the order wants.

use super::{Fx, PciPlatform, Shared, always, lock};
use crate::Route;
use crate::eventfd::Source;
use crate::host::{Done, Sets, one_kind};
use crate::kvm::host::{KvmHost, Platform};
use crate::kvm::intx::Wire;
use crate::kvm::physical::PhysicalMsi;
use crate::kvm::routes::Waiter;
use msix_core::{
    Boxed, Effect, Function, FunctionEffect, IntxEffect, Mode, Msi, Msix, Vector, Vectors,
};
use smallvec::smallvec;
use std::mem::discriminant;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// What is behind the lock.
pub(super) struct Inner<P: PciPlatform> {
    pub(super) engine: Function<Boxed>,
    pub(super) fx: Box<Fx>,
    pub(super) msix: KvmHost<Bus<P>>,
    pub(super) msi: KvmHost<Bus<P>>,
    pub(super) device_msi: Option<Box<dyn PhysicalMsi>>,
    pub(super) wire: Option<Wire>,
    pub(super) platform: Arc<Mutex<P>>,
    /// What the device's indices were last told.
    pub(super) mode: Mode,
    pub(super) msi_vectors: u16,
    pub(super) quiet: Duration,
    /// BARs are not mapped, since the last interrupt then.
    pub(super) unmapped: Option<Instant>,
    /// A real device uses all its vectors; an emulated one says which.
    pub(super) uses_all: bool,
    /// Held for the loop, which has weak ones.
    pub(super) ears: Vec<Arc<dyn Source>>,
}

/// The platform as both hosts have it.
pub(super) struct Bus<P>(pub(super) Arc<Mutex<P>>);

impl<P: PciPlatform> Platform for Bus<P> {
    fn write_memory(&mut self, address: u64, data: u32) {
        lock(&self.0).write_memory(address, data);
    }
    fn intx_deassert(&mut self) {}
    fn intx_reevaluate(&mut self) {}
    fn snoop(&mut self, _: Route) {}
}

impl<P: PciPlatform> Inner<P> {
    pub(super) fn input<T>(&mut self, input: impl FnOnce(&mut Function<Boxed>, &mut Fx) -> T) -> T {
        self.carry_out(false); // what a panic of the platform left
        let answer = input(&mut self.engine, &mut self.fx);
        self.leave();
        self.carry_out(false);
        self.enter();
        answer
    }

    pub(super) fn use_all(&mut self) {
        let vectors = self.engine.msix().filter(|_| self.uses_all).map_or(0, Msix::vectors);
        for vector in (0..vectors).map(Vector::new) {
            if self.engine.msix().and_then(|msix| msix.claims(vector)) == Some(0) {
                // Of the table, with no use so far.
                let _ = self.input(|engine, fx| engine.claim(vector, fx));
            }
        }
    }

    /// The guest left a mode: its index of the device is disabled first, for the next cannot be enabled
    /// beside it (D2). INTx is left by its Disarm.
    pub(super) fn leave(&mut self) {
        let mode = self.engine.mode();
        if self.mode == Mode::MsiX && mode != Mode::MsiX {
            self.msix.set_enabled(false);
        }
        let msi_vectors = self.msi_vectors();
        if self.msi_vectors != msi_vectors
            && self.msi_vectors > 0
            && let Some(device) = &mut self.device_msi
        {
            device.disable();
            self.msi_vectors = 0;
        }
        self.mode = mode;
    }

    /// The guest entered a mode, and what KVM does for it is done: the device may interrupt.
    pub(super) fn enter(&mut self) {
        if self.mode == Mode::MsiX {
            self.msix.set_enabled(true);
        }
        let vectors = self.msi_vectors();
        if vectors != self.msi_vectors
            && let Some(device) = &mut self.device_msi
        {
            let host = &mut self.msi;
            device.enable(vectors, &mut |vector| host.eventfd(vector));
            self.msi_vectors = vectors;
        }
    }

    /// The MSI vectors that the device should have enabled.
    fn msi_vectors(&self) -> u16 {
        match self.engine.mode() {
            Mode::Msi => self.engine.msi().map_or(0, Msi::allocated),
            _ => 0,
        }
    }

    /// Carries out the list; in a `reset` the device is reset once nothing of it is in use any more.
    pub(super) fn carry_out(&mut self, mut reset: bool) {
        let mut held = Vec::new();
        let mut next = self.fx.take();
        while let Some(effect) = next {
            let mut sets: Sets = smallvec![vectors(effect)];
            next = loop {
                match self.fx.take() {
                    Some(more) if is_like(more, effect) => sets.push(vectors(more)),
                    other => break other,
                }
            };
            if effect == FunctionEffect::Intx(IntxEffect::Arm) && std::mem::take(&mut reset) {
                lock(&self.platform).reset_device();
            }
            let (mode, done) = match effect {
                FunctionEffect::Intx(effect) => {
                    self.intx(effect);
                    continue;
                }
                FunctionEffect::MsiX(kind) => (Mode::MsiX, self.vectors(Mode::MsiX, kind, &sets)),
                FunctionEffect::Msi(kind) => (Mode::Msi, self.vectors(Mode::Msi, kind, &sets)),
            };
            for vector in done.failed {
                self.engine.report_failed(mode, Vectors::one(vector));
            }
            held.extend(done.held.into_iter().map(|set| (mode, set)));
        }
        if reset {
            lock(&self.platform).reset_device();
        }
        for (mode, set) in held {
            always(self.engine.report_held(mode, set, &mut *self.fx));
            self.carry_out(false); // an answer can only cause Send, so this ends
        }
    }

    fn vectors(&mut self, mode: Mode, kind: Effect, sets: &[Vectors]) -> Done {
        let (engine, host) = match mode {
            Mode::MsiX => (&self.engine, &mut self.msix),
            _ => (&self.engine, &mut self.msi),
        };
        one_kind(host, kind, sets, |vector| engine.message(mode, vector))
    }

    fn intx(&mut self, effect: IntxEffect) {
        match effect {
            IntxEffect::Arm => {
                if let Some(wire) = &mut self.wire
                    && !wire.arm()
                {
                    self.engine.report_failed(Mode::Intx, Vectors::new(0, 0));
                }
            }
            IntxEffect::Disarm => {
                if let Some(wire) = &mut self.wire {
                    wire.disarm();
                }
                self.map(true);
            }
            IntxEffect::Assert => {
                lock(&self.platform).set_line(true);
                if self.wire.is_some() {
                    self.map(false);
                }
            }
            IntxEffect::Deassert => lock(&self.platform).set_line(false),
            IntxEffect::Unmask => {
                if let Some(wire) = &mut self.wire {
                    wire.unmask();
                }
            }
        }
    }

    /// Lets the guest reach its BARs without the VMM, or not.
    pub(super) fn map(&mut self, mapped: bool) {
        let was = self.unmapped.is_none();
        self.unmapped = (!mapped).then(Instant::now);
        if was != mapped {
            lock(&self.platform).set_mappings(mapped);
        }
    }

    /// The loop saw something readable.
    fn readable(&mut self, mode: Mode, vector: Vector) {
        let host = match mode {
            Mode::MsiX => &mut self.msix,
            Mode::Msi => &mut self.msi,
            _ => {
                if self.wire.as_mut().is_some_and(Wire::take) {
                    self.input(|engine, fx| always(engine.report_fired(fx)));
                }
                return;
            }
        };
        if host.is_watched(vector) && host.take(vector) {
            let set = Vectors::one(vector);
            // Of this mode's vector, whatever the mode is by now: it becomes pending, or is sent.
            self.input(|engine, fx| always(engine.report_held(mode, set, fx)));
        }
    }
}

impl<P: PciPlatform> Drop for Inner<P> {
    fn drop(&mut self) {
        // MSI-X and the line look after themselves.
        if let Some(device) = self.device_msi.as_mut().filter(|_| self.msi_vectors > 0) {
            device.disable();
        }
    }
}

/// What the loop tells of one of the modes.
pub(super) struct Ear<P: PciPlatform> {
    pub(super) shared: Weak<Shared<P>>,
    pub(super) mode: Mode,
}

impl<P: PciPlatform> Source for Ear<P> {
    fn readable(&self, vector: Vector) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().readable(self.mode, vector);
        }
    }
}

impl<P: PciPlatform> Waiter for Shared<P> {
    fn flush(&self) {
        let mut inner = self.lock();
        for vector in inner.msix.flush() {
            inner.engine.report_failed(Mode::MsiX, Vectors::one(vector));
        }
        for vector in inner.msi.flush() {
            inner.engine.report_failed(Mode::Msi, Vectors::one(vector));
        }
    }
}

fn is_like(more: FunctionEffect, effect: FunctionEffect) -> bool {
    match (more, effect) {
        (FunctionEffect::MsiX(a), FunctionEffect::MsiX(b))
        | (FunctionEffect::Msi(a), FunctionEffect::Msi(b)) => discriminant(&a) == discriminant(&b),
        _ => false,
    }
}

const fn vectors(effect: FunctionEffect) -> Vectors {
    match effect {
        FunctionEffect::MsiX(effect) | FunctionEffect::Msi(effect) => effect.vectors(),
        FunctionEffect::Intx(_) => Vectors::new(0, 0),
    }
}
