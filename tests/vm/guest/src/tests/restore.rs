//! A function that is saved, and restored behind the same device: into a new machine, and in its place.

use super::modes::event;
use super::{Test, same, text};
use crate::rig::{Kind, MSIX, PATIENCE, QUIET, Rig};
use crate::world::World;
use msix_core::Mode;
use std::time::{Duration, Instant};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("a function restored into a new machine interrupts by the mode it was saved in", new_machine),
    ("a function restored over another mode leaves that one first", over_another),
    ("an event between load and resume is delivered once, after it", between),
];

/// What a VMM's threads may do between load and resume.
pub(super) fn idle(rig: &Rig<'_>) -> Result<(), String> {
    let function = &rig.function;
    let mut bytes = [0; 8];
    function.read_msi(0, &mut bytes);
    function.read_pba(0, &mut bytes);
    function.write_command(0, &function.command_and_status().0.to_le_bytes());
    function.eoi();
    function.bar_accessed();
    function.flush();
    function.tick(Instant::now());
    drop(function.save());
    rig.routes.run(Some(Duration::ZERO)).map_err(text)?;
    Ok(())
}

fn saved(world: &World, kind: Kind, mode: Mode) -> Result<Vec<u8>, String> {
    let rig = Rig::new(world, kind)?;
    rig.switch(mode);
    event(&rig, mode, 0)?;
    Ok(rig.function.save())
}

/// Loads and resumes; then there are events in the loaded mode, and over a switch to every other.
fn restore(rig: &Rig<'_>, saved: &[u8], mode: Mode) -> Result<(), String> {
    rig.function.load(saved).map_err(text)?;
    idle(rig)?;
    rig.function.resume();
    event(rig, mode, 0)?;
    for &other in rig.modes() {
        rig.switch(other);
        event(rig, other, 0)?;
    }
    Ok(())
}

fn new_machine(world: &mut World) -> Result<(), String> {
    for kind in Kind::ALL {
        let modes = Rig::new(world, kind)?.modes();
        for &mode in modes {
            let saved = saved(world, kind, mode)?; // its function, machine and eventfds are gone
            let rig = Rig::new(world, kind)?;
            restore(&rig, &saved, mode).map_err(|why| format!("{kind:?} {mode:?}: {why}"))?;
        }
        println!("VM-FIGURE: {kind:?}: restored into a new machine in {modes:?}");
    }
    Ok(())
}

fn over_another(world: &mut World) -> Result<(), String> {
    for kind in Kind::ALL {
        let modes = Rig::new(world, kind)?.modes();
        for &mode in modes {
            let saved = saved(world, kind, mode)?;
            for &before in modes {
                let rig = Rig::new(world, kind)?;
                rig.switch(before);
                event(&rig, before, 0)?;
                restore(&rig, &saved, mode)
                    .map_err(|why| format!("{kind:?} {before:?} to {mode:?}: {why}"))?;
            }
        }
    }
    Ok(())
}

fn between(world: &mut World) -> Result<(), String> {
    for (kind, mode) in
        [(Kind::Edu, Mode::Msi), (Kind::E1000e, Mode::Msi), (Kind::E1000e, Mode::MsiX)]
    {
        let rig = Rig::new(world, kind)?;
        rig.switch(mode);
        event(&rig, mode, 0)?;
        let saved = rig.function.save();
        rig.function.load(&saved).map_err(text)?;
        rig.raise(mode, 0)?;
        same("before the resume", rig.arrives(QUIET)?, vec![])?;
        idle(&rig)?;
        same("before the resume", rig.arrives(QUIET)?, vec![])?;
        rig.function.resume();
        let expected = if mode == Mode::MsiX { MSIX } else { rig.msi_interrupt(0) };
        same(&format!("{kind:?} {mode:?}"), rig.arrives(PATIENCE)?, vec![expected])?;
        same("once", rig.arrives(QUIET)?, vec![])?;
        rig.satisfy()?;
        event(&rig, mode, 0)?;
    }
    Ok(())
}
