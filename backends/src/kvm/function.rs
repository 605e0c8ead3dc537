//! A PCI function's MSI-X on KVM, shared by the threads of a VMM.

use super::host::{KvmHost, Platform};
use super::line::{Fired, Line};
use super::message::Format;
use super::physical::Physical;
use super::routes::{Routes, Waiter};
use crate::carry_out;
use crate::eventfd::Source;
use msix_core::{
    Access, Boxed, Delivery, Effects, Layout, LoadError, MAX_EFFECTS, Message, Msix, NewError,
    NotCarriedOut, Policy, Vector, VectorError, Vectors,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

type Fx = Effects<MAX_EFFECTS>;

/// The engine, KVM under it, and a lock around both. `Send`, `Sync` and cheap to clone: processors
/// write registers, devices fire, a migration thread saves.
///
/// [`notify`](Self::notify) takes no lock while KVM owns the vector: it writes the eventfd. Everything
/// else takes the function's lock, and while it holds that, for the time of a look or a commit, the
/// lock of the [`Routes`]. Neither is held when a [`Source`] or another function is called.
///
/// Inputs have the engine's names and meanings; their effects are carried out when they return.
pub struct Function<P: Platform> {
    shared: Arc<Shared<P>>,
}

impl<P: Platform> Clone for Function<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<P: Platform> {
    lines: Arc<[Line]>,
    inner: Mutex<Inner<P>>,
}

struct Inner<P: Platform> {
    msix: Msix<Boxed>,
    fx: Box<Fx>,
    host: KvmHost<P>,
}

impl<P: Platform + 'static> Function<P> {
    /// A function in its reset state, with the backend attached. GSIs, routes and eventfds are made
    /// when the guest first unmasks a vector.
    ///
    /// # Errors
    /// [`NewError`], for a layout that no boxed engine takes: none, for layouts are checked.
    pub fn new(
        routes: &Arc<Routes>,
        layout: Layout,
        policy: Policy,
        format: Format,
        platform: P,
    ) -> Result<Self, NewError> {
        Self::on(KvmHost::new(routes, layout.vectors(), format, platform), routes, layout, policy)
    }

    /// As [`new`](Self::new), with a real device behind it, whose interrupts the guest gets through
    /// this table. [`notify`](Self::notify) is not for these: the device writes the eventfds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn passed_through(
        routes: &Arc<Routes>,
        layout: Layout,
        policy: Policy,
        format: Format,
        platform: P,
        device: Box<dyn Physical>,
    ) -> Result<Self, NewError> {
        let host = KvmHost::new(routes, layout.vectors(), format, platform);
        Self::on(host.with_physical(device), routes, layout, policy)
    }

    /// As [`new`](Self::new), for a device whose eventfds somebody else makes: each is given to
    /// [`connect`](Self::connect) when it is there, which may be before or after the guest unmasks the
    /// vector, or never.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn connected(
        routes: &Arc<Routes>,
        layout: Layout,
        policy: Policy,
        format: Format,
        platform: P,
    ) -> Result<Self, NewError> {
        let host = KvmHost::new(routes, layout.vectors(), format, platform);
        Self::on(host.with_connected_eventfds(), routes, layout, policy)
    }

    fn on(
        mut host: KvmHost<P>,
        routes: &Arc<Routes>,
        layout: Layout,
        policy: Policy,
    ) -> Result<Self, NewError> {
        let mut msix = Msix::boxed(layout, policy);
        let mut fx = Box::new(Fx::new());
        let lines = Arc::clone(&host.lines);
        always(msix.attach(&mut *fx));
        carry_out(&mut msix, &mut fx, &mut host);
        let shared = Arc::new(Shared { lines, inner: Mutex::new(Inner { msix, fx, host }) });
        let weak = Arc::downgrade(&shared);
        shared.lock().host.join(Weak::clone(&weak) as Weak<dyn Source>);
        routes.join(weak);
        Ok(Self { shared })
    }
}

impl<P: Platform> Function<P> {
    /// The eventfd of `vector`, for a device that is not the caller of [`notify`](Self::notify): a
    /// vhost worker, another process. Whatever is written to it reaches the guest, or its pending bit.
    ///
    /// # Errors
    /// Of `eventfd2`; `InvalidInput` past the table.
    pub fn eventfd(&self, vector: Vector) -> io::Result<Arc<EventFd>> {
        self.shared.lock().host.eventfd(vector)
    }

    /// Connects `vector` to an eventfd that somebody else made and writes, at any time and for good
    /// (E5, E8). What it holds already is an event. See [`eventfd::import`](crate::eventfd::import) for
    /// one that another process sent.
    ///
    /// # Errors
    /// `InvalidInput` past the table; `AlreadyExists` when the vector has an eventfd. `eventfd` is then
    /// closed.
    pub fn connect(&self, vector: Vector, eventfd: EventFd) -> io::Result<()> {
        let mut inner = self.shared.lock();
        for failed in inner.host.connect(vector, eventfd)? {
            inner.msix.report_failed(Vectors::one(failed));
        }
        Ok(())
    }

    /// The device has an event (A7). Without a lock while KVM owns the vector; then the answer is
    /// [`Delivery::Sent`].
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn notify(&self, vector: Vector) -> Result<Delivery, VectorError> {
        let line = self.shared.lines.get(usize::from(vector.index()));
        match line.map_or(Fired::Tell, Line::fire) {
            Fired::Taken => Ok(Delivery::Sent),
            Fired::Collect => {
                self.shared.lock().collect(vector);
                Ok(Delivery::Sent)
            }
            Fired::Tell => self.shared.input(|msix, fx| msix.notify(vector, fx)),
        }
    }

    /// See [`Msix::withdraw`]. Nothing can be withdrawn from KVM.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn withdraw(&self, vector: Vector) -> Result<bool, VectorError> {
        self.shared.input(|msix, fx| msix.withdraw(vector, fx))
    }

    /// See [`Msix::claim`].
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::TooManyClaims`].
    pub fn claim(&self, vector: Vector) -> Result<(), VectorError> {
        let mut inner = self.shared.lock();
        let used = inner.input(|msix, fx| msix.claim(vector, fx));
        inner.tell_use(vector);
        used
    }

    /// See [`Msix::unclaim`].
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn unclaim(&self, vector: Vector) -> Result<(), VectorError> {
        let mut inner = self.shared.lock();
        let unused = inner.input(|msix, fx| msix.unclaim(vector, fx));
        inner.tell_use(vector);
        unused
    }

    /// See [`Msix::unclaim_all`].
    pub fn unclaim_all(&self) {
        let mut inner = self.shared.lock();
        always(inner.input(|msix, fx| msix.unclaim_all(fx)));
        inner.tell_uses();
    }

    /// See [`Msix::read_config`].
    pub fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        self.shared.lock().msix.read_config(offset, bytes);
    }

    /// See [`Msix::write_config`].
    pub fn write_config(&self, offset: usize, bytes: &[u8]) {
        always(self.shared.input(|msix, fx| msix.write_config(offset, bytes, fx)));
    }

    /// See [`Msix::read_table`].
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        self.shared.lock().msix.read_table(offset, bytes)
    }

    /// See [`Msix::write_table`].
    pub fn write_table(&self, offset: u64, bytes: &[u8]) -> Access {
        let written = self.shared.input(|msix, fx| msix.write_table(offset, bytes, fx));
        written.unwrap_or(Access::Unsupported)
    }

    /// See [`Msix::poll_pba`] and [`Msix::read_pba`]: what the eventfds of masked vectors hold is in
    /// the answer (C35).
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let mut inner = self.shared.lock();
        always(inner.input(|msix, fx| msix.poll_pba(offset, bytes.len(), fx)));
        inner.msix.read_pba(offset, bytes)
    }

    /// See [`Msix::write_pba`].
    pub fn write_pba(&self, offset: u64, bytes: &[u8]) -> Access {
        self.shared.lock().msix.write_pba(offset, bytes)
    }

    /// See [`Msix::set_mask`].
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn set_mask(&self, vector: Vector, masked: bool) -> Result<(), VectorError> {
        self.shared.input(|msix, fx| msix.set_mask(vector, masked, fx))
    }

    /// See [`Msix::set_message`].
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn set_message(&self, vector: Vector, message: Message) -> Result<(), VectorError> {
        self.shared.input(|msix, fx| msix.set_message(vector, message, fx))
    }

    /// See [`Msix::set_bus_master`].
    pub fn set_bus_master(&self, on: bool) {
        always(self.shared.input(|msix, fx| msix.set_bus_master(on, fx)));
    }

    /// See [`Msix::reset`].
    pub fn reset(&self) {
        let mut inner = self.shared.lock();
        always(inner.input(|msix, fx| msix.reset(fx)));
        inner.tell_uses();
    }

    /// See [`Msix::detach`]. Then gives all GSIs back; the eventfds stay, for others may write them.
    pub fn detach(&self) {
        let mut inner = self.shared.lock();
        always(inner.input(|msix, fx| msix.detach(fx)));
        inner.host.give_back();
    }

    /// See [`Msix::attach`].
    pub fn attach(&self) {
        always(self.shared.input(|msix, fx| msix.attach(fx)));
    }

    /// A snapshot ([`Msix::save`]), events that were still in eventfds included (C42).
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut inner = self.shared.lock();
        inner.input(|msix, fx| always(msix.prepare_save(fx)));
        let mut bytes = vec![0; inner.msix.saved_len()];
        let saved = inner.msix.save(&mut bytes);
        debug_assert_eq!(saved, Ok(bytes.len()));
        bytes
    }

    /// See [`Msix::load`]: nothing happens before [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`LoadError`]; the function is then as it was.
    pub fn load(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let mut inner = self.shared.lock();
        let loaded = inner.msix.load(bytes);
        inner.tell_uses();
        loaded
    }

    /// See [`Msix::resume`]: routes in one commit, then irqfds, then what is pending.
    pub fn resume(&self) {
        always(self.shared.input(|msix, fx| msix.resume(fx)));
    }

    /// Commits and arms what waits, of this function. See [`Routes::flush`].
    pub fn flush(&self) {
        Waiter::flush(&*self.shared);
    }

    /// Looks at the engine, under the lock.
    pub fn inspect<T>(&self, look: impl FnOnce(&Msix<Boxed>) -> T) -> T {
        look(&self.shared.lock().msix)
    }

    /// The VMM's own part, under the lock.
    pub fn platform<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        look(&mut self.shared.lock().host.platform)
    }
}

impl<P: Platform> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        // A panic can only come from the platform, between two effects: what is left of the list is
        // carried out by the next input.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input<T>(&self, input: impl FnOnce(&mut Msix<Boxed>, &mut Fx) -> T) -> T {
        self.lock().input(input)
    }
}

impl<P: Platform> Inner<P> {
    /// Claims may have changed.
    fn tell_uses(&self) {
        (0..self.msix.vectors()).for_each(|vector| self.tell_use(Vector::new(vector)));
    }

    /// An event was written to the eventfd of a vector that KVM does not own any more.
    fn collect(&mut self, vector: Vector) {
        if self.host.take(vector) {
            // The vector exists: it had an eventfd.
            let _ = self.input(|msix, fx| msix.notify(vector, fx));
        }
    }

    /// The use count of `vector` may have changed.
    fn tell_use(&self, vector: Vector) {
        if let Some(line) = self.host.lines.get(usize::from(vector.index())) {
            line.gate.set_used(self.msix.claims(vector).is_some_and(|uses| uses > 0));
        }
    }

    fn input<T>(&mut self, input: impl FnOnce(&mut Msix<Boxed>, &mut Fx) -> T) -> T {
        carry_out(&mut self.msix, &mut self.fx, &mut self.host); // what a panic left
        let answer = input(&mut self.msix, &mut self.fx);
        carry_out(&mut self.msix, &mut self.fx, &mut self.host);
        self.host.set_enabled(self.msix.is_enabled());
        answer
    }
}

impl<P: Platform> Source for Shared<P> {
    fn readable(&self, vector: Vector) {
        let mut inner = self.lock();
        if inner.host.is_watched(vector) {
            inner.collect(vector);
        }
    }
}

impl<P: Platform> Waiter for Shared<P> {
    fn flush(&self) {
        let mut inner = self.lock();
        for vector in inner.host.flush() {
            inner.msix.report_failed(Vectors::one(vector));
        }
    }
}

impl<P: Platform> fmt::Debug for Function<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("vectors", &self.shared.lines.len())
            .finish_non_exhaustive()
    }
}

/// An input refuses only a list that was not carried out, and this one always is.
pub(super) fn always(input: Result<(), NotCarriedOut>) {
    debug_assert_eq!(input, Ok(()));
}
