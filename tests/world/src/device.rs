//! A passed-through device as VFIO lets it be seen (D1 to D8, D12, D16): three indices, one at a time.

use crate::input::Call;
use crate::outside::{Outside, Shared};
use msix_backends::eventfd::with;
use msix_backends::kvm::{DeviceControl, PhysicalIntx};
use msix_backends::vfio::Irqs;
use msix_core::Mode;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

const EINVAL: i32 = 22;

/// The device.
#[derive(Debug, Default)]
pub(crate) struct Device {
    /// Vectors of MSI and of MSI-X.
    pub(crate) vectors: u32,
    /// The kernel cannot bind more vectors of MSI-X than it did at first (D6).
    pub(crate) noresize: bool,
    /// Vectors that the host can have for MSI.
    pub(crate) available_msi: u32,
    /// The index that is active (D2).
    pub(crate) enabled: Option<Mode>,
    allocated: u32,
    pub(crate) bound: BTreeMap<u32, Arc<EventFd>>,
    /// Its own pending bits (D8).
    pub(crate) pending: BTreeSet<u32>,
    /// Events that were dropped with their index (D8).
    pub(crate) dropped: BTreeSet<u32>,
    /// Copies of what was bound, ever, and the number by which the function has it.
    known: BTreeMap<u32, (RawFd, Arc<EventFd>)>,
    trigger: Option<EventFd>,
    unmask: Option<EventFd>,
    /// The line fired and was not unmasked (D12).
    pub(crate) masked: bool,
    /// The device asserts its line.
    pub(crate) asserts: bool,
    /// INTx is not disabled when it should be.
    pub(crate) is_deaf: bool,
}

impl Device {
    /// The device has an event. Returns the vector as which the active index carries it.
    pub(crate) fn raise(&mut self, vector: u32) -> Option<u32> {
        match self.enabled {
            Some(Mode::MsiX) => {
                match self.bound.get(&vector) {
                    Some(eventfd) => _ = eventfd.write(1),
                    None => _ = self.pending.insert(vector),
                }
                Some(vector)
            }
            // The kernel told the device to have as many vectors as it has: a power of two.
            Some(Mode::Msi) => {
                let vector = vector % self.allocated.max(1);
                self.bound.get(&vector)?.write(1).ok()?;
                Some(vector)
            }
            _ => None,
        }
    }

    pub(crate) fn run(&mut self) {
        if self.unmask.as_ref().is_some_and(|unmask| unmask.read().is_ok()) {
            self.masked = false;
        }
        if let Some(trigger) = self.trigger.as_ref().filter(|_| self.asserts && !self.masked) {
            let _ = trigger.write(1);
            self.masked = true;
        }
    }

    /// The eventfd that `vector` had last, by the function's number and a copy.
    pub(crate) fn eventfd(&self, vector: u32) -> Option<(RawFd, &EventFd)> {
        self.known.get(&vector).map(|(number, eventfd)| (*number, &**eventfd))
    }

    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }

    /// What tells two states of it apart.
    pub(crate) fn state(&self) -> impl std::fmt::Debug + use<> {
        (
            (self.enabled, self.allocated, self.pending.clone(), self.masked, self.asserts),
            (self.bound.keys().copied().collect::<Vec<_>>(), self.unmask.is_some()),
        )
    }

    /// The same, for a number.
    pub(crate) fn hash_state(&self, hasher: &mut impl Hasher) {
        (self.enabled, self.allocated, &self.pending, self.masked, self.asserts).hash(hasher);
        self.bound.keys().for_each(|vector| vector.hash(hasher));
        self.unmask.is_some().hash(hasher);
    }

    fn disable(&mut self) {
        self.enabled = None;
        self.allocated = 0;
        self.bound.clear();
        self.dropped.append(&mut self.pending); // D8
        (self.trigger, self.unmask, self.masked) = (None, None, false);
    }
}

impl Outside {
    /// Another index is active (D2).
    fn is_taken(&self, mode: Mode) -> bool {
        self.device.enabled.is_some_and(|enabled| enabled != mode)
    }

    fn set_vectors(
        &mut self,
        mode: Mode,
        start: u32,
        fds: &[Option<BorrowedFd<'_>>],
    ) -> io::Result<u32> {
        let end = start + fds.len() as u32;
        let fails = self.call(Call::SetIrqs);
        if fds.is_empty() || end > self.device.vectors || start >= self.device.vectors {
            self.broke(format!("D1: vectors {start} to {end}"));
            return Err(invalid());
        }
        if self.is_taken(mode) {
            return Err(invalid());
        }
        let device = &mut self.device;
        let available = if mode == Mode::Msi { device.available_msi } else { device.vectors };
        if device.enabled.is_none() {
            fails?;
            if end > available {
                // D3; a kernel that has none says so.
                return if available > 0 { Ok(available) } else { Err(no_space()) };
            }
            (device.enabled, device.allocated) = (Some(mode), end);
        } else if device.noresize && end > device.allocated {
            self.broke("D16: more vectors at a kernel that cannot grow");
            return Err(invalid());
        } else if end > available {
            return Err(no_space());
        } else if fails.is_err() {
            (start..end).for_each(|vector| _ = device.bound.remove(&vector)); // D4
            return Err(io::Error::from_raw_os_error(12));
        }
        device.allocated = device.allocated.max(end);
        for (vector, eventfd) in (start..).zip(fds) {
            device.bound.remove(&vector);
            let Some(eventfd) = eventfd else { continue };
            let number = eventfd.as_raw_fd();
            let eventfd = match device.known.get(&vector) {
                Some((known, eventfd)) if *known == number => Arc::clone(eventfd),
                _ => Arc::new(with(*eventfd, EventFd::try_clone)?),
            };
            device.bound.insert(vector, Arc::clone(&eventfd));
            device.known.insert(vector, (number, Arc::clone(&eventfd)));
            if device.pending.remove(&vector) {
                eventfd.write(1)?; // D8
            }
        }
        Ok(0)
    }

    fn disable_index(&mut self, mode: Mode) -> io::Result<()> {
        // Elsewhere only a device that is gone refuses.
        let fails =
            if mode == Mode::MsiX { self.call(Call::Disable) } else { self.call_that_works() };
        if self.device.enabled != Some(mode) {
            return Err(invalid()); // D5
        }
        fails?;
        self.device.disable();
        Ok(())
    }
}

fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(EINVAL)
}

/// The MSI-X or the MSI index.
#[derive(Debug)]
pub(crate) struct VectorIndex(pub(crate) Shared, pub(crate) Mode);

impl Irqs for VectorIndex {
    fn set(&self, start: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> io::Result<u32> {
        self.0.lock().set_vectors(self.1, start, eventfds)
    }

    fn unset(&self, vectors: Range<u32>) -> io::Result<()> {
        let fds = vec![None; vectors.len()];
        self.0.lock().set_vectors(self.1, vectors.start, &fds).map(drop)
    }

    fn disable(&self) -> io::Result<()> {
        self.0.lock().disable_index(self.1)
    }
}

impl PhysicalIntx for Shared {
    fn enable(&mut self, trigger: BorrowedFd<'_>) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::SetIrqs)?;
        if outside.is_taken(Mode::Intx) {
            return Err(invalid());
        }
        outside.device.enabled = Some(Mode::Intx);
        outside.device.trigger = Some(with(trigger, EventFd::try_clone)?);
        Ok(())
    }

    fn unmask_by(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let mut outside = self.lock();
        outside.call(Call::SetIrqs)?;
        outside.device.unmask = Some(with(eventfd, EventFd::try_clone)?);
        Ok(())
    }

    fn unmask(&mut self) {
        let mut outside = self.lock();
        outside.calls += 1;
        outside.device.masked = false;
        outside.run();
    }

    fn disable(&mut self) {
        let mut outside = self.lock();
        if !outside.device.is_deaf {
            let _ = outside.disable_index(Mode::Intx);
        }
    }
}

impl DeviceControl for Shared {
    fn set_mappings(&mut self, _: bool) {
        self.lock().calls += 1;
    }

    fn reset_device(&mut self) {
        let mut outside = self.lock();
        outside.calls += 1;
        if outside.device.enabled.is_some() && outside.failed.is_empty() {
            outside.broke("A13: the device was reset while an index was active");
        }
        outside.device.pending.clear();
        outside.device.asserts = false;
    }
}
