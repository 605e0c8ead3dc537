//! INTx, MSI and MSI-X of real vfio-pci devices, and the switching between them.

use super::{Test, same, text};
use crate::controllers::{GSI, route_line};
use crate::nested::{Access, LINE, Nested, SATISFY};
use crate::rig::{Kind, MSI, MSIX, PATIENCE, Pin, QUIET, Rig, Satisfier, device_of};
use crate::world::World;
use msix_core::Mode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("edu interrupts by INTx and MSI, and over every switch", edu),
    ("e1000e interrupts by INTx, MSI and MSI-X, and over every switch", e1000e),
    ("nvme interrupts by INTx and MSI-X, and over every switch", nvme),
    ("a USB controller interrupts by INTx and 16 vectors of MSI and MSI-X", xhci),
    ("of 16 MSI vectors as many are bound as the guest enables", fewer),
    ("a masked MSI-X event outlives every switch and is delivered once", masked),
    ("a masked MSI event is pending, and delivered once, over a switch too", masked_msi),
    ("a line that userspace brings is asserted until it is acknowledged", line),
    ("a line that is high before INTx is enabled fires then", already_high),
    ("a nested guest takes every assertion of a line that KVM brings once", kernel_line),
    ("a function is reset from every mode, and works again", reset),
];

fn edu(world: &mut World) -> Result<(), String> {
    every_switch(world, Kind::Edu)
}

fn e1000e(world: &mut World) -> Result<(), String> {
    every_switch(world, Kind::E1000e)
}

fn nvme(world: &mut World) -> Result<(), String> {
    every_switch(world, Kind::Nvme)
}

fn xhci(world: &mut World) -> Result<(), String> {
    every_switch(world, Kind::Xhci)
}

fn fewer(world: &mut World) -> Result<(), String> {
    let rig = Rig::new(world, Kind::Xhci)?;
    for log in 0..=4_u8 {
        let vectors = 1 << log;
        rig.function.write_msi(2, &[log << 4 | 1]);
        let all = u8::try_from(vectors - 1).map_err(text)?;
        for vector in 0..vectors {
            rig.raise(Mode::Msi, vector)?;
            let expected = MSI & !all | vector.to_le_bytes()[0];
            same("an interrupt", rig.arrives(PATIENCE)?, vec![expected])?;
        }
        // What the guest did not enable, the kernel has not: its loopback raises nothing.
        let beyond = rig.raise(Mode::Msi, vectors);
        println!("an event beyond {vectors}: {beyond:?}");
        same("an event beyond", rig.arrives(QUIET)?, vec![])?;
        rig.function.write_msi(2, &[log << 4]);
    }
    Ok(())
}

/// Five events in every mode, after every switch; each seen once.
fn every_switch(world: &World, kind: Kind) -> Result<(), String> {
    let rig = Rig::new(world, kind)?;
    let mut events = 0;
    for &from in rig.modes() {
        for &to in rig.modes() {
            for mode in [from, to] {
                rig.switch(mode);
                same("the mode", rig.function.inspect(msix_core::Function::mode), mode)?;
                for round in 0..5 {
                    let vector = match (mode, kind) {
                        (Mode::MsiX, Kind::E1000e) => round,
                        (Mode::MsiX, _) => round + 3,
                        (Mode::Msi, Kind::Xhci) => 3 * round,
                        _ => 0,
                    };
                    event(&rig, mode, vector)
                        .map_err(|why| format!("{from:?} to {to:?}: {why}"))?;
                    events += 1;
                }
            }
        }
    }
    println!("VM-FIGURE: {kind:?}: {events} events, each once, in {:?}", rig.modes());
    Ok(())
}

/// One event in a mode, which must be seen once.
pub(super) fn event(rig: &Rig<'_>, mode: Mode, vector: u16) -> Result<(), String> {
    let seen = || rig.told.lock().unwrap_or_else(PoisonError::into_inner).line.len();
    let before = seen();
    rig.raise(mode, vector)?;
    match mode {
        Mode::Intx => {
            rig.wait_line(true)?;
            rig.satisfy()?;
            rig.function.bar_accessed(); // that was the driver's access
            rig.wait_line(false)?;
            same("changes of the line", seen() - before, 2)?;
        }
        _ => {
            let expected = match mode {
                Mode::Msi => rig.msi_interrupt(vector),
                _ => MSIX + vector.to_le_bytes()[0],
            };
            same(&format!("{mode:?} {vector}"), rig.arrives(PATIENCE)?, vec![expected])?;
            rig.satisfy()?;
        }
    }
    Ok(())
}

fn masked(world: &mut World) -> Result<(), String> {
    let rig = Rig::new(world, Kind::E1000e)?;
    for other in [Mode::Intx, Mode::Msi] {
        rig.switch(Mode::MsiX);
        rig.mask(2, true);
        rig.raise(Mode::MsiX, 2)?;
        let begun = Instant::now();
        let mut pending = [0; 8];
        while pending[0] == 0 {
            rig.function.read_pba(0, &mut pending);
            if begun.elapsed() > PATIENCE {
                return Err("it is not pending".to_owned());
            }
        }
        same("pending", pending[0], 1 << 2)?;
        same("while masked", rig.arrives(QUIET)?, vec![])?;
        rig.switch(other);
        event(&rig, other, 0)?;
        rig.switch(Mode::MsiX);
        same("still masked", rig.arrives(QUIET)?, vec![])?;
        rig.mask(2, false);
        same("unmasked", rig.arrives(PATIENCE)?, vec![MSIX + 2])?;
        same("once", rig.arrives(QUIET)?, vec![])?;
    }
    Ok(())
}

fn masked_msi(world: &mut World) -> Result<(), String> {
    for (kind, other) in
        [(Kind::Edu, Mode::Intx), (Kind::E1000e, Mode::Intx), (Kind::E1000e, Mode::MsiX)]
    {
        let rig = Rig::new(world, kind)?;
        let pending = || {
            let mut bits = [0; 4];
            rig.function.read_msi(20, &mut bits);
            u32::from_le_bytes(bits)
        };
        rig.switch(Mode::Msi);
        for switched in [false, true] {
            rig.mask_msi(true);
            rig.raise(Mode::Msi, 0)?;
            let begun = Instant::now();
            while pending() == 0 {
                if begun.elapsed() > PATIENCE {
                    return Err("it is not pending".to_owned());
                }
            }
            rig.satisfy()?;
            same("while masked", rig.arrives(QUIET)?, vec![])?;
            if switched {
                rig.switch(other);
                event(&rig, other, 0)?;
                rig.switch(Mode::Msi);
                same("still masked", (rig.arrives(QUIET)?, pending()), (vec![], 1))?;
            }
            rig.mask_msi(false);
            same("unmasked", rig.arrives(PATIENCE)?, vec![MSI])?;
            same("once", (rig.arrives(QUIET)?, pending()), (vec![], 0))?;
            event(&rig, Mode::Msi, 0)?;
        }
    }
    Ok(())
}

fn line(world: &mut World) -> Result<(), String> {
    let rig = Rig::new(world, Kind::Edu)?;
    let told = || {
        let mut told = rig.told.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut told.line), std::mem::take(&mut told.mapped))
    };
    let settle = |wait: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < wait {
            rig.routes.run(Some(Duration::from_millis(1))).map_err(text)?;
        }
        Ok::<(), String>(())
    };
    rig.raise(Mode::Intx, 0)?;
    rig.wait_line(true)?;
    settle(QUIET)?;
    same("asserted once, BARs unmapped", told(), (vec![true], vec![false]))?;
    // Acknowledged, not satisfied: it comes again.
    rig.function.eoi();
    rig.wait_line(true)?;
    settle(QUIET)?;
    same("fired again", told(), (vec![false, true], vec![]))?;
    rig.satisfy()?;
    rig.function.bar_accessed();
    settle(QUIET)?;
    same("satisfied", told(), (vec![false], vec![]))?;
    same("quiet", rig.function.tick(Instant::now()), None)?;
    same("BARs are mapped", told(), (vec![], vec![true]))?;
    // Left in the middle: lowered, and the device's line with it.
    rig.raise(Mode::Intx, 0)?;
    rig.wait_line(true)?;
    rig.switch(Mode::Msi);
    same("left", told(), (vec![true, false], vec![false, true]))?;
    rig.satisfy()?;
    event(&rig, Mode::Msi, 0)
}

/// The machine's own I/O APIC forgets a level that rises before the kernel has set its pin up.
fn already_high(world: &mut World) -> Result<(), String> {
    for kind in [Kind::Edu, Kind::E1000e] {
        let rig = Rig::new(world, kind)?;
        rig.raise(Mode::Intx, 0)?;
        for _ in 0..3 {
            rig.wait_line(true)?;
            rig.function.write_command(1, &[4]); // Interrupt Disable
            rig.wait_line(false)?;
            rig.function.write_command(1, &[0]);
        }
        rig.wait_line(true)?;
        rig.satisfy()?;
        rig.function.bar_accessed();
        rig.wait_line(false)?;
        event(&rig, Mode::Intx, 0)?;
    }
    Ok(())
}

fn kernel_line(world: &mut World) -> Result<(), String> {
    for kind in [Kind::Edu, Kind::E1000e] {
        let mut nested = Nested::new(world.kvm.as_ref().map_err(Clone::clone)?, &[])?;
        route_line(&nested.vm, LINE)?;
        let device = device_of(world, kind)?;
        let rig = Rig::on(device, kind, &nested.vm, Pin::Kernel(GSI))?;
        let satisfier = Satisfier::of(device, kind)?;
        let failed = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&failed);
        nested.start(move |access| {
            let done = matches!(access, Access::Out(SATISFY, _)) && satisfier.satisfy();
            noted.fetch_or(!done, Ordering::Relaxed);
            0
        });
        for count in 1..=25 {
            rig.raise(Mode::Intx, 0)?;
            nested.wait(LINE, count)?;
        }
        std::thread::sleep(QUIET);
        same("assertions taken", nested.count(LINE)?, 25)?;
        same("a handler that failed", failed.load(Ordering::Relaxed), false)?;
        let told = rig.told.lock().unwrap_or_else(PoisonError::into_inner);
        same("what userspace had to do", (told.line.len(), told.mapped.len()), (0, 0))?;
        drop(told);
        println!("VM-FIGURE: {kind:?}: 25 assertions by KVM alone, each taken once");
        // Over to MSI and back, while the guest runs.
        rig.switch(Mode::Msi);
        for count in 1..=5 {
            rig.raise(Mode::Msi, 0)?;
            nested.wait(MSI, count)?;
            rig.satisfy()?;
        }
        rig.switch(Mode::Intx);
        for count in 26..=30 {
            rig.raise(Mode::Intx, 0)?;
            nested.wait(LINE, count)?;
        }
        std::thread::sleep(QUIET);
        let mut messages = nested.count(MSI)?;
        if kind == Kind::E1000e {
            messages = messages.min(5); // on a busy machine QEMU's says one again
        }
        same("interrupts", (nested.count(LINE)?, messages), (30, 5))?;
    }
    Ok(())
}

fn reset(world: &mut World) -> Result<(), String> {
    for kind in Kind::ALL {
        let rig = Rig::new(world, kind)?;
        for &mode in rig.modes() {
            rig.switch(mode);
            event(&rig, mode, 0)?;
            if mode == Mode::Intx {
                rig.raise(mode, 0)?; // in flight
                rig.wait_line(true)?;
            }
            rig.function.reset();
            let (command, _) = rig.function.command_and_status();
            same("Command", command, 0)?;
            same("the mode", rig.function.inspect(msix_core::Function::mode), Mode::Intx)?;
            rig.satisfy()?;
            rig.program();
            // Whatever it still asked for is answered by now.
            rig.function.eoi();
            rig.told.lock().unwrap_or_else(PoisonError::into_inner).line.clear();
            for &mode in rig.modes() {
                rig.switch(mode);
                event(&rig, mode, 0).map_err(|why| format!("{kind:?} after a reset: {why}"))?;
            }
        }
        let told = rig.told.lock().unwrap_or_else(PoisonError::into_inner);
        same("resets", told.resets, rig.modes().len())?;
    }
    Ok(())
}
