//! What a platform does: save, load, a new process, resume, reset, unplug.

use crate::defect::Defect;
use crate::kernel::PIN_GSI;
use crate::ledger::Owed;
use crate::naive::{ADDRESS, Registers};
use crate::setup::Behind;
use crate::world::{Saved, Violation, World, violated};
use msix_backends::kvm::{KvmMessage, RouteEntry};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

impl World {
    pub(crate) fn save(&mut self) {
        let hidden = self.hide(Defect::HeldNotSavedWhileDetached);
        let bytes = self.function().save();
        give_back(&hidden);
        let (registers, claims) = (self.registers.clone(), self.claims.clone());
        self.saved = Some(Arc::new(Saved { bytes, registers, claims, owed: Vec::new() }));
    }

    /// What the snapshot that was just taken owes: what is pending, once what a save sends is sent. What
    /// KVM `refused` in the save is none of it: the function here goes on trying.
    pub(crate) fn note_saved(&mut self, refused: bool) {
        let outside = self.outside.lock();
        let is_left_out =
            |v: usize| outside.device.pending.contains(&(v as u32)) || refused && self.unsent[v];
        let capabilities = u8::from(self.setup.msix) + u8::from(self.setup.msi.is_some());
        let owed = self.owed.iter().enumerate();
        let owed = owed
            .map(|(v, o)| Owed { must: o.must && !is_left_out(v), ..o.saved(capabilities) })
            .collect();
        drop(outside);
        if let Some(saved) = self.saved.as_mut().and_then(Arc::get_mut) {
            saved.owed = owed;
        }
    }

    /// Takes what eventfds hold, for a defect.
    pub(crate) fn hide(&self, defect: Defect) -> Vec<Arc<EventFd>> {
        if self.defect != Some(defect) || self.attached {
            return Vec::new();
        }
        let producers = self.producers.iter().map(|producer| &producer.eventfd);
        let producers = producers.filter(|eventfd| eventfd.read().is_ok());
        let mut hidden: Vec<_> = producers.map(Arc::clone).collect();
        hidden.extend(self.outside.lock().kernel.hide());
        hidden
    }

    pub(crate) fn load(&mut self) -> Result<(), Violation> {
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        let clings = self.defect == Some(Defect::OpenGateAfterLoad);
        self.outside.lock().kernel.is_clinging = clings;
        let loaded = self.function().load(&saved.bytes);
        self.outside.lock().kernel.is_clinging = false;
        if let Err(error) = loaded {
            return violated(format!("its own snapshot is refused: {error}"));
        }
        self.registers.clone_from(&saved.registers);
        self.claims.clone_from(&saved.claims);
        for (owed, saved) in self.owed.iter_mut().zip(saved.owed.iter().copied()) {
            owed.load(saved);
        }
        self.loading = true;
        Ok(())
    }

    pub(crate) fn new_process(&mut self) -> Result<(), Violation> {
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        self.unplug()?;
        {
            let mut outside = self.outside.lock();
            outside.kernel.forget();
            outside.kernel.kept.clear();
            outside.device.forget();
        }
        self.attached = true;
        self.tolerant = false;
        self.build();
        self.loading = false;
        self.load()?;
        // The interrupt controller is restored too, with the pin as it may have been at the save.
        let open = saved.registers.intx_open();
        self.outside.lock().controller.pin = open && self.setup.behind == Behind::Device;
        self.owed.clone_from(&saved.owed);
        self.unsent.fill(false);
        Ok(())
    }

    /// The I/O APIC of the VMM has other routes. Where KVM refuses them, it has those before.
    pub(crate) fn keep_routes(&mut self, alt: bool) -> Result<(), Violation> {
        let message = KvmMessage { address_lo: ADDRESS, address_hi: 0, data: 0x80, device: None };
        let kept = vec![RouteEntry::Msi { gsi: PIN_GSI, msi: message }; usize::from(alt)];
        let (before, failures) = {
            let mut outside = self.outside.lock();
            (std::mem::replace(&mut outside.kernel.kept, kept.clone()), outside.failures)
        };
        let result = self.routes.keep(kept);
        let mut outside = self.outside.lock();
        let is_refused = outside.failures > failures;
        if is_refused {
            outside.kernel.kept = before;
        }
        if result.is_err() == is_refused {
            return Ok(());
        }
        violated(format!("K2: {result:?}, and refused: {is_refused}"))
    }

    pub(crate) fn resume(&mut self) {
        {
            let mut outside = self.outside.lock();
            let deaf = self.defect == Some(Defect::DeafLineAtResume);
            (outside.controller.is_deaf, outside.device.is_deaf) = (deaf, deaf);
            outside.kernel.ghosts.clear();
        }
        self.function().resume();
        self.loading = false;
        let mut outside = self.outside.lock();
        (outside.controller.is_deaf, outside.device.is_deaf) = (false, false);
    }

    pub(crate) fn reset(&mut self) {
        let hidden = self.hide(Defect::HeldOutlivesReset);
        self.function().reset();
        self.registers = Registers::new(&self.setup);
        self.loading = false;
        self.tolerant = false;
        self.dropping.extend(0..self.setup.vectors);
        // The claims stay. A real device may raise any vector, so that the function claims all again.
        if self.setup.msix && self.setup.is_physical() {
            self.claims.iter_mut().for_each(|claims| *claims = (*claims).max(1));
        }
        give_back(&hidden);
    }

    /// The function goes. Nothing of it may stay.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn unplug(&mut self) -> Result<(), Violation> {
        self.outside.lock().failing = None;
        self.outside.lock().controller.is_deaf = self.defect == Some(Defect::PinLeftHigh);
        self.function = None;
        let mut outside = self.outside.lock();
        outside.run();
        outside.controller.is_deaf = false;
        let gsis = self.routes.stats().gsis;
        if outside.kernel.armed() > 0 || gsis > 0 {
            let armed = outside.kernel.armed();
            return violated(format!("{armed} irqfds and {gsis} GSIs stay when the function goes"));
        }
        if let Some(mode) = outside.device.enabled {
            return violated(format!("the index of {mode:?} stays active when the function goes"));
        }
        if outside.controller.is_high() {
            return violated("the pin stays high when the function goes");
        }
        Ok(())
    }
}

pub(crate) fn give_back(hidden: &[Arc<EventFd>]) {
    for eventfd in hidden {
        eventfd.write(1).expect("it was empty");
    }
}
