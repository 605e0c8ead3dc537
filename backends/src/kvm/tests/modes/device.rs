//! A device that behaves as VFIO says one does, and the VMM of its function.

use super::super::Bug;
use crate::Route;
use crate::eventfd::{take, with};
use crate::kvm::{
    DeviceControl, GuestPin, IndexState, PhysicalIntx, PhysicalMsi, PhysicalMsix, Platform,
    Resampling,
};
use msix_core::{Mode, Vector};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// One index of the device at a time (D2).
#[derive(Debug, Default)]
pub(super) struct DeviceState {
    pub(super) enabled: Option<Mode>,
    pub(super) bound: BTreeMap<u16, Arc<EventFd>>,
    /// The line's eventfds: trigger, and what unmasks it.
    pub(super) trigger: Option<EventFd>,
    pub(super) unmask: Option<EventFd>,
    /// It fired and was not unmasked (D12).
    pub(super) masked: bool,
    /// The device asserts.
    pub(super) asserts: bool,
    /// MSI vectors the kernel has.
    pub(super) available: u16,
    pub(super) log: Vec<String>,
    /// The guest's irqchip: the resampled line's eventfds.
    pub(super) resampled: Option<(EventFd, EventFd)>,
    /// KVM's view of the line.
    pub(super) kernel_line: bool,
    /// Calls that may fail, so far, and the one that does.
    pub(super) calls: usize,
    pub(super) failing: Option<usize>,
    /// That one panics instead.
    pub(super) bug: Option<Bug>,
}

impl DeviceState {
    fn enable(&mut self, mode: Mode) -> bool {
        assert!(self.enabled.is_none() || self.enabled == Some(mode), "D2: {:?}", self.enabled);
        self.enabled = Some(mode);
        true
    }

    /// Whether this call fails.
    fn fails(&mut self) -> bool {
        self.calls += 1;
        let fails = self.failing == Some(self.calls - 1);
        if let Some(bug) = self.bug.as_ref().filter(|_| fails) {
            bug.panic();
        }
        fails
    }

    fn disable(&mut self, mode: Mode) {
        assert!(self.enabled.is_none() || self.enabled == Some(mode), "D2: {:?}", self.enabled);
        self.enabled = None;
        self.bound.clear();
        (self.trigger, self.unmask, self.masked) = (None, None, false);
    }

    /// What the kernel does by itself: the line's way there and back.
    pub(super) fn run(&mut self) {
        if let Some(unmask) = &self.unmask
            && take(unmask)
        {
            self.masked = false;
        }
        if self.asserts
            && !self.masked
            && let Some(trigger) = &self.trigger
        {
            trigger.write(1).unwrap();
            self.masked = true;
        }
        if let Some((trigger, _)) = &self.resampled
            && take(trigger)
        {
            self.kernel_line = true;
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Device(Arc<Mutex<DeviceState>>);

impl Device {
    pub(super) fn state(&self) -> MutexGuard<'_, DeviceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device raises a vector of the index that is enabled.
    pub(super) fn raise(&self, vector: u16) {
        let state = self.state();
        assert!(matches!(state.enabled, Some(Mode::Msi | Mode::MsiX)), "{:?}", state.enabled);
        state.bound[&vector].write(1).unwrap();
    }

    /// The device asserts its line, or not.
    pub(super) fn line(&self, asserts: bool) {
        let mut state = self.state();
        state.asserts = asserts;
        state.run();
    }

    /// The guest acknowledges a line that KVM drives.
    pub(super) fn kernel_eoi(&self) {
        let mut state = self.state();
        state.kernel_line = false;
        state.resampled.as_ref().unwrap().1.write(1).unwrap();
        state.run();
    }
}

impl PhysicalMsix for Device {
    fn set_enabled(&mut self, enabled: bool) {
        let mut state = self.state();
        if enabled {
            state.enable(Mode::MsiX);
        } else {
            state.disable(Mode::MsiX);
        }
    }

    fn bind(
        &mut self,
        vectors: &[Vector],
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> Vec<Vector> {
        if self.state().fails() {
            return vectors.to_vec();
        }
        for &vector in vectors {
            let made = eventfd(vector).unwrap();
            let mut state = self.state();
            state.enable(Mode::MsiX);
            state.bound.insert(vector.index(), made);
        }
        Vec::new()
    }

    fn unused(&mut self, _: &[Vector]) {}

    fn hand_over(&mut self) -> IndexState {
        IndexState::Unknown
    }
}

impl PhysicalMsi for Device {
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16 {
        let count = if self.state().fails() { 0 } else { vectors.min(self.state().available) };
        for vector in 0..count {
            let made = eventfd(Vector::new(vector)).unwrap();
            self.state().bound.insert(vector, made);
        }
        if count > 0 {
            self.state().enable(Mode::Msi);
        }
        count
    }

    fn disable(&mut self) {
        self.state().disable(Mode::Msi);
    }
}

impl PhysicalIntx for Device {
    fn enable(&mut self, trigger: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state();
        if state.fails() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        assert_ne!(state.enabled, Some(Mode::Intx), "enabled anew without its unmasking eventfd");
        state.enable(Mode::Intx);
        state.trigger = Some(with(trigger, EventFd::try_clone)?);
        state.run();
        Ok(())
    }
    fn unmask_by(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state();
        if state.fails() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        state.unmask = Some(with(eventfd, EventFd::try_clone)?);
        Ok(())
    }
    fn unmask(&mut self) {
        let mut state = self.state();
        state.masked = false;
        state.run();
    }
    fn disable(&mut self) {
        self.state().disable(Mode::Intx);
    }
}

impl Resampling for Device {
    fn assign(
        &self,
        trigger: BorrowedFd<'_>,
        resample: BorrowedFd<'_>,
        gsi: u32,
    ) -> io::Result<()> {
        assert_eq!(gsi, 10);
        if self.state().fails() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.state().resampled =
            Some((with(trigger, EventFd::try_clone)?, with(resample, EventFd::try_clone)?));
        Ok(())
    }
    fn deassign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        let mut state = self.state();
        assert!(state.resampled.take().is_some());
        state.kernel_line = false;
        Ok(())
    }
}

impl Platform for Device {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.state().log.push(format!("write {address:#x} {data:#x}"));
    }
    fn snoop(&mut self, route: Route) {
        self.state().log.push(format!("snoop {route:?}"));
    }
}

impl GuestPin for Device {
    fn set_level(&mut self, asserted: bool) {
        self.state().log.push(format!("line {asserted}"));
    }
}

impl DeviceControl for Device {
    fn set_mappings(&mut self, mapped: bool) {
        self.state().log.push(format!("mapped {mapped}"));
    }
    fn reset_device(&mut self) {
        let mut state = self.state();
        assert_eq!((state.enabled, state.bound.len()), (None, 0), "nothing is bound");
        state.asserts = false;
        state.log.push("reset".to_owned());
    }
}
