//! The process that saves.

use super::handover::Handover;
use super::machine::{Machine, Opened};
use super::{Case, Left, PinBy};
use crate::nested::LINE;
use crate::rig::{MSIX, Rig};
use crate::tests::{same, wait};
use msix_core::Mode;
use std::time::Duration;

/// The interrupt that the guest moved vector 1 of MSI-X to, from another.
pub(super) const MOVED: u8 = 0x4c;

pub(super) fn save(case: Case) -> Result<(), String> {
    let opened = Opened::new(case)?;
    let machine = Machine::new(&opened, case)?;
    let rig = &machine.rig;
    // A table that no new function has.
    rig.mask(1, true);
    rig.function.write_table(16 + 8, &u32::from(MOVED).to_le_bytes());
    rig.mask(1, false);
    rig.switch(case.mode);
    if matches!(case.mode, Mode::Msi | Mode::MsiX) && case.left != Left::Paused {
        rig.raise(case.mode, 0)?;
        machine.wait_requested(interrupt(rig, case.mode, 0))?;
        rig.satisfy()?;
    }
    leave(&machine, case)?;
    // In this order: what the save finds in eventfds and may send is in the controllers then.
    let snapshot = rig.function.save();
    let (registers, controllers) = (rig.registers(), machine.controllers()?);
    let handover = Handover { snapshot, registers, controllers };
    handover.write()?;
    // Not taken apart: the end of the process is the kernel's.
    std::mem::forget(machine);
    std::mem::forget(opened);
    Ok(())
}

/// The interrupt that a message of the device is.
pub(super) fn interrupt(rig: &Rig<'_>, mode: Mode, vector: u16) -> u8 {
    match (mode, vector) {
        (Mode::Msi, _) => rig.msi_interrupt(vector),
        (_, 1) => MOVED,
        _ => MSIX + vector.to_le_bytes()[0],
    }
}

/// Brings it about that `case.left` is left.
fn leave(machine: &Machine<'_>, case: Case) -> Result<(), String> {
    let rig = &machine.rig;
    let function = &rig.function;
    let vector = case.vector();
    match (case.left, case.mode) {
        (Left::Nothing, _) => return Ok(()),
        (Left::Satisfied | Left::Asserted | Left::AssertedAgain, _) => {
            return assert(machine, case);
        }
        (Left::Masked | Left::PausedMasked, Mode::MsiX) => rig.mask(vector, true),
        (Left::Masked | Left::PausedMasked, _) => {
            function.write_msi(16, &(1_u32 << vector).to_le_bytes());
        }
        (Left::FunctionMasked, _) => function.write_msix(3, &[0xc0]),
        (Left::NoBusMaster, _) => function.write_command(0, &[2]),
        (Left::Disabled, _) => function.write_command(1, &[4]),
        (Left::Paused, _) => {}
    }
    if matches!(case.left, Left::Paused | Left::PausedMasked) {
        function.detach();
    }
    rig.raise(case.mode, vector)?;
    match case.left {
        Left::Disabled => {}
        // In its eventfd: nothing but the save takes it from there.
        Left::Paused | Left::PausedMasked => std::thread::sleep(ARRIVAL),
        _ => wait("a pending bit", || is_pending(rig, case.mode, vector))?,
    }
    if case.left != Left::Disabled {
        rig.satisfy()?;
    }
    let requested = machine.controllers()?.requested();
    let interrupts = usize::from(!matches!(case.left, Left::Paused | Left::Disabled));
    same("interrupts at the processor", requested.len(), interrupts)
}

/// A line that the guest did not answer yet.
fn assert(machine: &Machine<'_>, case: Case) -> Result<(), String> {
    let rig = &machine.rig;
    rig.raise(Mode::Intx, 0)?;
    machine.wait_requested(LINE)?;
    if case.left == Left::Satisfied {
        rig.satisfy()?;
        rig.function.bar_accessed();
    }
    if case.pin == PinBy::Userspace {
        rig.wait_line(case.left != Left::Satisfied)?;
    }
    Ok(())
}

/// Whether the guest reads the event as pending.
pub(super) fn is_pending(rig: &Rig<'_>, mode: Mode, vector: u16) -> Result<bool, String> {
    let mut bits = [0; 8];
    if mode == Mode::Msi {
        rig.function.read_msi(20, &mut bits[..4]);
    } else {
        rig.function.read_pba(0, &mut bits);
    }
    let bits = u64::from_le_bytes(bits);
    same("pending bits of other vectors", bits & !(1 << vector), 0)?;
    Ok(bits != 0)
}

/// How long an event may take to its eventfd. A longer one would be missed after the restore.
const ARRIVAL: Duration = Duration::from_millis(50);
