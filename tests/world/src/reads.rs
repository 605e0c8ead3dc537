//! What a guest reads that changes by itself: pending bits and Interrupt Status.

use crate::defect::Defect;
use crate::input::Input;
use crate::naive::Mode;
use crate::world::{Violation, World, violated};
use msix_backends::assign::{AssignOptions, Assigned, FunctionBars, Masks};
use std::sync::OnceLock;

impl World {
    /// A guest's read of something that changes by itself.
    pub(crate) fn read(&mut self, input: Input) -> Result<(), Violation> {
        let function = self.function();
        match input {
            Input::ReadMsix if self.setup.msix => {
                function.read_msix(0, &mut [0; 12]);
                let _ = function.read_table(0, &mut [0; 8]);
            }
            Input::ReadPba if self.setup.msix => {
                let mut pba = [0; 8];
                let _ = function.read_pba(0, &mut pba);
                self.read_bits = Some((Mode::MsiX, u64::from_le_bytes(pba)));
            }
            Input::ReadMsi => {
                let mut bytes = vec![0; self.registers.msi.as_ref().map_or(0, |m| m.values.len())];
                function.read_msi(0, &mut bytes);
                let pending = self.registers.masks_at().map(|at| u64::from(bytes[at + 4]));
                self.read_bits = pending.map(|bits| (Mode::Msi, bits));
            }
            Input::ReadStatus if self.setup.pin => return self.read_status(),
            _ => {}
        }
        Ok(())
    }

    /// Interrupt Status is whether the device asserts, whatever Interrupt Disable says (A17). A real
    /// device knows that best: the VMM reads it from there, as the map of its config space says.
    fn read_status(&self) -> Result<(), Violation> {
        let status = self.function().command_and_status().1;
        let asserts = self.outside.lock().device.asserts;
        let mut status = status.to_le_bytes()[0];
        if self.setup.is_physical() {
            status = status_masks().to_guest(status, u8::from(asserts) << 3);
        }
        if self.defect == Some(Defect::StatusFollowsDisable) && self.registers.intx_disabled() {
            status = 0;
        }
        let level = if self.setup.is_physical() { asserts } else { self.registers.level };
        let high = level && self.registers.mode() == Mode::Intx;
        let is_judged = self.registers.mode() == Mode::Intx || !self.setup.is_physical();
        if is_judged && (status & 8 != 0) != high {
            return violated(format!("A17: Status reads {status:#x}, and the device is {level}"));
        }
        Ok(())
    }

    /// Pending bits that a guest read are those of events that were not delivered (A5, A7, A16). The
    /// read may have sent some.
    pub(crate) fn judge_read(&mut self) -> Result<(), Violation> {
        let Some((mode, bits)) = self.read_bits.take() else { return Ok(()) };
        let outside = self.outside.lock();
        // Of what an eventfd holds, it is open which mode has it.
        let is_alone = self.setup.msix != self.setup.msi.is_some();
        let exact = is_alone && !self.loading && outside.failed.is_empty();
        let allocated = self.registers.allocated();
        let number = |v: u8| if mode == Mode::Msi { v % allocated } else { v };
        for target in 0..self.setup.vectors {
            let its = (0..self.setup.vectors).filter(|&v| number(v) == target);
            let owed: Vec<_> = its.map(|v| (v, self.owed[usize::from(v)])).collect();
            let may = owed.iter().any(|(_, owed)| owed.may > 0);
            // What can be sent is on its way, by the loop.
            let waits = |v: u8| {
                let goes = self.registers.deliverable(v) && self.attached;
                !goes && !outside.device.pending.contains(&v.into())
            };
            let must = exact && owed.iter().any(|&(v, owed)| owed.must && waits(v));
            let reads = bits >> target & 1 != 0;
            if reads && !may || !reads && must {
                return violated(format!(
                    "the pending bits of {mode:?} read {bits:#b}, and of {target} is owed {owed:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Whose the bits of the low byte of Status are, for a passed-through function with a pin.
fn status_masks() -> Masks {
    static MASKS: OnceLock<Masks> = OnceLock::new();
    *MASKS.get_or_init(|| {
        let mut config = vec![0; 256];
        (config[0], config[0x3d]) = (1, 1);
        let assigned = Assigned::new(&config, FunctionBars::default(), &AssignOptions::default());
        assigned.expect("it has no capabilities").masks(6)
    })
}
