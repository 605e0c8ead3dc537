//! What must hold after every input.

use crate::input::{Call, Input};
use crate::naive::Mode;
use crate::outside::is_readable;
use crate::setup::Producers;
use crate::world::{Violation, World, violated};
use msix_core::{Msi, Msix, Vectors};
use std::collections::BTreeSet;
use std::os::fd::RawFd;
use vmm_sys_util::eventfd::EventFd;

/// What an input is compared with.
#[derive(Debug)]
pub(crate) struct Moment {
    calls: usize,
    failures: usize,
    loading: bool,
    attached: bool,
    pin: bool,
    /// The vectors that MSI has, while it is used.
    allocated: Option<u8>,
    pub(crate) messages: Vec<Option<(u64, u32)>>,
}

impl World {
    pub(crate) fn moment(&self) -> Moment {
        let outside = self.outside.lock();
        Moment {
            calls: outside.calls,
            failures: outside.failures,
            loading: self.loading,
            attached: self.attached,
            pin: outside.controller.pin,
            allocated: self.allocated_now(),
            messages: self.messages(),
        }
    }

    pub(crate) fn judge(&mut self, input: Input, before: &Moment) -> Result<(), Violation> {
        let (broken, failed, unsent) = {
            let mut outside = self.outside.lock();
            let unsent = outside.unsent.take();
            (outside.broken.pop(), outside.failed.clone(), unsent)
        };
        if let Some(rule) = broken {
            return violated(rule);
        }
        self.tolerant |= !failed.is_empty();
        if let Some(refused) = unsent {
            for (unsent, owed) in self.unsent.iter_mut().zip(&self.owed) {
                *unsent |= owed.may > 0;
            }
            self.unsent_as.extend(before.messages.iter().copied().flatten());
            self.share_unsent(refused, before);
        }
        if self.unsent.contains(&true) {
            self.unsent_as.extend(self.messages().into_iter().flatten());
        } else {
            self.unsent_as.clear();
        }
        self.judge_messages(before)?;
        for vector in std::mem::take(&mut self.dropping) {
            if input == Input::Reset {
                self.owed[usize::from(vector)].forget();
            } else {
                self.drop_owed(vector);
            }
        }
        self.judge_read()?;
        if input == Input::Save {
            self.note_saved(unsent.is_some());
        }
        self.judge_owed(input, &failed)?;
        self.judge_registers()?;
        self.judge_silence(input, before)?;
        self.judge_device()?;
        self.judge_line(input, before)?;
        if input == Input::Loop && self.outside.lock().failures == before.failures {
            // What failed was tried again.
            self.outside.lock().failed.clear();
        }
        Ok(())
    }

    /// The vectors that MSI has, while it is used.
    fn allocated_now(&self) -> Option<u8> {
        (self.registers.mode() == Mode::Msi).then(|| self.registers.allocated())
    }

    /// A message that was refused is of the vector of MSI, and no more of one of the device's (A15). The
    /// registers that it was sent with are those after the input, or, of an event that came first, before it.
    fn share_unsent(&mut self, refused: (u64, u32), before: &Moment) {
        for vector in 0..self.setup.vectors {
            let is_its = self.registers.message(Mode::Msi, vector) == Some(refused);
            let was_its = before.messages[usize::from(vector)] == Some(refused);
            let now = self.allocated_now().filter(|_| is_its);
            let Some(allocated) = now.or(before.allocated.filter(|_| was_its)) else { continue };
            if vector < allocated {
                continue;
            }
            let (of, waits) = (usize::from(vector % allocated), self.own_places(vector));
            let shared = &mut self.owed[usize::from(vector)];
            let may = shared.may.saturating_sub(waits);
            // What waits stays its own.
            let must = waits == 0 && std::mem::take(&mut shared.must);
            self.owed[of].share(must, may);
            self.unsent[of] |= may > 0;
        }
    }

    /// Every event is delivered, or held somewhere.
    fn judge_owed(&mut self, input: Input, failed: &BTreeSet<Call>) -> Result<(), Violation> {
        let dropped = std::mem::take(&mut self.outside.lock().device.dropped);
        for vector in dropped {
            self.owed[vector as usize].must = false; // D8
        }
        for vector in 0..self.setup.vectors {
            let index = usize::from(vector);
            let held = self.places(vector) > 0;
            self.unsent[index] &= self.owed[index].may > 0;
            let mut owed = self.owed[index];
            if owed.must && !held && !self.unsent[index] {
                return violated(format!("an event of vector {vector} is lost"));
            }
            if !held && !self.unsent[index] {
                owed.may = 0;
            }
            self.owed[index] = owed;
            if owed.may == 0 && failed.is_empty() && self.own_places(vector) > 0 {
                return violated(format!("an event of vector {vector} outlives what dropped it"));
            }
            let claimed = self.registers.mode() == Mode::Msi || self.claims[index] > 0;
            let elsewhere = self.is_pending_in_other_mode(vector)
                || self.unsent[index] && self.setup.msix && self.setup.msi.is_some();
            let settled = input == Input::Loop && self.attached && !self.loading && !self.tolerant;
            let due = self.registers.deliverable(vector) && claimed && owed.must;
            if settled && failed.is_empty() && due && !elsewhere {
                return violated(format!("an event of vector {vector} is not delivered"));
            }
        }
        Ok(())
    }

    /// In how many places an event of `vector` waits: in the engine, an eventfd, or the device.
    pub(crate) fn places(&self, vector: u8) -> u8 {
        let (_, msi) = self.pending();
        let target = vector % self.registers.allocated();
        let outside = self.outside.lock();
        // An emulated device's own eventfds are not told apart.
        let is_own = !self.setup.is_physical() && self.setup.producers == Producers::None;
        let by_any = is_own && outside.kernel.holds();
        let by_device = outside.device.pending.contains(&vector.into());
        drop(outside);
        let others = [msi >> target & 1 != 0, by_any, by_device];
        self.own_places(vector) + others.into_iter().map(u8::from).sum::<u8>()
    }

    /// In how many places an event waits that can only be of `vector`.
    fn own_places(&self, vector: u8) -> u8 {
        let (msix, _) = self.pending();
        let outside = self.outside.lock();
        let holds =
            |fd: RawFd, eventfd: &EventFd| !outside.kernel.is_assigned(fd) && is_readable(eventfd);
        let device = outside.device.eventfd(vector.into());
        let producer = self.producers.get(usize::from(vector));
        let places = [
            msix >> vector & 1 != 0,
            device.is_some_and(|(fd, eventfd)| holds(fd, eventfd)),
            producer.is_some_and(|p| p.fd.is_some_and(|fd| holds(fd, &p.eventfd))),
        ];
        places.into_iter().map(u8::from).sum()
    }

    /// Whether the mode that the guest does not use now has an event of `vector`.
    pub(crate) fn is_pending_in_other_mode(&self, vector: u8) -> bool {
        let (msix, msi) = self.pending();
        match self.registers.mode() {
            Mode::MsiX => msi >> (vector % self.registers.allocated()) & 1 != 0,
            Mode::Msi => msix >> vector & 1 != 0,
            Mode::Intx | Mode::None => false,
        }
    }

    /// Pending bits of MSI-X and of MSI, as the engine has them.
    pub(crate) fn pending(&self) -> (u64, u64) {
        self.function().inspect(|engine| {
            let first = |msix: &Msix<_>| msix.pending().next().map_or(0, Vectors::bits);
            let msix = engine.msix().map_or(0, first);
            (msix, engine.msi().map_or(0, |msi: &Msi| msi.pending().bits()))
        })
    }

    /// The registers read as the naive ones. Looks without an input, which a read of a guest is.
    fn judge_registers(&self) -> Result<(), Violation> {
        let registers = &self.registers;
        self.function().inspect(|engine| {
            if let Some(naive) = &registers.msix {
                let mut bytes = vec![0; naive.values.len()];
                engine.read_msix(0, &mut bytes);
                same("the MSI-X capability", &bytes, &naive.values)?;
                let mut table = vec![0; registers.table.values.len()];
                for (at, dword) in (0_u64..).step_by(4).zip(table.chunks_mut(4)) {
                    let _ = engine.read_table(at, dword);
                }
                same("the table", &table, &registers.table.values)?;
            }
            if let Some(naive) = &registers.msi {
                // Not the pending bits, which are judged where a guest reads them.
                let len = registers.masks_at().map_or(naive.values.len(), |at| at + 4);
                let mut bytes = vec![0; len];
                engine.read_msi(0, &mut bytes);
                same("the MSI capability", &bytes, &naive.values[..len])?;
            }
            let (command, kept) = (engine.command(), registers.command);
            if command == kept {
                Ok(())
            } else {
                violated(format!("Command reads {command:#x} and not {kept:#x}"))
            }
        })
    }

    /// Nobody is told anything between a load and its resume (H15).
    fn judge_silence(&self, input: Input, before: &Moment) -> Result<(), Violation> {
        let outside = self.outside.lock();
        let silent = match input {
            Input::Load => true,
            Input::NewProcess | Input::Detach => false,
            Input::KeepRoutes(_) => false, // the VMM's own
            _ => before.loading && self.loading && outside.failed.is_empty(),
        };
        let calls = outside.calls - before.calls;
        if silent && calls > 0 {
            return violated(format!("H15: {calls} calls between load and resume, at {input:?}"));
        }
        Ok(())
    }

    /// The index of the guest's mode is active, and what the guest is to get is bound (D2, D7), or is
    /// delivered from userspace (H11).
    fn judge_device(&self) -> Result<(), Violation> {
        if !self.setup.is_physical() || !self.attached || self.loading || self.tolerant {
            return Ok(());
        }
        let registers = &self.registers;
        let mode = registers.mode();
        let wanted = match mode {
            Mode::None => None,
            Mode::Intx => Some(Mode::Intx).filter(|_| registers.intx_open()),
            mode => Some(mode),
        };
        let fallback = |target: u8| {
            let msi = |msi: &Msi| msi.fallback().bits() >> target & 1 != 0;
            mode == Mode::Msi && self.function().inspect(|engine| engine.msi().is_some_and(msi))
        };
        let outside = self.outside.lock();
        let device = &outside.device;
        let is_scarce = mode == Mode::Msi && self.is_scarce;
        if device.enabled != wanted && !(is_scarce && device.enabled.is_none()) {
            return violated(format!("D7: {:?} is active and not {wanted:?}", device.enabled));
        }
        for vector in (0..self.setup.vectors).filter(|&v| registers.deliverable(v)) {
            let target = if mode == Mode::Msi { vector % registers.allocated() } else { vector };
            let bound = device.bound.contains_key(&target.into());
            if !(bound || is_scarce && fallback(target)) {
                return violated(format!("H11: vector {target} is not bound"));
            }
        }
        Ok(())
    }

    /// The pin is as high as it should be (A10, A17).
    fn judge_line(&self, input: Input, before: &Moment) -> Result<(), Violation> {
        let outside = self.outside.lock();
        let controller = &outside.controller;
        let same = before.loading && self.loading && input != Input::NewProcess;
        if same && before.pin != controller.pin && before.attached == self.attached {
            return violated("H15: the pin changed between load and resume");
        }
        if !self.setup.pin || self.loading || !outside.failed.is_empty() || self.tolerant {
            return Ok(());
        }
        let open = self.registers.intx_open();
        let high = controller.is_high();
        if !self.setup.is_physical() {
            let wanted = open && self.registers.level;
            if high != wanted {
                return violated(format!("A17: the pin is {high} and not {wanted}"));
            }
        } else if high && !(open && self.attached) {
            return violated("A10: the pin is high, and the guest does not use it");
        } else if input == Input::Loop && self.attached && open && outside.device.asserts && !high {
            return violated("D12: the device asserts, and the pin is low");
        }
        Ok(())
    }
}

fn same(what: &str, read: &[u8], naive: &[u8]) -> Result<(), Violation> {
    if read == naive {
        return Ok(());
    }
    violated(format!("{what} reads {read:02x?} and not {naive:02x?}"))
}
