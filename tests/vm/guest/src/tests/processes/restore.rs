//! The process that restores.

use super::handover::Handover;
use super::machine::{Counts, Machine, Opened};
use super::save::{interrupt, is_pending};
use super::{Case, Left, PinBy, modes};
use crate::nested::LINE;
use crate::tests::restore::idle;
use crate::tests::{same, text};
use msix_core::{Function, Mode};
use std::time::Duration;

pub(super) fn restore(case: Case) -> Result<(), String> {
    let Case { kind, pin, mode, left, before } = case;
    let handover = Handover::take()?;
    let opened = Opened::new(case)?;
    let mut machine = Machine::new(&opened, case)?;
    let rig = &machine.rig;
    rig.switch(before);
    same("the mode before", rig.function.inspect(Function::mode), before)?;
    if matches!(left, Left::AssertedAgain | Left::Disabled) {
        rig.raise(Mode::Intx, 0)?;
        machine.wait_requested(LINE)?;
    }
    handover.controllers.put(&machine.nested.vm, machine.nested.cpu()?)?;
    rig.function.load(&handover.snapshot).map_err(text)?;
    idle(rig)?;
    same("the registers", rig.registers(), handover.registers.clone())?;
    same("the snapshot", rig.function.save(), handover.snapshot)?;
    rig.function.resume();
    if pin == PinBy::Userspace && left == Left::AssertedAgain {
        rig.wait_line(true)?; // before the guest satisfies the device
    }
    same("the registers", rig.registers(), handover.registers)?;
    machine.only_enabled(if left == Left::Disabled { Mode::None } else { mode })?;

    machine.start()?;
    let rig = &machine.rig;
    let mut expected = Counts::new();
    let waited = match (mode, left) {
        (_, Left::Paused) => Some(interrupt(rig, mode, case.vector())),
        (Mode::Msi | Mode::MsiX, _) => Some(interrupt(rig, mode, 0)),
        (_, Left::Satisfied | Left::Asserted | Left::AssertedAgain) => Some(LINE),
        _ => None,
    };
    expected.extend(waited.map(|interrupt| (interrupt, 1)));
    machine.took(&expected, QUIET).map_err(|why| format!("after the resume {why}"))?;
    if left.is_pending() {
        same("pending", is_pending(rig, mode, case.vector())?, true)?;
        machine.expect(interrupt(rig, mode, case.vector()), &mut expected)?;
    } else if left == Left::Disabled {
        machine.expect(LINE, &mut expected)?;
    }
    match (left, mode) {
        (Left::Masked | Left::PausedMasked, Mode::MsiX) => rig.mask(case.vector(), false),
        (Left::Masked | Left::PausedMasked, _) => rig.function.write_msi(16, &[0; 4]),
        (Left::FunctionMasked, _) => rig.function.write_msix(3, &[0x80]),
        (Left::NoBusMaster, _) => rig.function.write_command(0, &[6]),
        (Left::Disabled, _) => rig.function.write_command(1, &[0]),
        _ => {}
    }
    machine.took(&expected, QUIET).map_err(|why| format!("once it is let through {why}"))?;
    if matches!(mode, Mode::Msi | Mode::MsiX) {
        same("pending", is_pending(rig, mode, case.vector())?, false)?;
    }

    // It goes on as any function: in this mode, and over a switch to every other.
    for next in std::iter::once(mode).chain(modes(kind, pin)) {
        rig.switch(next);
        machine.only_enabled(next)?;
        let vectors: &[u16] = match next {
            Mode::None => continue,
            Mode::Intx | Mode::Msi => &[0],
            Mode::MsiX => &[1, 4],
        };
        for &vector in vectors {
            let sent = if next == Mode::Intx { LINE } else { interrupt(rig, next, vector) };
            machine.expect(sent, &mut expected)?;
            rig.raise(next, vector)?;
            machine.took(&expected, SHORT).map_err(|why| format!("in {next:?} {why}"))?;
            rig.satisfy()?;
        }
    }
    Ok(())
}

/// How long nothing else must come.
const QUIET: Duration = Duration::from_millis(50);
/// The same, after an event of many.
const SHORT: Duration = Duration::from_millis(10);
