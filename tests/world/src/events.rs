//! Events and claims of the device, of others, and the guest's EOI.

use crate::defect::Defect;
use crate::naive::Mode;
use crate::outside::is_readable;
use crate::platform::give_back;
use crate::world::{Producer, Violation, World, violated};
use msix_core::{Delivery, DropReason, Vector};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

impl World {
    pub(crate) fn event(&mut self, vector: u8) -> Result<(), Violation> {
        if self.setup.is_physical() {
            let mut outside = self.outside.lock();
            if let Some(reached) = outside.device.raise(vector.into()) {
                drop(outside);
                self.fire(reached as u8, true);
            }
            return Ok(());
        }
        let index = Vector::new(vector.into());
        let delivery = if self.defect == Some(Defect::OpenGateAfterLoad)
            && self.loading
            && let Some(Producer { eventfd, .. }) = self.producers.get(usize::from(vector))
        {
            eventfd.write(1).expect("it is not full");
            Delivery::Pending
        } else {
            self.function().notify(index).map_err(|error| Violation(error.to_string()))?
        };
        let mode = self.registers.mode();
        let claimed = mode == Mode::Msi || !self.setup.msix || self.claims[usize::from(vector)] > 0;
        let right = match delivery {
            Delivery::Sent => !self.loading && claimed && self.registers.deliverable(vector),
            Delivery::Pending | Delivery::Coalesced => {
                mode != Mode::Intx
                    && claimed
                    && (self.loading || !self.registers.deliverable(vector))
            }
            Delivery::Dropped(reason) => reason == DropReason::Unclaimed && !claimed,
            Delivery::Intx => mode == Mode::Intx,
        };
        if !right {
            return violated(format!("an event of vector {vector} is {delivery:?}"));
        }
        if matches!(delivery, Delivery::Sent | Delivery::Pending | Delivery::Coalesced) {
            self.fire(vector, true);
        }
        Ok(())
    }

    pub(crate) fn produce(&mut self, vector: u8) {
        let Some(Producer { eventfd, fd }) = self.producers.get(usize::from(vector)) else {
            return;
        };
        eventfd.write(1).expect("it is not full");
        if fd.is_none() {
            return; // nobody's, before it is connected
        }
        // The events of an unclaimed vector may be dropped (C24), but KVM does not know of claims.
        let sure = !self.setup.msix || self.claims[usize::from(vector)] > 0;
        self.fire(vector, sure);
    }

    /// Connects the eventfd of somebody else, with what it holds (E8).
    pub(crate) fn connect(&mut self, vector: u8) -> Result<(), Violation> {
        let number = Vector::new(vector.into());
        let index = usize::from(vector);
        let Producer { eventfd, fd } = &self.producers[index];
        let copy = eventfd.try_clone().expect("a descriptor");
        let is_second = fd.is_some();
        let (fd, holds) = (copy.as_raw_fd(), is_readable(eventfd));
        let connected = self.function().connect(number, copy).map_err(|error| error.kind());
        match (connected, is_second) {
            (Ok(()), false) => {}
            (Err(ErrorKind::AlreadyExists), true) => return Ok(()),
            _ => {
                return violated(format!("E8: connected: {connected:?}, the second: {is_second}"));
            }
        }
        self.producers[index].fd = Some(fd);
        if holds {
            let sure = !self.setup.msix || self.claims[index] > 0;
            self.fire(vector, sure);
        }
        Ok(())
    }

    fn fire(&mut self, vector: u8, sure: bool) {
        self.owed[usize::from(vector)].fire(sure);
        self.fired = Some(vector);
    }

    pub(crate) fn withdraw(&mut self, vector: u8) {
        let mode = if self.setup.msix { Mode::MsiX } else { Mode::Msi };
        let hidden = self.hide(Defect::HeldOutlivesWithdraw);
        let withdrawn = self.function().withdraw(mode, Vector::new(vector.into()));
        give_back(&hidden);
        debug_assert!(withdrawn.is_ok(), "{withdrawn:?}");
        self.dropping.push(vector);
    }

    pub(crate) fn unclaim(&mut self, vector: u8) {
        let unclaimed = self.function().unclaim(Vector::new(vector.into()));
        debug_assert!(unclaimed.is_ok(), "{unclaimed:?}");
        self.claims[usize::from(vector)] -= 1;
        if self.claims[usize::from(vector)] == 0 {
            self.dropping.push(vector);
        }
    }

    /// The events of one mode's vector are dropped. Those that another mode has may come, and those
    /// that a host holds between a load and its resume, or could not send, and what is on its way by the loop.
    pub(crate) fn drop_owed(&mut self, vector: u8) {
        let index = usize::from(vector);
        let is_other = self.setup.msix && self.setup.msi.is_some();
        let is_on_its_way = self.registers.deliverable(vector) && self.attached;
        let owed = &mut self.owed[index];
        if self.loading || self.unsent[index] || is_other || is_on_its_way {
            owed.must = false;
        } else {
            owed.forget();
        }
    }

    pub(crate) fn eoi(&mut self) {
        {
            let mut outside = self.outside.lock();
            if std::mem::take(&mut outside.controller.line) {
                outside.kernel.resample();
            }
            outside.run();
        }
        self.function().eoi();
    }
}
