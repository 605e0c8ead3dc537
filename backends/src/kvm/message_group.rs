//! Interrupts that have messages and no table.

use super::function::{Function, Notifier};
use super::gsis::GsiTaken;
use super::host::VectorHost;
use super::message::Format;
use super::platform::Platform;
use super::routes::Routes;
use super::setup::{EventfdOrigin, FunctionError, FunctionSetup, SendingThread};
use msix_core::{BarIndex, Delivery, Layout, Message, Mode, Policy, Vector, VectorError};
use std::sync::Arc;
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// The setup of a [`MessageGroup`].
#[derive(Debug, Clone)]
pub struct MessageGroupSetup<P> {
    /// How many interrupts, 1 to 2048.
    pub interrupts: u16,
    /// The GSI of interrupt 0, which the others follow; `None` gives them any
    /// ([`RouteOptions::gsis`](super::RouteOptions::gsis)). The pins of an I/O APIC in the VMM need
    /// theirs: with a split irqchip, KVM looks for level-triggered messages at the GSIs of its pins to
    /// know which EOIs it must report.
    pub first_gsi: Option<u32>,
    /// How messages are encoded for KVM.
    pub format: Format,
    /// The origin of the eventfds.
    pub eventfds: EventfdOrigin,
    /// The thread that sends for a [`Notifier`] what KVM does not.
    pub sender: SendingThread,
    /// The VMM's own part.
    pub platform: P,
}

impl<P> MessageGroupSetup<P> {
    /// Makes a setup with any GSIs, the default format, and eventfds of its own.
    #[must_use]
    pub fn new(interrupts: u16, platform: P) -> Self {
        Self {
            interrupts,
            first_gsi: None,
            format: Format::default(),
            eventfds: EventfdOrigin::Own,
            sender: SendingThread::Caller,
            platform,
        }
    }
}

/// Why a [`MessageGroup`] cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageGroupError {
    /// It would have no interrupt, or more than 2048.
    #[error("{0} interrupts: a group has 1 to 2048")]
    Interrupts(u16),
    /// It cannot have its GSIs.
    #[error(transparent)]
    Gsi(#[from] GsiTaken),
    /// It cannot be made.
    #[error(transparent)]
    Function(#[from] FunctionError),
}

/// Interrupts that have a message each and no table that the guest writes: the pins of an I/O APIC in
/// the VMM, the comparators of an HPET, plain MSIs of platform devices. They share the route table of
/// the VM with all functions, and everything else with a [`Function`]: deferred commits, irqfds,
/// KVM_SIGNAL_MSI until those are there, and notifiers. The VMM says what the message is and whether
/// the interrupt is masked, as its own registers do.
///
/// All interrupts are masked at first. An event of a masked one pends, and is sent at the unmask;
/// where the hardware would drop it, do not notify, or [`withdraw`](Self::withdraw) before the unmask.
/// Registers are the VMM's to save: after a restore it calls [`update`](Self::update) again.
pub struct MessageGroup<P: Platform> {
    function: Function<P>,
}

impl<P: Platform> Clone for MessageGroup<P> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone() }
    }
}

impl<P: Platform + 'static> MessageGroup<P> {
    /// Makes a group of masked interrupts.
    ///
    /// # Errors
    /// [`MessageGroupError`].
    pub fn new(
        routes: &Arc<Routes>,
        setup: MessageGroupSetup<P>,
    ) -> Result<Self, MessageGroupError> {
        let interrupts = setup.interrupts;
        let number = MessageGroupError::Interrupts(interrupts);
        let bar = BarIndex::new(0).map_err(|_| number)?;
        let layout = Layout::exclusive_bar(interrupts.into(), bar).map_err(|_| number)?;
        let mut host = VectorHost::new(routes, interrupts, 0, setup.format)?;
        if let Some(first) = setup.first_gsi {
            host.fix_gsis(first)?;
        }
        let setup = FunctionSetup {
            msix: Some(layout),
            policy: Policy::SPEC,
            format: setup.format,
            eventfds: setup.eventfds,
            sender: setup.sender,
            ..FunctionSetup::new(setup.platform)
        };
        let function = Function::on_host(routes, setup, host);
        for interrupt in (0..interrupts).map(Vector::new) {
            // Of the table, with no claim so far.
            let _ = function.claim(interrupt);
        }
        let group = Self { function };
        group.enable();
        Ok(group)
    }

    /// Makes the side of the group that a device's thread uses without owning it.
    ///
    /// # Errors
    /// Those of [`Function::notifier`].
    pub fn notifier(&self) -> io::Result<Notifier> {
        self.function.notifier()
    }
}

impl<P: Platform> MessageGroup<P> {
    /// Follows the VMM's registers of an interrupt: its message, and whether it is masked. A live
    /// message is replaced in place.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn update(
        &self,
        interrupt: Vector,
        message: Message,
        masked: bool,
    ) -> Result<(), VectorError> {
        if masked {
            self.function.set_mask(interrupt, true)?;
        }
        self.function.set_message(interrupt, message)?;
        self.function.set_mask(interrupt, masked)
    }

    /// Takes an event ([`Function::notify`]).
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn notify(&self, interrupt: Vector) -> Result<Delivery, VectorError> {
        self.function.notify(interrupt)
    }

    /// Withdraws a pending event. Nothing can be withdrawn from KVM. Returns whether there was one.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`].
    pub fn withdraw(&self, interrupt: Vector) -> Result<bool, VectorError> {
        self.function.withdraw(Mode::MsiX, interrupt)
    }

    /// Returns the eventfd of an interrupt ([`Function::eventfd`]).
    ///
    /// # Errors
    /// Those of `eventfd2`; `InvalidInput` past the interrupts.
    pub fn eventfd(&self, interrupt: Vector) -> io::Result<Arc<EventFd>> {
        self.function.eventfd(interrupt)
    }

    /// Makes all eventfds now ([`Function::make_eventfds`]).
    ///
    /// # Errors
    /// Those of `eventfd2`.
    pub fn make_eventfds(&self) -> io::Result<()> {
        self.function.make_eventfds()
    }

    /// Connects an interrupt to an eventfd that was made elsewhere ([`Function::connect`]).
    ///
    /// # Errors
    /// Those of [`Function::connect`].
    pub fn connect(&self, interrupt: Vector, eventfd: EventFd) -> io::Result<()> {
        self.function.connect(interrupt, eventfd)
    }

    /// Connects an interrupt to another eventfd than before ([`Function::reconnect`]).
    ///
    /// # Errors
    /// Those of [`Function::reconnect`].
    pub fn reconnect(&self, interrupt: Vector, eventfd: EventFd) -> io::Result<()> {
        self.function.reconnect(interrupt, eventfd)
    }

    /// Masks all interrupts and drops what is pending, as a reset of the machine does.
    pub fn reset(&self) {
        self.function.reset();
        self.enable();
    }

    /// Commits and arms what waits of this group ([`Function::flush`]).
    pub fn flush(&self) {
        self.function.flush();
    }

    /// Calls `look` with the VMM's own part ([`Function::platform`]).
    pub fn platform<T>(&self, look: impl FnOnce(&mut P) -> T) -> T {
        self.function.platform(look)
    }

    /// Lets messages go out, as a driver does: bus master and MSI-X.
    fn enable(&self) {
        self.function.write_command(0, &[0x06, 0x00]);
        self.function.write_msix(2, &[0x00, 0x80]);
    }
}

impl<P: Platform> fmt::Debug for MessageGroup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageGroup").field("function", &self.function).finish()
    }
}
