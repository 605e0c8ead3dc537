//! The setup of a function.

use super::assigned_line::AssignedLine;
use super::message::Format;
use super::physical::{PhysicalMsi, PhysicalMsix};
use super::platform::{DeviceControl, GuestPin};
use msix_core::{Layout, MsiCapability, Policy};
use std::fmt;
use std::time::Duration;

/// The parts of a [`Function`](super::Function), and what it works with.
///
/// # Calls to the VMM
/// A function calls its [`Platform`](super::Platform), [`GuestPin`] and [`DeviceControl`] when its lock
/// is gone, one at a time and in the order of the effects. So a call may use any function, the one that
/// makes it among them: dispatch a message on the VMM's bus, where it may be a write of the function's
/// own table, or wait for another thread that uses functions. What such a use queues is called later,
/// after the present call. Only [`Function::platform`](super::Function::platform) panics there, because
/// the platform is in use.
///
/// Outside of calls, an input has made its calls when it returns. If another thread is making calls of
/// the same function at the time, that one makes these as well, and the input does not wait for it. One
/// input makes as many calls as were queued when it was done, and 64 more: messages that unmask each
/// other without end, or a device that answers its own, go on when the loop of the
/// [`Routes`](super::Routes) flushes next. A vector has one message in the queue, and one that is queued
/// was sent: it arrives although the vector is masked meanwhile (H24).
///
/// A panic in a call stops nothing: the other calls are made, then it goes on in the input. A VMM must
/// not need in a call a lock that it holds while it uses a function.
///
/// The traits that stand for the kernel and the device ([`Vm`](super::Vm), [`PhysicalMsix`],
/// [`PhysicalMsi`], [`PhysicalIntx`](super::PhysicalIntx), [`Resampling`](super::Resampling)) answer at
/// once, in an order that the kernel asks for (K6, D2). They are called under the lock: they must not
/// use a function or its routes, nor wait for a thread that does. A panic of one is a failure of the call:
/// events take another way, and what can be is tried again; the panic goes on in the input when that is done.
///
/// ```
/// # use msix_backends::{Route, kvm::{Platform, FunctionSetup}};
/// # struct Vmm;
/// # impl Platform for Vmm {
/// #     fn write_memory(&mut self, _: u64, _: u32) {}
/// #     fn snoop(&mut self, _: Route) {}
/// # }
/// use msix_core::{BarIndex, Layout, MsiCapability};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = Layout::exclusive_bar(4, BarIndex::new(1)?)?;
/// let msix_alone = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) };
/// let both = FunctionSetup { msi: Some(MsiCapability::new(4)?), msix: Some(layout), ..FunctionSetup::new(Vmm) };
/// # Ok(())
/// # }
/// ```
pub struct FunctionSetup<P> {
    /// The MSI capability, if the function has one.
    pub msi: Option<MsiCapability>,
    /// MSI-X with its table and PBA, if the function has it.
    pub msix: Option<Layout>,
    /// The interrupt pin at the guest's interrupt controller, if the function has one.
    pub pin: Option<Box<dyn GuestPin>>,
    /// The choices that the specification leaves open, for all parts.
    pub policy: Policy,
    /// How messages are encoded for KVM.
    pub format: Format,
    /// The origin of the vectors' eventfds.
    pub eventfds: EventfdOrigin,
    /// The thread that sends for a [`Notifier`](super::Notifier) what KVM does not.
    pub sender: SendingThread,
    /// The real device behind a passed-through function; `None` behind an emulated one.
    pub device: Option<PassedThrough>,
    /// The VMM's own part.
    pub platform: P,
}

impl<P> FunctionSetup<P> {
    /// Makes a setup without any part, with [`Policy::SPEC`], the default format, eventfds of its
    /// own, and no device.
    #[must_use]
    pub fn new(platform: P) -> Self {
        Self {
            msi: None,
            msix: None,
            pin: None,
            policy: Policy::SPEC,
            format: Format::default(),
            eventfds: EventfdOrigin::Own,
            sender: SendingThread::Caller,
            device: None,
            platform,
        }
    }
}

/// Why a function cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// The VM's interrupt controller takes messages with a device id alone, and the format has none: no
    /// interrupt would ever arrive (K15).
    #[error("the VM's interrupt controller needs the device id of every message: Format::device")]
    NoDeviceId,
}

/// The origin of the eventfds of a function's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventfdOrigin {
    /// The function makes them, when first needed.
    #[default]
    Own,
    /// They are made elsewhere: each is given to [`connect`](super::Function::connect) when it
    /// exists, which may be before or after the guest unmasks the vector, or never (E5, E8).
    Connected,
}

/// The thread that acts on an event which a [`Notifier`](super::Notifier) took and which KVM does not
/// deliver by itself: while the route waits, the vector is masked, or others hold the eventfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendingThread {
    /// The one that notifies. It takes locks, and may make KVM_SIGNAL_MSI and the VMM's own calls.
    #[default]
    Caller,
    /// The one that runs the loop of the [`Routes`](super::Routes), or one that uses the function before
    /// that. The one that notifies makes at most two calls of `write` for an event, one of them to wake
    /// the loop, and no other system call. It takes no lock and never waits.
    Loop,
}

/// A real device behind a function. It may raise any of its vectors, so the function claims them
/// all.
pub struct PassedThrough {
    /// Its MSI-X.
    pub msix: Option<Box<dyn PhysicalMsix>>,
    /// Its MSI.
    pub msi: Option<Box<dyn PhysicalMsi>>,
    /// Its INTx, which drives the function's pin.
    pub line: Option<AssignedLine>,
    /// How long BARs stay unmapped after an interrupt that userspace brought to the guest's pin.
    pub quiet: Duration,
    /// The VMM's control of the device, besides its interrupts.
    pub control: Box<dyn DeviceControl>,
}

impl PassedThrough {
    /// Makes a device without any interrupt.
    #[must_use]
    pub fn new(control: Box<dyn DeviceControl>) -> Self {
        Self { msix: None, msi: None, line: None, quiet: Duration::ZERO, control }
    }
}

impl fmt::Debug for PassedThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassedThrough").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for FunctionSetup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionSetup")
            .field("msi", &self.msi)
            .field("msix", &self.msix)
            .field("pin", &self.pin.is_some())
            .field("eventfds", &self.eventfds)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
