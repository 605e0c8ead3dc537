//! The backend of an engine of MSI-X alone, for a VMM with its own locks.

use super::host::{Call, MessageMode, OfMode, VectorHost};
use super::message::Format;
use super::physical::PhysicalMsix;
use super::platform::{IntxPlatform, Platform};
use super::routes::Routes;
use super::setup::{EventfdOrigin, FunctionError};
use crate::eventfd::EventSource;
use crate::{Host, Route};
use msix_core::{Vector, Vectors};
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// The [`Host`] of an engine of MSI-X alone, for a VMM that has its own lock around its devices. The
/// methods call `platform` before they return, so under that lock: a [`Platform`] that dispatches on
/// the VMM's bus must put its calls off until the lock is gone. [`Function`](super::Function) does that
/// by itself.
///
/// ```no_run
/// use msix_backends::eventfd::Loop;
/// use msix_backends::kvm::{Format, Irqchip, IntxPlatform, KvmHost, Platform, RouteOptions, Routes};
/// use msix_backends::{Route, carry_out, kvm_ioctls::Kvm};
/// use msix_core::*;
///
/// struct Vmm;
/// impl Platform for Vmm {
///     fn write_memory(&mut self, _: u64, _: u32) {}
///     fn snoop(&mut self, _: Route) {}
/// }
/// impl IntxPlatform for Vmm {
///     fn intx_deassert(&mut self) {} // the device has no pin
///     fn intx_reevaluate(&mut self) {}
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vm = Kvm::new()?.create_vm()?;
/// vm.create_irq_chip()?;
/// let routes = Routes::new(Box::new(vm), RouteOptions::new(Irqchip::Full), Loop::new()?);
/// let mut msix = Msix::boxed(Layout::exclusive_bar(4, BarIndex::new(0)?)?, Policy::SPEC);
/// let mut host = KvmHost::new(&routes, msix.vectors(), Format::default(), Vmm)?;
/// let mut fx = Effects::<MAX_EFFECTS>::new();
/// msix.attach(&mut fx)?;
/// carry_out(&mut msix, &mut fx, &mut host); // after this and every other input
/// # Ok(())
/// # }
/// ```
pub struct KvmHost<P: Platform> {
    /// The VMM's own part.
    pub platform: P,
    vectors: VectorHost,
}

impl<P: Platform> KvmHost<P> {
    /// Makes a host for a function with `vectors` vectors of MSI-X, 1 to 2048. GSIs, routes and
    /// eventfds are made when first needed.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn new(
        routes: &Arc<Routes>,
        vectors: u16,
        format: Format,
        platform: P,
    ) -> Result<Self, FunctionError> {
        Ok(Self { platform, vectors: VectorHost::new(routes, vectors, 0, format)? })
    }

    /// Puts a device behind the function: its interrupts arrive at the vectors' eventfds. Call it
    /// before the first effect.
    #[must_use]
    pub fn with_physical(mut self, physical: Box<dyn PhysicalMsix>) -> Self {
        self.vectors.set_physical(physical);
        self
    }

    /// Makes no eventfds: they are made elsewhere and given to [`connect`](Self::connect). Call it
    /// before the first effect.
    #[must_use]
    pub const fn with_connected_eventfds(mut self) -> Self {
        self.vectors.set_origin(EventfdOrigin::Connected);
        self
    }

    /// Makes the loop of the [`Routes`] call `source` when an eventfd should be read. Call it
    /// before the first effect; without it the VMM watches the eventfds itself.
    pub fn join(&mut self, source: Weak<dyn EventSource>) {
        self.vectors.join(source);
    }

    /// Connects `vector` to an eventfd that was made and is written elsewhere, at any time: a guest
    /// that has unmasked the vector already gets the events from now on, and those that the eventfd
    /// holds. Returns the vectors to report through [`msix_core::Msix::report_failed`].
    ///
    /// # Errors
    /// `InvalidInput` past the table, and for an eventfd that was made with EFD_SEMAPHORE (see
    /// [`eventfd::import`](crate::eventfd::import)); `AlreadyExists` when the vector has an eventfd
    /// (see [`reconnect`](Self::reconnect)). `eventfd` is then closed.
    pub fn connect(&mut self, vector: Vector, eventfd: EventFd) -> io::Result<Vec<Vector>> {
        let failed = self.vectors.connect(vector, eventfd);
        self.done(failed)
    }

    /// Connects `vector` to another eventfd than before ([`Function::reconnect`](super::Function::reconnect)).
    /// Returns the vectors to report through [`msix_core::Msix::report_failed`].
    ///
    /// # Errors
    /// `InvalidInput` as for [`connect`](Self::connect); `ResourceBusy` when the kernel does not let go
    /// of the old one, which then stays. `eventfd` is closed.
    pub fn reconnect(&mut self, vector: Vector, eventfd: EventFd) -> io::Result<Vec<Vector>> {
        let failed = self.vectors.reconnect(vector, eventfd);
        self.done(failed)
    }

    /// Makes the device follow the guest's MSI-X Enable. Call it after every input that may have
    /// changed the bit (D7).
    pub fn set_enabled(&mut self, enabled: bool) {
        self.vectors.set_enabled(enabled);
    }

    /// Returns the eventfd of `vector`, which may be held and written elsewhere from now on. While
    /// KVM does not own it, the VMM reads it ([`take`](Self::take)) and notifies the engine.
    ///
    /// # Errors
    /// Those of `eventfd2`; `InvalidInput` past the table.
    pub fn eventfd(&mut self, vector: Vector) -> io::Result<Arc<EventFd>> {
        let eventfd = self.vectors.eventfd(vector);
        self.done(eventfd)
    }

    /// Takes an event from the eventfd of `vector`, which KVM must not own, and does nothing else.
    /// Returns whether there was one. An event of a live vector belongs to the engine
    /// ([`msix_core::Msix::notify`]); that of a masked one should stay in the eventfd until a poll
    /// takes it (K8).
    pub fn take(&mut self, vector: Vector) -> bool {
        self.vectors.take(vector)
    }

    /// Commits and arms what waits, and tries again what failed. Returns the vectors to report
    /// through [`msix_core::Msix::report_failed`], because the kernel refuses their routes.
    pub fn flush(&mut self) -> Vec<Vector> {
        let failed = self.vectors.flush();
        self.call_out();
        self.done(failed)
    }

    /// Gives back the GSIs of all vectors that have no irqfd. Nothing may be live. A GSI that KVM
    /// refused to let go of is kept, because its next owner would get this function's events.
    pub fn give_back(&mut self) {
        self.vectors.give_back();
        self.done(());
    }

    fn effect<T>(&mut self, effect: impl FnOnce(&mut OfMode<'_>) -> T) -> T {
        let answer = effect(&mut OfMode(&mut self.vectors, MessageMode::MsiX));
        self.call_out();
        self.done(answer)
    }

    /// Lets a panic of the VM go on, which was a failure so far.
    fn done<T>(&mut self, answer: T) -> T {
        self.vectors.take_panics().resume();
        answer
    }

    fn call_out(&mut self) {
        while let Some(call) = self.vectors.calls.pop() {
            match call {
                Call::WriteMemory(_, _, message) => {
                    self.platform.write_memory(message.address, message.data);
                }
                Call::Snoop(route) => self.platform.snoop(route),
                // Of a whole function.
                Call::SetLevel(_) | Call::SetMappings(_) | Call::ResetDevice => {}
            }
        }
    }
}

impl<P: IntxPlatform> Host for KvmHost<P> {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.effect(|host| host.arm(routes))
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        self.effect(|host| host.disarm(vectors));
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.effect(|host| host.reroute(routes))
    }

    fn send(&mut self, route: Route) {
        self.effect(|host| host.send(route));
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        self.effect(|host| host.poll(vectors))
    }

    fn drain(&mut self, vectors: &[Vectors]) {
        self.effect(|host| host.drain(vectors));
    }

    fn snoop(&mut self, route: Route) {
        self.effect(|host| host.snoop(route));
    }

    fn intx_deassert(&mut self) {
        self.platform.intx_deassert();
    }

    fn intx_reevaluate(&mut self) {
        self.platform.intx_reevaluate();
    }
}

impl<P: Platform> fmt::Debug for KvmHost<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmHost").field("vectors", &self.vectors).finish_non_exhaustive()
    }
}
