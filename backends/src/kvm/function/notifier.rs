//! The device's side of a function, for threads that must not own it.

use super::SharedFunction;
use super::locked::LockedFunction;
use crate::eventfd::EventSource;
use crate::kvm::event_queue::{EventQueue, QueuedEvent};
use crate::kvm::eventfd_gate::{Fired, GatedEventfd};
use crate::kvm::platform::Platform;
use msix_core::{Delivery, Vector, VectorError};
use parking_lot::MutexGuard;
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// What a device does with a [`Function`](super::Function): it notifies, and hands out eventfds. It is
/// for a device's thread, which must not own the function: a function that is gone stays so, and the
/// thread that drops a notifier makes no system call but closing eventfds. `Send`, `Sync`, and cheap to
/// clone. [`Function::notifier`](super::Function::notifier) makes one.
#[derive(Clone)]
pub struct Notifier {
    eventfds: Arc<[GatedEventfd]>,
    /// Where events are left to the loop; `None` when this thread sends them.
    queue: Option<Arc<EventQueue>>,
    function: Weak<dyn DeviceSide>,
}

/// What became of an event that a [`Notifier`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notified {
    /// The function or KVM took it.
    Taken(Delivery),
    /// The thread of the loop will take it ([`SendingThread::Loop`](super::SendingThread::Loop)). One
    /// that waits already stands for both (A12).
    Queued,
}

/// Why a [`Notifier`] did not take an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// The last handle of the function was dropped: nobody can get the event any more.
    #[error("the function is gone")]
    Gone,
    /// There is no such vector.
    #[error(transparent)]
    Vector(#[from] VectorError),
}

impl Notifier {
    pub(super) fn new<P: Platform>(
        shared: &Arc<SharedFunction<P>>,
        queue: Option<Arc<EventQueue>>,
    ) -> Self {
        let function: Weak<SharedFunction<P>> = Arc::downgrade(shared);
        Self { eventfds: Arc::clone(&shared.eventfds), queue, function }
    }

    /// Takes an event of the device, as [`Function::notify`](super::Function::notify) does. While KVM
    /// owns the vector's eventfd and nobody else holds it, this is one `write`. Otherwise
    /// [`FunctionSetup::sender`](super::FunctionSetup::sender) says what this thread does: all that
    /// follows from the event, or another `write` and nothing else.
    ///
    /// An event that is left to the loop while the guest uses INTx reaches nobody, as one that is
    /// written to an eventfd: such a device calls [`set_level`](super::Function::set_level) as well.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn notify(&self, vector: Vector) -> Result<Notified, NotifyError> {
        let gated = self.eventfds.get(usize::from(vector.index()));
        let fired = gated.map_or(Fired::Tell, GatedEventfd::fire);
        let sent = Notified::Taken(Delivery::Sent);
        match &self.queue {
            _ if fired == Fired::Taken => Ok(sent),
            None => {
                let function = self.function.upgrade().ok_or(NotifyError::Gone)?;
                Ok(Notified::Taken(function.take_event(vector, fired).ok_or(NotifyError::Gone)??))
            }
            Some(queue) => {
                if gated.is_none() {
                    // At most 2048.
                    let vectors = self.eventfds.len() as u16;
                    return Err(VectorError::OutOfRange { vector, vectors }.into());
                }
                let written = matches!(fired, Fired::Collect);
                let event = if written { QueuedEvent::Written } else { QueuedEvent::Unwritten };
                if queue.push(vector.index(), event) {
                    Ok(Notified::Queued)
                } else {
                    Err(NotifyError::Gone)
                }
            }
        }
    }

    /// Returns the eventfd of a vector, as [`Function::eventfd`](super::Function::eventfd) does, with
    /// the system calls of that. Call it in a thread that may make them.
    ///
    /// # Errors
    /// Those of `eventfd2`; `InvalidInput` past the vectors of every mode; `NotConnected` when the
    /// function is gone.
    pub fn eventfd(&self, vector: Vector) -> io::Result<Arc<EventFd>> {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, NotifyError::Gone);
        self.function.upgrade().and_then(|function| function.eventfd(vector)).ok_or_else(gone)?
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("vectors", &self.eventfds.len())
            .field("queues", &self.queue.is_some())
            .finish_non_exhaustive()
    }
}

/// A function without its type, while it is not gone: otherwise the answer is `None`.
trait DeviceSide: Send + Sync {
    /// Takes an event that [`GatedEventfd::fire`] did not give to KVM.
    fn take_event(&self, vector: Vector, fired: Fired) -> Option<Result<Delivery, VectorError>>;
    fn eventfd(&self, vector: Vector) -> Option<io::Result<Arc<EventFd>>>;
}

impl<P: Platform> DeviceSide for SharedFunction<P> {
    fn take_event(&self, vector: Vector, fired: Fired) -> Option<Result<Delivery, VectorError>> {
        let locked = self.lock();
        (!locked.closed).then(|| self.take_event(locked, vector, fired))
    }

    fn eventfd(&self, vector: Vector) -> Option<io::Result<Arc<EventFd>>> {
        self.while_open(|locked| locked.host.eventfd(vector))
    }
}

/// Takes what device threads left to the loop.
pub(super) struct QueueReader<P: Platform>(pub(super) Weak<SharedFunction<P>>);

impl<P: Platform> EventSource for QueueReader<P> {
    fn readable(&self, _: Vector) {
        if let Some(shared) = self.0.upgrade() {
            shared.queue.get().iter().for_each(|bell| bell.queue.silence());
            // Every use of the function takes the queue first.
            shared.while_open(|_| ());
        }
    }
}

/// The queue of a function, and its place in the loop.
pub(super) struct QueueInLoop {
    pub(super) queue: Arc<EventQueue>,
    pub(super) id: usize,
    /// Keeps the source alive: the loop has a weak reference.
    pub(super) _reader: Arc<dyn EventSource>,
}

impl<P: Platform + 'static> SharedFunction<P> {
    /// Returns the queue, made and watched when first needed.
    pub(super) fn queue(&self) -> io::Result<Arc<EventQueue>> {
        // One thread makes it.
        let _locked = self.lock();
        if let Some(made) = self.queue.get() {
            return Ok(Arc::clone(&made.queue));
        }
        let queue = Arc::new(EventQueue::new(self.eventfds.len())?);
        let reader: Arc<dyn EventSource> = Arc::new(QueueReader(Weak::clone(&self.me)));
        let events = self.routes.events();
        let id = events.join(Arc::downgrade(&reader));
        if let Err(error) = events.watch(id, Vector::new(0), &*queue) {
            events.leave(id);
            return Err(error);
        }
        let made = QueueInLoop { queue: Arc::clone(&queue), id, _reader: reader };
        _ = self.queue.set(made);
        Ok(queue)
    }
}

impl<P: Platform> SharedFunction<P> {
    /// Takes an event of the device, of which [`GatedEventfd::fire`] said what became.
    pub(super) fn take_event(
        &self,
        locked: MutexGuard<'_, LockedFunction>,
        vector: Vector,
        fired: Fired,
    ) -> Result<Delivery, VectorError> {
        match fired {
            Fired::Taken => Ok(Delivery::Sent),
            Fired::Collect => self.with_lock(locked, |locked| Ok(locked.collect(vector))),
            Fired::Tell => self.input_then(
                locked,
                |engine, fx| engine.notify(vector, fx),
                |_, told| {
                    debug_assert_ne!(*told, Ok(Delivery::Sent), "without an effect");
                    true
                },
                |locked, told| locked.notified(vector, told),
            ),
        }
    }
}

impl LockedFunction {
    /// Takes the events that device threads left to others.
    pub(super) fn take_queued(&mut self, queue: &EventQueue) {
        for (vector, event) in queue.take() {
            let vector = Vector::new(vector);
            match event {
                QueuedEvent::Written => _ = self.collect(vector),
                // There is nobody to be told that the mode has no such vector.
                QueuedEvent::Unwritten => _ = self.notify(vector),
            }
        }
    }
}
