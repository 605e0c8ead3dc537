//! Owns a VM's route table, and commits it.

use super::call_counts::{CallCounts, RouteStats};
use super::commit_hold::CommitHold;
use super::deferral::{CommitPace, Deferral, Wait};
use super::gsis::{GsiAllocator, GsiTaken};
use super::message::{Format, InterruptAddresses};
use super::route_options::RouteOptions;
use super::route_table::{Irqchip, KeepError, OutOfRoutes, RouteEntry, RouteTable, RouteTarget};
use super::vm::Vm;
use super::waiters::{Turn, Waiter, Waiters};
use crate::eventfd::{Loop, borrow};
use crate::happening::{Happening, failed, tell};
use crate::panics::Panics;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// Why [`Routes::keep`] refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoutesError {
    /// The entries cannot be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The kernel refused the table, and the one before is still in force (K2).
    #[error("KVM_SET_GSI_ROUTING: {0}")]
    Commit(#[source] io::Error),
}

/// What became of a route that a function wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoutePlace {
    /// KVM knows the route.
    Current,
    /// KVM will learn of the route with the next commit.
    Waiting,
    /// No route is left.
    Refused,
}

/// The one owner of a VM's route table, shared by all devices and usable from any thread.
pub struct Routes {
    vm: Box<dyn Vm>,
    irqchip: Irqchip,
    deferral: Deferral,
    /// See [`RouteOptions::retry`].
    retry: Duration,
    /// Nothing is ever routed: everything is delivered from userspace.
    pub(super) userspace: bool,
    state: Mutex<RoutesState>,
    events: Arc<Loop>,
    counts: CallCounts,
    /// Whether the VM is going, so that no more calls are made.
    closed: AtomicBool,
}

struct RoutesState {
    table: RouteTable,
    waiters: Waiters,
    pace: CommitPace,
    /// The number of commits that KVM took.
    generation: u64,
    /// The number of [`CommitHold`]s.
    holds: usize,
}

impl Routes {
    /// Makes the owner of the table of a new VM, which holds no other routes than KVM's defaults.
    /// `events` watches the eventfds of what is delivered from userspace.
    #[must_use]
    pub fn new(vm: Box<dyn Vm>, options: RouteOptions, events: Arc<Loop>) -> Arc<Self> {
        let table = RouteTable::new(options.irqchip.defaults(), options.limit, options.gsis);
        Self::with_table(vm, options, events, table)
    }

    /// Makes the same, with an allocator of the VMM instead of [`RouteOptions::gsis`].
    #[must_use]
    pub fn with_gsis(
        vm: Box<dyn Vm>,
        options: RouteOptions,
        events: Arc<Loop>,
        gsis: Box<dyn GsiAllocator>,
    ) -> Arc<Self> {
        let table = RouteTable::with_gsis(options.irqchip.defaults(), options.limit, gsis);
        Self::with_table(vm, options, events, table)
    }

    fn with_table(
        vm: Box<dyn Vm>,
        options: RouteOptions,
        events: Arc<Loop>,
        table: RouteTable,
    ) -> Arc<Self> {
        Arc::new(Self {
            vm,
            irqchip: options.irqchip,
            deferral: options.deferral.bounded(),
            retry: options.retry.max(RouteOptions::LEAST_RETRY),
            userspace: options.limit == 0,
            state: Mutex::new(RoutesState {
                table,
                waiters: Waiters::default(),
                pace: CommitPace::default(),
                generation: 0,
                holds: 0,
            }),
            events,
            counts: CallCounts::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Replaces the routes that belong to no vector, with GSIs that no vector can get
    /// ([`RouteOptions::gsis`]): those of an I/O APIC in the VMM, or of pins that the guest moved from
    /// the default. Commits at once. A [`MessageGroup`](super::MessageGroup) does the same for single
    /// pins, with irqfds.
    ///
    /// # Errors
    /// [`RoutesError`]; the table is then as it was.
    pub fn keep(&self, entries: Vec<RouteEntry>) -> Result<(), RoutesError> {
        let mut state = self.state();
        let before = state.table.keep(entries)?;
        let mut panics = Panics::default();
        let committed = panics.catch(|| self.commit_locked(&mut state));
        if !matches!(committed, Some(Ok(()))) {
            // The previous routes fitted before.
            let _ = state.table.keep(before);
        }
        drop(state);
        panics.finish(committed).map_err(RoutesError::Commit)
    }

    /// Keeps commits back until the hold is dropped, for a restore or for many functions that are
    /// plugged in together.
    pub fn hold(self: &Arc<Self>) -> CommitHold {
        CommitHold::new(self)
    }

    /// Makes no call on the VM any more, because it is about to be closed: functions that are dropped
    /// from now on do not take each vector back by a KVM_IRQFD. Nothing more reaches the guest in an
    /// orderly way, so stop the processors and devices first. KVM lets go of the eventfds when the VM
    /// is closed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Commits what waits and arms it, for all functions. Routes wait on while there is a
    /// [`CommitHold`]. A function with routes that the kernel refuses goes on from userspace, and is
    /// notified.
    ///
    /// # Panics
    /// When a part of the VMM panics, after the others were called.
    pub fn flush(&self) {
        let waiting = {
            let mut state = self.state();
            state.pace.clear();
            state.waiters.take()
        };
        if waiting.is_empty() {
            return;
        }
        let mut panics = Panics::default();
        for waiter in waiting.iter().filter_map(Weak::upgrade) {
            // The others have said that they wait, and do not say so again.
            panics.catch(|| waiter.flush());
        }
        panics.resume();
    }

    /// Returns when [`flush`](Self::flush) is due; `None` when nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.state().pace.deadline(self.deferral, self.retry)
    }

    /// Runs one round of the userspace path: flushes when that is due, waits for eventfds for
    /// `timeout` at most (`None`: until something happens), and delivers what they hold. A VMM
    /// has a [`Runner`](super::Runner) for this, or calls it in a thread of its own. Or it watches the
    /// descriptor of [`events`](Self::events) in its own loop, and calls this with a timeout of zero
    /// whenever that is readable: a timer makes it so when the [`deadline`](Self::deadline) has come.
    ///
    /// # Errors
    /// Those of the epoll instance.
    ///
    /// # Panics
    /// As [`flush`](Self::flush).
    pub fn run(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut panics = Panics::default();
        // Its timer may have fired, which it does once.
        let waited = panics.catch(|| self.events.run(timeout)).unwrap_or(Ok(0));
        panics.catch(|| self.flush_due());
        panics.resume();
        waited.map(|_events| ())
    }

    /// Flushes if that is due, and otherwise sets the timer, which may have fired before the deadline
    /// was put off.
    pub(super) fn flush_due(&self) {
        match self.deadline() {
            Some(at) if at <= Instant::now() => self.flush(),
            Some(at) => self.wake_at(at),
            None => {}
        }
    }

    fn wake_at(&self, at: Instant) {
        if self.events.wake_at(at).is_err() {
            // Too early, but not too late. A full eventfd wakes the loop too, and nothing else fails.
            let _ = self.events.wake();
        }
    }

    /// Returns the loop that watches what is delivered from userspace.
    #[must_use]
    pub fn events(&self) -> &Arc<Loop> {
        &self.events
    }

    /// Returns counts of the calls to the kernel so far.
    #[must_use]
    pub fn stats(&self) -> RouteStats {
        RouteStats { gsis: self.state().table.taken() as u64, ..self.counts.stats() }
    }

    /// Adds a function. Returns its number, which [`leave`](Self::leave) takes.
    pub(super) fn join(&self, waiter: Weak<dyn Waiter>) -> u64 {
        self.state().waiters.join(waiter)
    }

    /// Removes a function, which is gone. Its memory is held until then.
    pub(super) fn leave(&self, id: u64) {
        self.state().waiters.leave(id);
    }

    /// Notes that a function has something for the next [`flush`](Self::flush), and sees to it that
    /// there is a next one: the last may have come between what waits and this.
    pub(super) fn waits(&self, id: u64, why: Wait) {
        let mut state = self.state();
        if !state.waiters.waits(id) {
            return;
        }
        let is_held = why == Wait::Commit && state.holds > 0;
        if !is_held && !state.pace.has(why) {
            self.note(&mut state, why);
        }
    }

    /// Returns how many functions there are.
    #[cfg(test)]
    pub(super) fn joined(&self) -> usize {
        self.state().waiters.joined()
    }

    /// Returns whether messages in this format reach the guest only with a device id: the VM says so once
    /// its interrupt controller exists, and an ITS always needs one (K15). Those to a GICv2m frame are none
    /// of the ITS's.
    pub(super) fn lacks_device_id(&self, format: Format) -> bool {
        let is_gic = matches!(self.irqchip, Irqchip::Gic { .. });
        let needs_one = match format.interrupts {
            InterruptAddresses::Gicv2m(_) => false,
            InterruptAddresses::Doorbell(_) if is_gic => true,
            _ => self.vm.needs_device_ids(),
        };
        needs_one && format.device.is_none()
    }

    /// Begins a batch of routes for a function, which ends with a commit when that is worth it.
    /// A panic of the VM, or of the VMM's allocator of GSIs, is a failure, and is added to `panics`.
    pub(super) fn batch<'a>(&'a self, panics: &'a mut Panics) -> Batch<'a> {
        Batch { routes: self, state: self.state(), panics, len: 0, waits: false }
    }

    /// Changes the target of a GSI, without a commit.
    pub(super) fn set(&self, gsi: u32, target: RouteTarget) {
        self.state().table.set(gsi, target);
    }

    /// Commits if KVM does not know all of `gsis`. Returns how many commits KVM has taken by now.
    pub(super) fn commit(&self, gsis: impl IntoIterator<Item = u32>) -> io::Result<u64> {
        let mut state = self.state();
        if gsis.into_iter().any(|gsi| !state.table.is_current(gsi)) {
            self.commit_locked(&mut state)?;
        }
        Ok(state.generation)
    }

    /// Returns whether commits are kept back.
    pub(super) fn is_held(&self) -> bool {
        self.state().holds > 0
    }

    pub(super) fn add_hold(&self) {
        self.state().holds += 1;
    }

    /// Returns whether this was the last hold.
    pub(super) fn remove_hold(&self) -> bool {
        let mut state = self.state();
        state.holds -= 1;
        state.holds == 0
    }

    /// Returns those of these vectors and GSIs that have a route that KVM knows.
    pub(super) fn current(&self, mut gsis: Vec<(u16, u32)>) -> Vec<(u16, u32)> {
        let state = self.state();
        gsis.retain(|&(_, gsi)| state.table.is_current(gsi));
        gsis
    }

    /// Notes that something waits for [`flush`](Self::flush), held back by no hold.
    pub(super) fn call_again(&self, why: Wait) {
        self.note(&mut self.state(), why);
    }

    /// Notes that something waits: a loop that sleeps must wake up at the deadline.
    fn note(&self, state: &mut RoutesState, why: Wait) {
        let now = Instant::now();
        let wait = match why {
            Wait::Commit => self.deferral.quiet,
            Wait::Retry => self.retry,
        };
        // What waits of the other kind has set the timer already; a time that never comes is none.
        if state.pace.note(now, why)
            && let Some(at) = now.checked_add(wait)
        {
            self.wake_at(at);
        }
    }

    /// Reserves GSIs for a source with fixed ones, `count` from `first` on.
    pub(super) fn reserve(&self, first: u32, count: u16) -> Result<(), GsiTaken> {
        self.state().table.reserve(first, count)
    }

    /// Ends [`reserve`](Self::reserve), when they were given back.
    pub(super) fn unreserve(&self, first: u32, count: u16) {
        self.state().table.unreserve(first, count);
    }

    /// Takes GSIs back. Those behind a panic of the VMM's allocator are taken back too.
    pub(super) fn give_back(&self, gsis: impl IntoIterator<Item = u32>, panics: &mut Panics) {
        let mut state = self.state();
        gsis.into_iter().for_each(|gsi| _ = panics.catch(|| state.table.give_back(gsi)));
    }

    pub(super) fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        self.counted("KVM_IRQFD, assign", &self.counts.assigns, || {
            self.vm.assign(borrow(eventfd), gsi)
        })
    }

    pub(super) fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        self.counted("KVM_IRQFD, deassign", &self.counts.deassigns, || {
            self.vm.deassign(borrow(eventfd), gsi)
        })
    }

    /// Sends an interrupt. One without a recipient is not an error (K10).
    pub(super) fn send(&self, target: RouteTarget) -> io::Result<()> {
        let signals = &self.counts.signals;
        let sent = |taken: io::Result<bool>| taken.map(|_taken| ());
        match target {
            RouteTarget::Msi(msi) => {
                self.counted("KVM_SIGNAL_MSI", signals, || sent(self.vm.signal(msi)))
            }
            RouteTarget::Pin { pin, .. } => {
                self.counted("KVM_IRQ_LINE", signals, || sent(self.vm.pulse_spi(pin)))
            }
        }
    }

    fn commit_locked(&self, state: &mut RoutesState) -> io::Result<()> {
        let plan = state.table.plan();
        let (commits, routes) = (&self.counts.commits, plan.len());
        self.counted("KVM_SET_GSI_ROUTING", commits, || self.vm.set_routes(plan))?;
        state.table.committed();
        state.generation += 1;
        tell(&Happening::Committed { routes, generation: state.generation });
        Ok(())
    }

    /// Makes a call, unless the VM is going.
    fn counted(
        &self,
        name: &'static str,
        count: &AtomicU64,
        call: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        count.fetch_add(1, Ordering::Relaxed);
        call().inspect_err(|error| {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            failed(name)(error);
        })
    }

    fn state(&self) -> MutexGuard<'_, RoutesState> {
        // Nothing panics between two changes that belong together.
        self.state.lock()
    }
}

/// Routes that a function wants together, with the table locked.
pub(super) struct Batch<'a> {
    routes: &'a Routes,
    state: MutexGuard<'a, RoutesState>,
    panics: &'a mut Panics,
    len: usize,
    /// Whether KVM does not know one of them.
    waits: bool,
}

impl Batch<'_> {
    /// Puts a route into the table, for this GSI. If there is none yet, takes one: `fixed`, or any.
    pub(super) fn want(
        &mut self,
        gsi: &mut Option<u32>,
        fixed: Option<u32>,
        target: RouteTarget,
    ) -> RoutePlace {
        self.len += 1;
        let table = &mut self.state.table;
        match *gsi {
            Some(gsi) if table.set(gsi, target) => return RoutePlace::Current,
            Some(_) => {}
            None => match self.panics.catch(|| table.claim(target, fixed)) {
                Some(Ok(claimed)) => *gsi = Some(claimed),
                Some(Err(OutOfRoutes { .. })) | None => return RoutePlace::Refused,
            },
        }
        self.waits = true;
        RoutePlace::Waiting
    }

    /// Ends the batch, and commits when that is worth it; otherwise, if a route waits, has the next flush look
    /// at the function. Returns how many commits KVM has taken by now.
    ///
    /// # Errors
    /// Those of the commit; no route of the batch waits for another one then.
    pub(super) fn end(mut self, turn: &mut Turn) -> io::Result<u64> {
        // Whoever drops the last hold flushes.
        if self.waits && self.state.holds == 0 {
            let stale = self.state.table.stale();
            let clean = self.state.table.taken() - stale;
            if self.routes.deferral.is_worth_it(stale, clean, self.len) {
                self.panics.attempt(|| self.routes.commit_locked(&mut self.state))?;
            } else {
                if let (false, Some(waiter)) = (turn.is_told, turn.waiter) {
                    turn.is_told = self.state.waiters.waits(waiter);
                }
                self.routes.note(&mut self.state, Wait::Commit);
            }
        }
        Ok(self.state.generation)
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        // A runner that sleeps ends now.
        let _ = self.events.wake();
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
