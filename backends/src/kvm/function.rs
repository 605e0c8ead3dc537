//! A PCI function on KVM, shared by the threads of a VMM.

mod closing;
mod device;
mod effect_list;
mod events;
mod guest;
mod hand_over;
mod locked;
mod notifier;
mod outside;
mod plain;
mod sources;

use super::eventfd_gate::GatedEventfd;
use super::host::VectorHost;
use super::platform::Platform;
use super::routes::Routes;
use super::setup::{FunctionError, FunctionSetup, SendingThread};
use super::vector_counters::VectorCounters;
use super::waiters::Waiter;
use crate::eventfd::EventSource;
use crate::happening::{Happening, tell};
use crate::panics::Panics;
use effect_list::EffectList;
pub use hand_over::HandedOver;
use locked::{DeviceBehind, LockedFunction};
use msix_core::{
    Boxed, Function as Engine, IntxSource, LoadError, Mode, MsiCapability, NotCarriedOut, Parts,
    Vector,
};
use notifier::QueueInLoop;
pub use notifier::{Notified, Notifier, NotifyError};
use outside::{Outside, is_calling_out};
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;
use std::{fmt, io};

/// The interrupt side of a PCI function: the engine, its effects carried out on KVM, and a lock
/// around both. It is `Send`, `Sync` and cheap to clone: processors write registers, devices fire
/// and a migration thread saves through clones of one function.
///
/// [`notify`](Self::notify) takes no lock while KVM owns the vector in the current mode: it writes
/// the eventfd, unless others hold that as well. All other methods take the function's lock, and some
/// take the lock of the [`Routes`] inside it, for a query or a commit. Neither lock is held when an
/// [`EventSource`], another function or the VMM is called
/// ([`FunctionSetup`](FunctionSetup#calls-to-the-vmm)).
///
/// Inputs have the names and meanings of [`msix_core::Function`]; their effects are carried out when
/// they return, but for calls to the VMM that another thread or an outer call is about to make. The
/// interrupts of a passed-through device follow the guest's mode, one at a time (D2). After
/// [`new`](Self::new) and after a reset bus master is off, as Command says: a function sends nothing
/// before [`write_command`](Self::write_command).
///
/// # Threads
/// Each method does what it causes in the thread that calls it: eventfds are made and routes committed
/// by the thread of the processor that unmasks a vector, and KVM_SIGNAL_MSI is called by the one that
/// notifies. What waits for a commit is left to the loop of the [`Routes`]. The thread that drops the last
/// handle takes all vectors back from KVM, whoever else is just using the function; a device's thread
/// has a [`Notifier`] instead of a handle, and never does. A VMM that limits what its threads may call
/// chooses [`make_eventfds`](Self::make_eventfds) and [`FunctionSetup::sender`];
/// [`system_calls`](super::system_calls) has all calls of all threads, and what may be called while an
/// input is carried out.
///
/// # Claim first
/// An emulated device claims each vector of MSI-X that it will raise, once, when it is made:
/// [`claim`](Self::claim) or [`claim_all`](Self::claim_all). An event of a vector without a claim is
/// lost, and the guest waits for it for ever. While you write a device, look at what
/// [`notify`](Self::notify) returns: [`Dropped`](msix_core::Delivery::Dropped) says so. Of what is written
/// to an eventfd, [`Counters::dropped_unclaimed`](msix_core::Counters::dropped_unclaimed) tells.
///
/// # Eventfds
/// A device vector has one eventfd for MSI-X and MSI alike. Devices know one set of vectors, and a
/// writer elsewhere (a vhost worker, another process, a real device) does not learn of modes. So
/// the GSI behind the eventfd follows the guest: it is that of the MSI-X entry, or of the MSI
/// vector that the event is sent as under the guest's allocation. An event that is written during a
/// switch is sent by the mode in force at the write. While the pin is in use, events stay in the
/// eventfds for the next mode: what should drive the pin must reach the device, which calls
/// [`set_level`](Self::set_level).
///
/// While the guest rewrites a live message in several writes, the vector is taken back from KVM,
/// and its events are sent from userspace, with the message in the registers at that moment (H4).
/// Between [`load`](Self::load) and [`resume`](Self::resume), and while detached, the eventfds
/// belong to neither KVM nor the loop: every input, read and save first takes in the events in
/// them.
pub struct Function<P: Platform> {
    pub(super) shared: Arc<SharedFunction<P>>,
}

/// On cache lines of its own: who takes the lock does not slow down who notifies past it.
#[repr(align(64))]
struct OwnLines<T>(T);

pub(super) struct SharedFunction<P: Platform> {
    eventfds: Arc<[GatedEventfd]>,
    locked: OwnLines<Mutex<LockedFunction>>,
    /// Taken before the other, and never waited for, except by [`Function::platform`].
    /// `None` once the function is closed.
    outside: Mutex<Option<Outside<P>>>,
    routes: Arc<Routes>,
    /// How many [`Function`]s there are: the last one closes this, which others may still be using.
    handles: AtomicUsize,
    /// Events that notifiers left to the loop.
    queue: OnceLock<QueueInLoop>,
    sender: SendingThread,
    /// The number among those that wait for commits, and in events for who looks from outside.
    waiter: u64,
    me: Weak<Self>,
    /// Keeps the source alive: the loop has a weak reference.
    line: Option<Arc<dyn EventSource>>,
    #[cfg(test)]
    pub(super) locks: AtomicUsize,
}

impl<P: Platform + 'static> Function<P> {
    /// Makes a function in its reset state, with the backend attached. GSIs, routes and eventfds
    /// are made when the guest first unmasks a vector. On Arm, the VM's interrupt controller exists
    /// before that.
    ///
    /// # Errors
    /// [`FunctionError`].
    pub fn new(routes: &Arc<Routes>, setup: FunctionSetup<P>) -> Result<Self, FunctionError> {
        let msix = setup.msix.map_or(0, |layout| layout.vectors());
        let msi = setup.msi.map_or(0, MsiCapability::vectors);
        let host = VectorHost::new(routes, msix, msi, setup.format)?;
        Ok(Self::on_host(routes, setup, host))
    }

    /// Makes a function on a host that was made for it.
    pub(super) fn on_host(
        routes: &Arc<Routes>,
        mut setup: FunctionSetup<P>,
        mut host: VectorHost,
    ) -> Self {
        let mut device = setup.device.take();
        let has_line = device.as_ref().is_some_and(|device| device.line.is_some());
        let source = if has_line { IntxSource::Physical } else { IntxSource::Emulated };
        let pin = setup.pin.is_some().then_some(source);
        let engine = Engine::boxed(Parts { msi: setup.msi, msix: setup.msix, pin }, setup.policy);
        host.set_origin(setup.eventfds);
        if let Some(physical) = device.as_mut().and_then(|device| device.msix.take()) {
            host.set_physical(physical);
        }
        let (device, control) = device.map(DeviceBehind::new).unzip();
        let platform = setup.platform;
        let outside = Outside { platform, pin: setup.pin, control };
        let shared = Arc::new_cyclic(|shared: &Weak<SharedFunction<P>>| {
            host.join(Weak::clone(shared) as Weak<dyn EventSource>);
            host.keep_registered();
            let eventfds = Arc::clone(&host.eventfds);
            let waiter = routes.join(Weak::clone(shared) as Weak<dyn Waiter>);
            host.turn.waiter = Some(waiter);
            let mut locked = LockedFunction {
                number: waiter,
                engine,
                fx: EffectList::default(),
                held: Vec::new(),
                host,
                device,
                is_high: false,
                mode: Mode::None,
                followed: None,
                attached: false,
                closed: false,
                settled: false,
                panics: Panics::default(),
            };
            let line = locked.join_line(routes.events(), shared);
            SharedFunction {
                eventfds,
                locked: OwnLines(Mutex::new(locked)),
                outside: Mutex::new(Some(outside)),
                routes: Arc::clone(routes),
                handles: AtomicUsize::new(1),
                queue: OnceLock::new(),
                sender: setup.sender,
                waiter,
                me: Weak::clone(shared),
                line,
                #[cfg(test)]
                locks: AtomicUsize::new(0),
            }
        });
        let this = Self { shared }; // which a panic closes
        this.shared.with(|locked| {
            if locked.device.is_some() {
                locked.claim_all(); // it may raise any of them
            }
            locked.tell_claims();
            locked.input(|engine, fx| always(engine.attach(fx)));
            locked.attached = true;
        });
        this
    }
}

impl<P: Platform> Function<P> {
    /// Resets the function ([`msix_core::Function::reset`]) and the device behind it, and arms INTx
    /// again. A policy that clears claims has an emulated device claim its vectors again.
    pub fn reset(&self) {
        self.shared.with(LockedFunction::reset);
    }

    /// Detaches the backend ([`msix_core::Function::detach`]), then gives all GSIs back. The
    /// eventfds stay, because others may write them. Until the next [`attach`](Self::attach) every
    /// input, read and save first takes in the events in them.
    pub fn detach(&self) {
        self.shared.with(|locked| {
            locked.input(|engine, fx| always(engine.detach(fx)));
            locked.attached = false;
            locked.host.give_back();
        })
    }

    /// Attaches the backend again ([`msix_core::Function::attach`]).
    pub fn attach(&self) {
        self.shared.with(|locked| {
            locked.input(|engine, fx| always(engine.attach(fx)));
            locked.attached = true;
        })
    }

    /// Returns a snapshot ([`msix_core::Function::save`]), which includes events that were still in
    /// eventfds (C42). Sends those of them that the guest lets through, so save the interrupt
    /// controllers after this.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.shared.saved(|engine| {
            let mut bytes = vec![0; engine.saved_len()];
            let saved = engine.save(&mut bytes);
            debug_assert_eq!(saved, Ok(bytes.len()));
            bytes
        })
    }

    /// Loads a snapshot ([`msix_core::Function::load`]). Nothing is delivered before
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`LoadError`]; the function is then as it was.
    pub fn load(&self, bytes: &[u8]) -> Result<(), LoadError> {
        self.shared.loaded(|engine| engine.load(bytes))
    }

    /// Ends a load ([`msix_core::Function::resume`]): commits routes at once, unless a
    /// [`CommitHold`](super::CommitHold) keeps that back, then assigns irqfds, then sends what is
    /// pending. Drives the pin of a passed-through device to its level, because the restored interrupt
    /// controller may have another.
    pub fn resume(&self) {
        self.shared.with(|locked| {
            locked.switch(|engine, fx| always(engine.resume(fx)));
            tell(&Happening::Resumed { function: locked.number });
        });
    }

    /// Returns a number that no other function on these routes has: `function` in the events of feature
    /// `tracing`.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shared.waiter
    }

    /// Returns counts of the events of each device vector, lowest first. Takes the lock once.
    #[must_use]
    pub fn vector_counters(&self) -> Vec<VectorCounters> {
        self.shared.lock().host.counters()
    }

    /// Commits and arms what waits of this function, as [`Routes::flush`] does for all.
    pub fn flush(&self) {
        Waiter::flush(&*self.shared);
    }

    /// Maps the BARs of a passed-through device again after a quiet time, by the VMM's clock.
    /// Returns when to call it again; `None` when they are mapped.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        self.shared.with(|locked| {
            let asserted = locked.engine.intx().is_some_and(msix_core::Intx::is_asserted);
            let device = locked.device.as_mut()?;
            let due = device.unmapped? + device.quiet;
            if now < due {
                return Some(due);
            }
            if asserted {
                return Some(now + device.quiet); // the next access is still the guest's answer
            }
            device.map(true, &mut locked.host.calls);
            None
        })
    }

    /// Calls `look` with the engine, under the lock: it must not use a function.
    pub fn inspect<T>(&self, look: impl FnOnce(&Engine<Boxed>) -> T) -> T {
        look(&self.shared.lock().engine)
    }

    /// Calls `look` with the VMM's own part, after any call to it that another thread is making.
    ///
    /// # Panics
    /// When it is called from inside a call to the VMM's parts, where it could wait for itself.
    pub fn platform<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        self.shared.platform(look)
    }
}

impl<P: Platform> SharedFunction<P> {
    fn lock(&self) -> MutexGuard<'_, LockedFunction> {
        #[cfg(test)]
        self.locks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A panic of the VMM's parts stops nothing (`LockedFunction::guarded`).
        self.locked.0.lock()
    }

    /// Calls `act` under the lock, after the events that were queued, then makes the calls to the VMM
    /// that this queued.
    fn with<T>(&self, act: impl FnOnce(&mut LockedFunction) -> T) -> T {
        self.with_lock(self.lock(), act)
    }

    /// Does the same while the function is not closed. For those without a handle.
    fn while_open<T>(&self, act: impl FnOnce(&mut LockedFunction) -> T) -> Option<T> {
        let locked = self.lock();
        (!locked.closed).then(|| self.with_lock(locked, act))
    }

    fn with_lock<T>(
        &self,
        locked: MutexGuard<'_, LockedFunction>,
        act: impl FnOnce(&mut LockedFunction) -> T,
    ) -> T {
        self.conclude(locked, |locked| {
            self.take_queued(locked);
            act(locked)
        })
    }

    /// Calls `act` under the lock, which is released then. Sees to all that this leaves to do: panics
    /// of the VMM's parts, what waits for a flush, and the calls to the VMM.
    fn conclude<T>(
        &self,
        mut locked: MutexGuard<'_, LockedFunction>,
        act: impl FnOnce(&mut LockedFunction) -> T,
    ) -> T {
        let mut panics = Panics::default();
        let result = panics.catch(|| act(&mut locked));
        self.release(locked, &mut panics);
        panics.finish(result)
    }

    /// Ends a use of the function that may have changed it: sees to what it leaves to do, releases the
    /// lock, and makes the calls to the VMM.
    fn release(&self, mut locked: MutexGuard<'_, LockedFunction>, panics: &mut Panics) {
        if locked.has_panics() {
            panics.add(locked.take_panics());
        }
        locked.settled = locked.is_settled();
        if let Some(why) = locked.host.waits() {
            locked.host.turn.is_told = true;
            self.routes.waits(self.waiter, why);
        }
        let queued = locked.host.calls.len();
        drop(locked);
        if queued > 0 {
            self.call_out(queued, panics);
        }
    }

    fn call_out(&self, queued: usize, panics: &mut Panics) {
        // Without a handle the function is going.
        if let Some(me) = self.me.upgrade() {
            outside::call_out(me, queued, panics);
        }
    }

    fn platform<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        assert!(!is_calling_out(), "the VMM's part of a function is used by a call to such a part");
        let mut panics = Panics::default();
        let mut outside = self.outside.lock();
        let result = panics.catch(|| match &mut *outside {
            Some(outside) => look(&mut outside.platform),
            None => unreachable!("a handle keeps the function open"),
        });
        drop(outside);
        // Others left to this thread what they queued meanwhile.
        let queued = self.lock().host.calls.len();
        if queued > 0 {
            self.call_out(queued, &mut panics);
        }
        panics.finish(result)
    }

    /// Has `save` write what was there before, with the events that were still in eventfds.
    fn saved<T>(&self, save: impl FnOnce(&Engine<Boxed>) -> T) -> T {
        self.with(|locked| {
            locked.take_in_due();
            locked.input(|engine, fx| always(engine.prepare_save(fx)));
            save(&locked.engine)
        })
    }

    /// Has `load` read what was saved. Nothing is delivered before a resume.
    fn loaded(
        &self,
        load: impl FnOnce(&mut Engine<Boxed>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        self.with(|locked| {
            let function = locked.number;
            load(&mut locked.engine)
                .inspect_err(|error| tell(&Happening::LoadRefused { function, error }))?;
            tell(&Happening::Loaded { function });
            locked.host.pause();
            locked.followed = None;
            locked.tell_claims();
            Ok(())
        })
    }

    /// Has the host connect a vector, and reports those that failed to the engine.
    fn connect(
        &self,
        connect: impl FnOnce(&mut VectorHost) -> io::Result<Vec<Vector>>,
    ) -> io::Result<()> {
        self.with(|locked| {
            let failed = connect(&mut locked.host)?;
            let mode = locked.host.owner().into();
            failed.into_iter().for_each(|vector| locked.fall_back(mode, vector));
            Ok(())
        })
    }

    fn input<T>(&self, input: impl FnOnce(&mut Engine<Boxed>, &mut EffectList) -> T) -> T {
        self.input_then(self.lock(), input, |_, _| true, |_, answer| answer)
    }

    /// Gives the engine an input and carries its effects out, then calls `after`.
    ///
    /// Most inputs find nothing to take in before them, and have no effect. If `is_plain` says of such a
    /// one that `after` changes nothing for the host or the VMM either, nothing else is to be seen to.
    #[inline]
    fn input_then<T, U>(
        &self,
        mut locked: MutexGuard<'_, LockedFunction>,
        input: impl FnOnce(&mut Engine<Boxed>, &mut EffectList) -> T,
        is_plain: impl FnOnce(&LockedFunction, &T) -> bool,
        after: impl FnOnce(&mut LockedFunction, T) -> U,
    ) -> U {
        let has_queued = self.queue.get().is_some_and(|made| !made.queue.is_empty());
        if has_queued || !locked.settled {
            self.take_in(&mut locked);
        }
        let state = &mut *locked;
        let answer = input(&mut state.engine, &mut state.fx);
        if state.settled && state.fx.is_empty() && is_plain(state, &answer) {
            debug_assert!(state.is_settled(), "as of the last `release`");
            debug_assert!(state.has_followed(), "not by `switch`");
            return after(state, answer);
        }
        self.conclude(locked, |locked| {
            locked.settle();
            after(locked, answer)
        })
    }

    /// Takes in what comes before an input.
    #[cold]
    fn take_in(&self, locked: &mut LockedFunction) {
        locked.settled = false; // there is more to see to than the input
        locked.guarded(|locked| {
            self.take_queued(locked);
            locked.take_in_all();
        });
    }

    /// Takes the events that device threads left to others.
    fn take_queued(&self, locked: &mut LockedFunction) {
        if let Some(made) = self.queue.get() {
            locked.take_queued(&made.queue);
        }
    }
}

impl<P: Platform> fmt::Debug for Function<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("vectors", &self.shared.eventfds.len())
            .field("line", &self.shared.line.is_some())
            .finish_non_exhaustive()
    }
}

/// Takes the result of an input that cannot fail: it refuses only a list that was not carried out,
/// and this one always is.
fn always(input: Result<(), NotCarriedOut>) {
    debug_assert_eq!(input, Ok(()));
}
