//! The device's side: its eventfds, events and level, its claims, and what a side channel sets.

use super::{Function, Notifier, always};
use crate::kvm::eventfd_gate::{Fired, GatedEventfd};
use crate::kvm::host::MessageMode;
use crate::kvm::platform::Platform;
use crate::kvm::setup::SendingThread;
use msix_core::{Delivery, Message, Mode, Vector, VectorError};
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

impl<P: Platform> Function<P> {
    /// Returns the eventfd of device vector `vector`, for a device that does not call
    /// [`notify`](Self::notify), such as a vhost worker or another process. Each event written to
    /// it reaches the guest by the vector of the current mode, or sets its pending bit. From now on
    /// others may hold it, so [`notify`](Self::notify) of this vector takes the lock.
    ///
    /// # Errors
    /// Those of `eventfd2`; `InvalidInput` past the vectors of every mode.
    pub fn eventfd(&self, vector: Vector) -> io::Result<Arc<EventFd>> {
        self.shared.with(|locked| locked.host.eventfd(vector))
    }

    /// Connects device vector `vector` to an eventfd that was made and is written elsewhere, at any
    /// time and permanently (E5, E8). What it holds already is an event. See
    /// [`eventfd::import`](crate::eventfd::import) for one that another process sent.
    ///
    /// # Errors
    /// `InvalidInput` past the vectors of every mode, and for an eventfd that was made with
    /// EFD_SEMAPHORE; `AlreadyExists` when the vector has an eventfd. `eventfd` is then closed.
    pub fn connect(&self, vector: Vector, eventfd: EventFd) -> io::Result<()> {
        self.shared.connect(|host| host.connect(vector, eventfd))
    }

    /// Connects device vector `vector` to another eventfd than before: another process, or a vhost
    /// device, took over. An event that the old one still holds is put into the new one; what is written
    /// to the old one afterwards reaches nobody. A real device behind the function goes on writing the
    /// old one.
    ///
    /// # Errors
    /// `InvalidInput` as for [`connect`](Self::connect); `ResourceBusy` when the kernel does not let go
    /// of the old one, which then stays. `eventfd` is closed.
    pub fn reconnect(&self, vector: Vector, eventfd: EventFd) -> io::Result<()> {
        self.shared.connect(|host| host.reconnect(vector, eventfd))
    }

    /// Makes the eventfds of all vectors now instead of at the first unmask, for a VMM that limits what
    /// its processors' threads may call, or wants to know that there are descriptors enough.
    ///
    /// # Errors
    /// Those of `eventfd2`. The eventfds that are missing are made when first needed.
    pub fn make_eventfds(&self) -> io::Result<()> {
        self.shared.with(|locked| locked.host.make_eventfds())
    }

    /// Takes an event of the device ([`msix_core::Function::notify`]). Takes no lock while KVM owns
    /// the vector's eventfd and nobody else holds it; then it returns [`Delivery::Sent`]. Returns
    /// [`Delivery::Dropped`] for a vector of MSI-X that was not [claimed](Self#claim-first).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn notify(&self, vector: Vector) -> Result<Delivery, VectorError> {
        let gated = self.shared.eventfds.get(usize::from(vector.index()));
        match gated.map_or(Fired::Tell, GatedEventfd::fire) {
            Fired::Taken => Ok(Delivery::Sent),
            fired => self.shared.take_event(self.shared.lock(), vector, fired),
        }
    }

    /// Makes the side of the function that a device's thread uses without owning it.
    ///
    /// # Errors
    /// With [`SendingThread::Loop`], those of `eventfd2` and `epoll_ctl`.
    pub fn notifier(&self) -> io::Result<Notifier>
    where
        P: 'static,
    {
        let queue = match self.shared.sender {
            SendingThread::Caller => None,
            SendingThread::Loop => Some(self.shared.queue()?),
        };
        Ok(Notifier::new(&self.shared, queue))
    }

    /// Withdraws a pending event ([`msix_core::Function::withdraw`]). Nothing can be withdrawn from
    /// KVM.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn withdraw(&self, mode: Mode, vector: Vector) -> Result<bool, VectorError> {
        self.shared.input(|engine, fx| engine.withdraw(mode, vector, fx))
    }

    /// Sets the level of an emulated device's pin ([`msix_core::Function::set_level`]).
    pub fn set_level(&self, high: bool) {
        self.shared.input(|engine, fx| always(engine.set_level(high, fx)));
    }

    /// Adds a claim ([`msix_core::Function::claim`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::TooManyClaims`].
    pub fn claim(&self, vector: Vector) -> Result<(), VectorError> {
        self.shared.with(|locked| {
            let claimed = locked.input(|engine, fx| engine.claim(vector, fx));
            locked.tell_claim(vector);
            claimed
        })
    }

    /// Claims every vector of MSI-X that has no claim: for a device that may raise any of them.
    pub fn claim_all(&self) {
        self.shared.with(|locked| {
            locked.claim_all();
            locked.tell_claims();
        });
    }

    /// Removes a claim ([`msix_core::Function::unclaim`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn unclaim(&self, vector: Vector) -> Result<(), VectorError> {
        self.shared.with(|locked| {
            let unclaimed = locked.input(|engine, fx| engine.unclaim(vector, fx));
            locked.tell_claim(vector);
            unclaimed
        })
    }

    /// Removes all claims ([`msix_core::Function::unclaim_all`]).
    pub fn unclaim_all(&self) {
        self.shared.with(|locked| {
            always(locked.input(|engine, fx| engine.unclaim_all(fx)));
            locked.tell_claims();
        })
    }

    /// Sets or clears a mask bit from a side channel ([`msix_core::Function::set_mask`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn set_mask(&self, vector: Vector, masked: bool) -> Result<(), VectorError> {
        self.shared.input(|engine, fx| engine.set_mask(vector, masked, fx))
    }

    /// Sets a message from a side channel ([`msix_core::Function::set_message`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn set_message(&self, vector: Vector, message: Message) -> Result<(), VectorError> {
        self.shared.with(|locked| {
            let set = locked.input(|engine, fx| engine.set_message(vector, message, fx));
            locked.compare(MessageMode::MsiX, vector.index());
            set
        })
    }
}
