//! The whole interrupt side of a PCI function on KVM: MSI-X, MSI and INTx, and the switching between
//! them.

mod inner;

use super::function::always;
use super::host::KvmHost;
use super::intx::{Resampling, Wire};
use super::message::Format;
use super::physical::{Physical, PhysicalLine, PhysicalMsi};
use super::routes::{Routes, Waiter};
use crate::eventfd::Source;
use inner::{Bus, Ear, Inner};
use msix_core::{
    Access, Boxed, Delivery, Function, FunctionEffects, Intx, IntxSource, Layout, LoadError,
    MAX_FUNCTION_EFFECTS, Mode, MsiCapability, Policy, Vector, VectorError,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

type Fx = FunctionEffects<MAX_FUNCTION_EFFECTS>;

/// What a function needs of the VMM around it. Called with the function's lock held.
pub trait PciPlatform: Send {
    /// A message whose address is no interrupt's: the device writes `data` to guest memory (K11).
    fn write_memory(&mut self, address: u64, data: u32);
    /// The level of the function's pin at the guest's interrupt controller, unless KVM drives it.
    fn set_line(&mut self, asserted: bool);
    /// Whether the guest may reach the function's BARs without the VMM. While they are not mapped,
    /// every access comes to the VMM, which tells by [`PciFunction::bar_accessed`].
    fn set_mappings(&mut self, mapped: bool);
    /// The function is reset: the device's Command register is to become 0, and the device to be
    /// reset if it can be. Nothing is bound to it now.
    fn reset_device(&mut self);
}

/// Which parts a function has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// The MSI capability.
    pub msi: Option<MsiCapability>,
    /// MSI-X, with its table and PBA.
    pub msix: Option<Layout>,
    /// An interrupt pin.
    pub pin: bool,
}

/// A real device behind a function.
pub struct PassedThrough {
    /// Its MSI-X.
    pub msix: Option<Box<dyn Physical>>,
    /// Its MSI.
    pub msi: Option<Box<dyn PhysicalMsi>>,
    /// Its INTx.
    pub line: Option<Box<dyn PhysicalLine>>,
    /// The VM and the GSI of the guest's pin, where its interrupt controller is KVM's own: the line
    /// then goes from device to guest and back without the VMM. `None` with a split irqchip (K12).
    pub resampled: Option<(Box<dyn Resampling>, u32)>,
    /// How long BARs stay unmapped after an interrupt that userspace brought to the guest.
    pub quiet: Duration,
}

/// Why there is no function.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// The engine refused a layout.
    #[error(transparent)]
    Engine(#[from] msix_core::NewError),
    /// No eventfd is to be had.
    #[error("an eventfd: {0}")]
    Eventfd(#[from] io::Error),
}

/// A PCI function with all ways to interrupt, behind a lock. `Send`, `Sync` and cheap to clone.
///
/// The inputs are those of [`msix_core::Function`]; their effects are carried out when they return. A
/// passed-through device's own interrupt indices follow the guest's mode, one at a time (D2).
pub struct PciFunction<P: PciPlatform> {
    shared: Arc<Shared<P>>,
}

impl<P: PciPlatform> Clone for PciFunction<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<P: PciPlatform> {
    inner: Mutex<Inner<P>>,
}

impl<P: PciPlatform + 'static> PciFunction<P> {
    /// A function in its reset state, with the backend attached; `device` stands behind it, or it is
    /// emulated.
    ///
    /// # Errors
    /// [`PciError`].
    pub fn new(
        routes: &Arc<Routes>,
        parts: Parts,
        policy: Policy,
        format: Format,
        platform: P,
        device: Option<PassedThrough>,
    ) -> Result<Self, PciError> {
        let is_real = device.is_some();
        let source = if is_real { IntxSource::Physical } else { IntxSource::Emulated };
        let vectors = parts.msix.map_or(1, |layout| layout.vectors());
        let pin = parts.pin.then_some(source);
        let parts = msix_core::Parts { msi: parts.msi, msix: parts.msix, pin };
        let engine = Function::boxed(parts, policy);
        let platform = Arc::new(Mutex::new(platform));
        let host = |vectors| KvmHost::new(routes, vectors, format, Bus(Arc::clone(&platform)));
        let (mut msix, msi) = (host(vectors), host(32));
        let (mut device_msi, mut wire, mut quiet) = (None, None, Duration::ZERO);
        if let Some(device) = device {
            if let Some(physical) = device.msix {
                msix = msix.with_physical(physical);
            }
            device_msi = device.msi;
            let wired = device.line.map(|line| Wire::new(routes, line, device.resampled));
            wire = wired.transpose()?;
            quiet = device.quiet;
        }
        let inner = Inner {
            engine,
            fx: Box::new(Fx::new()),
            msix,
            msi,
            device_msi,
            wire,
            platform,
            mode: Mode::None,
            msi_vectors: 0,
            quiet,
            unmapped: None,
            uses_all: is_real,
            ears: Vec::new(),
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner) });
        shared.join(&Arc::downgrade(&shared));
        routes.join(Arc::downgrade(&shared) as Weak<dyn Waiter>);
        let mut inner = shared.lock();
        inner.use_all();
        inner.input(|engine, fx| always(engine.attach(fx)));
        drop(inner);
        Ok(Self { shared })
    }
}

impl<P: PciPlatform> PciFunction<P> {
    /// See [`Function::write_msi`].
    pub fn write_msi(&self, offset: usize, bytes: &[u8]) {
        self.shared.input(|engine, fx| always(engine.write_msi(offset, bytes, fx)));
    }

    /// See [`Msi::read_config`], with what eventfds hold; all ones without MSI.
    pub fn read_msi(&self, offset: usize, bytes: &mut [u8]) {
        let mut inner = self.shared.lock();
        inner.input(|engine, fx| always(engine.poll_msi(offset, bytes.len(), fx)));
        inner.engine.read_msi(offset, bytes);
    }

    /// See [`Function::write_msix`].
    pub fn write_msix(&self, offset: usize, bytes: &[u8]) {
        self.shared.input(|engine, fx| always(engine.write_msix(offset, bytes, fx)));
    }

    /// See [`Msix::read_config`]; all ones without MSI-X.
    pub fn read_msix(&self, offset: usize, bytes: &mut [u8]) {
        match self.shared.lock().engine.msix() {
            Some(msix) => msix.read_config(offset, bytes),
            None => bytes.fill(0xff),
        }
    }

    /// See [`Function::write_command`].
    pub fn write_command(&self, offset: usize, bytes: &[u8]) {
        self.shared.input(|engine, fx| always(engine.write_command(offset, bytes, fx)));
    }

    /// The bits of Command and of Status that are kept here ([`Function::command`],
    /// [`Function::status`]).
    #[must_use]
    pub fn command_and_status(&self) -> (u16, u16) {
        let inner = self.shared.lock();
        (inner.engine.command(), inner.engine.status())
    }

    /// See [`Function::write_table`].
    pub fn write_table(&self, offset: u64, bytes: &[u8]) -> Access {
        let written = self.shared.input(|engine, fx| engine.write_table(offset, bytes, fx));
        written.unwrap_or(Access::Unsupported)
    }

    /// See [`Msix::read_table`]; out of range without MSI-X.
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let inner = self.shared.lock();
        inner.engine.msix().map_or(Access::OutOfRange, |msix| msix.read_table(offset, bytes))
    }

    /// See [`Msix::read_pba`], with what eventfds hold; out of range without MSI-X.
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let mut inner = self.shared.lock();
        inner.input(|engine, fx| always(engine.poll_pba(offset, bytes.len(), fx)));
        inner.engine.msix().map_or(Access::OutOfRange, |msix| msix.read_pba(offset, bytes))
    }

    /// An emulated device has an event ([`Function::notify`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn notify(&self, vector: Vector) -> Result<Delivery, VectorError> {
        self.shared.input(|engine, fx| engine.notify(vector, fx))
    }

    /// An emulated device drives its pin ([`Function::set_level`]).
    pub fn set_level(&self, high: bool) {
        self.shared.input(|engine, fx| always(engine.set_level(high, fx)));
    }

    /// An emulated device uses a vector of MSI-X ([`Function::claim`]).
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn claim(&self, vector: Vector) -> Result<(), VectorError> {
        self.shared.input(|engine, fx| engine.claim(vector, fx))
    }

    /// The guest acknowledged the pin's interrupt, as an interrupt controller in userspace sees it.
    pub fn eoi(&self) {
        self.shared.input(|engine, fx| always(engine.eoi(fx)));
    }

    /// The guest accessed a BAR that is not mapped: where no EOI is to be had, this stands for it.
    pub fn bar_accessed(&self) {
        let mut inner = self.shared.lock();
        if inner.unmapped.is_some() {
            inner.input(|engine, fx| always(engine.eoi(fx)));
        }
    }

    /// The VMM's clock: BARs are mapped again after a quiet time. When to call again; `None` when they
    /// are mapped.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.shared.lock();
        let due = inner.unmapped? + inner.quiet;
        if now < due {
            return Some(due);
        }
        if inner.engine.intx().is_some_and(Intx::is_asserted) {
            return Some(now + inner.quiet); // the next access is still the guest's answer
        }
        inner.map(true);
        None
    }

    /// See [`Function::reset`]: releases everything, resets the device, arms INTx again. An emulated
    /// device says again which vectors of MSI-X it uses, where the policy forgets them.
    pub fn reset(&self) {
        let mut inner = self.shared.lock();
        inner.carry_out(false); // what a panic of the platform left
        let Inner { engine, fx, .. } = &mut *inner;
        always(engine.reset(&mut **fx));
        inner.leave();
        inner.carry_out(true);
        inner.enter();
        inner.map(true);
        inner.use_all();
    }

    /// See [`Function::detach`]. Then gives all GSIs back.
    pub fn detach(&self) {
        let mut inner = self.shared.lock();
        inner.input(|engine, fx| always(engine.detach(fx)));
        inner.msix.give_back();
        inner.msi.give_back();
    }

    /// See [`Function::attach`].
    pub fn attach(&self) {
        self.shared.input(|engine, fx| always(engine.attach(fx)));
    }

    /// A snapshot ([`Function::save`]), with the events that were still in eventfds.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut inner = self.shared.lock();
        inner.input(|engine, fx| always(engine.prepare_save(fx)));
        let mut bytes = vec![0; inner.engine.saved_len()];
        let saved = inner.engine.save(&mut bytes);
        debug_assert_eq!(saved, Ok(bytes.len()));
        bytes
    }

    /// See [`Function::load`]: nothing happens before [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`LoadError`]; the function is then as it was.
    pub fn load(&self, bytes: &[u8]) -> Result<(), LoadError> {
        self.shared.lock().engine.load(bytes)
    }

    /// See [`Function::resume`].
    pub fn resume(&self) {
        self.shared.input(|engine, fx| always(engine.resume(fx)));
    }

    /// Commits and arms what waits, of this function. See [`Routes::flush`].
    pub fn flush(&self) {
        Waiter::flush(&*self.shared);
    }

    /// Looks at the engine, under the lock.
    pub fn inspect<T>(&self, look: impl FnOnce(&Function<Boxed>) -> T) -> T {
        look(&self.shared.lock().engine)
    }

    /// The VMM's own part, under the lock.
    pub fn platform<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        let inner = self.shared.lock();
        let platform = Arc::clone(&inner.platform);
        let mut platform = lock(&platform);
        look(&mut platform)
    }
}

impl<P: PciPlatform> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        lock(&self.inner)
    }

    fn input<T>(&self, input: impl FnOnce(&mut Function<Boxed>, &mut Fx) -> T) -> T {
        self.lock().input(input)
    }
}

impl<P: PciPlatform + 'static> Shared<P> {
    /// Three sources for the loop, which knows vectors only.
    fn join(&self, weak: &Weak<Self>) {
        let mut inner = self.lock();
        for mode in [Mode::MsiX, Mode::Msi, Mode::Intx] {
            let ear: Arc<dyn Source> = Arc::new(Ear { shared: Weak::clone(weak), mode });
            let heard = Arc::downgrade(&ear);
            match (mode, &mut inner.wire) {
                (Mode::MsiX, _) => inner.msix.join(heard),
                (Mode::Msi, _) => inner.msi.join(heard),
                (_, Some(wire)) => wire.join(heard),
                _ => {}
            }
            inner.ears.push(ear);
        }
    }
}

impl<P: PciPlatform> fmt::Debug for PciFunction<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.shared.lock().engine.mode();
        f.debug_struct("PciFunction").field("mode", &mode).finish_non_exhaustive()
    }
}

impl fmt::Debug for PassedThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassedThrough").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic can only come from the platform, between two effects: what is left of the list is
    // carried out by the next input.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
