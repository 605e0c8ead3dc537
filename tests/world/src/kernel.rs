//! KVM as the rules say it behaves (K1, K2, K4 to K9, K12): routes, irqfds, resampling irqfds, messages.

use crate::input::Call;
use crate::naive::ADDRESS;
use crate::outside::{Shared, is_readable};
use msix_backends::eventfd::with;
use msix_backends::kvm::{Gicv2mFrame, KvmMessage, Resampling, RouteEntry, Vm};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

const EINVAL: i32 = 22;
const EBUSY: i32 = 16;
/// The first GSI that is no pin's.
const PINS: u32 = 24;
/// The GSI of the function's pin.
pub(crate) const PIN_GSI: u32 = 10;

/// The frame of functions that have one: all SPIs, by messages to [`ADDRESS`].
pub(crate) const FRAME: Gicv2mFrame =
    Gicv2mFrame { address: ADDRESS as u64 - 0x40, first: 32, count: 988 };

/// The message that raises an SPI.
fn to_frame(spi: u32) -> (u64, u32) {
    (ADDRESS.into(), spi + 32)
}

/// Whether a message raises none, although it goes to the frame.
pub(crate) fn is_nobodys((address, data): (u64, u32)) -> bool {
    address == u64::from(ADDRESS) && data < FRAME.first
}

#[derive(Debug)]
pub(crate) struct Irqfd {
    eventfd: Arc<EventFd>,
    gsi: u32,
    /// What the eventfd held when it was assigned was injected then, and stays readable (K7).
    residue: u64,
}

/// The VM's side.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) routes: BTreeMap<u32, (u64, u32)>,
    irqfds: BTreeMap<RawFd, Irqfd>,
    /// The eventfds of the resampled pin: trigger and resample.
    resampled: Option<(EventFd, EventFd)>,
    /// Copies of the eventfds that were assigned, ever.
    known: BTreeMap<RawFd, Arc<EventFd>>,
    /// It has local APICs alone.
    pub(crate) is_split: bool,
    /// The routes of the I/O APIC that is in userspace then.
    pub(crate) kept: Vec<RouteEntry>,
    /// Events that were injected without a route are gone (K5).
    pub(crate) lost: usize,
    /// An irqfd that is taken back goes on delivering, for a defect.
    pub(crate) is_clinging: bool,
    /// Those that do.
    pub(crate) ghosts: Vec<Irqfd>,
    /// A route that was committed is never updated, for a defect.
    pub(crate) is_stubborn: bool,
}

impl Kernel {
    /// Takes the events of assigned eventfds.
    pub(crate) fn pump(&mut self, sent: &mut Vec<(u64, u32)>) {
        for irqfd in self.irqfds.values_mut().chain(&mut self.ghosts) {
            let Ok(count) = irqfd.eventfd.read() else { continue };
            if count > irqfd.residue {
                irqfd.residue = 0;
                match self.routes.get(&irqfd.gsi) {
                    Some(&message) => sent.push(message),
                    None => self.lost += 1,
                }
            } else {
                irqfd.residue = count;
                let _ = irqfd.eventfd.write(count);
            }
        }
    }

    /// Whether the resampled pin was triggered.
    pub(crate) fn take_line(&mut self) -> bool {
        self.resampled.as_ref().is_some_and(|(trigger, _)| trigger.read().is_ok())
    }

    /// The guest's EOI of the resampled pin.
    pub(crate) fn resample(&self) {
        if let Some((_, resample)) = &self.resampled {
            let _ = resample.write(1);
        }
    }

    /// irqfds there are, of both kinds.
    pub(crate) fn armed(&self) -> usize {
        self.irqfds.len() + usize::from(self.resampled.is_some())
    }

    /// GSIs with irqfds.
    pub(crate) fn assigned(&self) -> Vec<(u32, bool)> {
        let mut all: Vec<_> = self.irqfds.values().map(|i| (i.gsi, i.residue > 0)).collect();
        all.sort_unstable();
        all
    }

    /// What tells two states of it apart. Eventfds are told apart by their GSIs.
    pub(crate) fn hash_state(&self, hasher: &mut impl Hasher) {
        self.routes.hash(hasher);
        self.assigned().hash(hasher);
        self.resampled.is_some().hash(hasher);
        self.kept.len().hash(hasher);
        self.holds().hash(hasher);
    }

    /// Whether the eventfd is assigned: then it holds nothing that was not injected.
    pub(crate) fn is_assigned(&self, fd: RawFd) -> bool {
        self.irqfds.contains_key(&fd)
    }

    /// Whether an eventfd that was assigned once, and is not now, holds something.
    pub(crate) fn holds(&self) -> bool {
        let free = self.known.iter().filter(|(fd, _)| !self.irqfds.contains_key(fd));
        free.map(|(_, eventfd)| &**eventfd).any(is_readable)
    }

    /// What the eventfds that are not assigned hold is taken; it can be given back.
    pub(crate) fn hide(&self) -> Vec<Arc<EventFd>> {
        let free = self.known.iter().filter(|(fd, _)| !self.irqfds.contains_key(fd));
        free.filter(|(_, eventfd)| eventfd.read().is_ok())
            .map(|(_, eventfd)| Arc::clone(eventfd))
            .collect()
    }

    /// The process that had all this is gone.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Vm for Shared {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::Commit)?;
        let msi = |entry: &RouteEntry| match *entry {
            RouteEntry::Msi { gsi, msi } => {
                Some((gsi, (u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo), msi.data)))
            }
            RouteEntry::Pin { gsi, pin, .. } => Some((gsi, to_frame(pin))),
        };
        let is_pin = |entry: &&RouteEntry| {
            let gsi = match **entry {
                RouteEntry::Msi { gsi, .. } | RouteEntry::Pin { gsi, .. } => gsi,
            };
            gsi < PINS
        };
        let pins: Vec<RouteEntry> = routes.iter().filter(is_pin).copied().collect();
        let kernel = &outside.kernel;
        if if kernel.is_split { pins != kernel.kept } else { pins.len() != 40 } {
            outside.broke("K1: the pins' routes are gone");
        }
        let vectors = routes.iter().filter(|entry| !is_pin(entry));
        let mut new: BTreeMap<u32, (u64, u32)> = vectors.filter_map(msi).collect();
        if outside.kernel.is_stubborn {
            for (gsi, message) in &mut new {
                *message = outside.kernel.routes.get(gsi).copied().unwrap_or(*message);
            }
        }
        if new.len() + pins.len() != routes.len() {
            outside.broke("K2: a GSI twice");
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        if outside.kernel.irqfds.values().any(|irqfd| !new.contains_key(&irqfd.gsi)) {
            outside.broke("K6: a route was removed under an irqfd");
        }
        outside.kernel.routes = new;
        Ok(())
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::Assign)?;
        if !outside.kernel.routes.contains_key(&gsi) {
            outside.broke("K6: assigned before its route was committed");
        }
        let fd = eventfd.as_raw_fd();
        let kernel = &mut outside.kernel;
        if kernel.irqfds.contains_key(&fd) {
            outside.broke("K4: the eventfd has an irqfd already");
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        let copy = match kernel.known.get(&fd) {
            Some(known) => Arc::clone(known),
            None => Arc::new(with(eventfd, EventFd::try_clone)?),
        };
        let residue = copy.read().unwrap_or(0);
        if residue > 0 {
            copy.write(residue)?; // K7
        }
        kernel.known.insert(fd, Arc::clone(&copy));
        let message = kernel.routes.get(&gsi).copied();
        kernel.irqfds.insert(fd, Irqfd { eventfd: copy, gsi, residue });
        if residue > 0 {
            match message {
                Some(message) => outside.controller.sent.push(message),
                None => kernel.lost += 1,
            }
        }
        Ok(())
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::Deassign)?;
        match outside.kernel.irqfds.remove(&eventfd.as_raw_fd()) {
            Some(irqfd) => {
                let _ = irqfd.eventfd.read(); // K9
                if irqfd.gsi != gsi {
                    outside.broke("K9: deassigned from another GSI");
                    outside.kernel.irqfds.insert(eventfd.as_raw_fd(), irqfd);
                } else if outside.kernel.is_clinging {
                    outside.kernel.ghosts.push(irqfd);
                }
            }
            None => outside.broke("K9: deassigned what was not assigned"),
        }
        Ok(())
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        self.send((u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo), msi.data))
    }

    fn pulse_spi(&self, spi: u32) -> io::Result<bool> {
        self.send(to_frame(spi))
    }
}

impl Shared {
    fn send(&self, message: (u64, u32)) -> io::Result<bool> {
        let mut outside = self.lock();
        let called = outside.call(Call::Signal);
        match called {
            Ok(()) => outside.controller.sent.push(message),
            Err(_) => outside.unsent = Some(message),
        }
        called.map(|()| true)
    }
}

impl Resampling for Shared {
    fn assign(
        &self,
        trigger: BorrowedFd<'_>,
        resample: BorrowedFd<'_>,
        gsi: u32,
    ) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::Resample)?;
        if outside.kernel.is_split {
            return Err(io::Error::from_raw_os_error(EINVAL)); // K12
        }
        if gsi != PIN_GSI || outside.kernel.resampled.is_some() {
            outside.broke("K4: the pin has a resampling irqfd already");
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        outside.kernel.resampled =
            Some((with(trigger, EventFd::try_clone)?, with(resample, EventFd::try_clone)?));
        Ok(())
    }

    fn deassign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call_that_works()?; // only a VM that is gone refuses
        if outside.kernel.resampled.take().is_none() {
            outside.broke("K9: the pin had no resampling irqfd");
        }
        outside.controller.line = false;
        Ok(())
    }
}
