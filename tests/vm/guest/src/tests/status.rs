//! Interrupt Status (A17): who answers for it, and a guest that asks.

use super::maps::assigned;
use super::{Test, same, text, wait};
use crate::controllers::{GSI, route_line};
use crate::device::Device;
use crate::device_to_apic::Vmm;
use crate::nested::{Access, Nested, SATISFY_SHARER, SHARED, SHARERS, STATUS};
use crate::rig::{Kind, PATIENCE, Pin, QUIET, Rig, Satisfier, device_of};
use crate::world::World;
use kvm_ioctls::VmFd;
use msix_backends::assign::{Masks, PageSize};
use msix_backends::kvm::{Function, FunctionSetup, GuestPin, Platform};
use msix_core::Mode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("a guest that shares a line reads the device's own Interrupt Status", status),
    ("a guest satisfies those of three functions on a line that say that they assert", shared),
];

/// The low byte of Status as the guest of a passed-through function reads it.
struct Asked<P: Platform> {
    function: Function<P>,
    device: Satisfier,
    masks: Masks,
}

impl<P: Platform> Asked<P> {
    fn new(function: &Function<P>, device: &Device, kind: Kind) -> Result<Self, String> {
        let masks = assigned(device, PageSize::Kib4)?.masks(6);
        Ok(Self { function: function.clone(), device: Satisfier::of(device, kind)?, masks })
    }

    fn status(&self) -> u8 {
        let kept = self.function.command_and_status().1.to_le_bytes()[0];
        self.device.status().map_or(0, |own| self.masks.to_guest(kept, own))
    }

    fn asserts(&self) -> bool {
        self.status() & 8 != 0
    }
}

fn status(world: &mut World) -> Result<(), String> {
    for kind in [Kind::Edu, Kind::E1000e] {
        for by_kernel in [false, true] {
            let nested = Nested::new(world.kvm.as_ref().map_err(Clone::clone)?, &[])?;
            let device = device_of(world, kind)?;
            let pin = if by_kernel { Pin::Kernel(GSI) } else { Pin::Noted };
            let rig = Rig::on(device, kind, &nested.vm, pin)?;
            let asked = Asked::new(&rig.function, device, kind)?;
            let wait_line = |high| if by_kernel { Ok(()) } else { rig.wait_line(high) };
            rig.switch(Mode::Intx);
            for _ in 0..2 {
                same("before it asserts", asked.asserts(), false)?;
                rig.raise(Mode::Intx, 0)?;
                wait_line(true)?;
                same("while it asserts", asked.asserts(), true)?;
                rig.function.write_command(1, &[4]); // Interrupt Disable
                wait_line(false)?;
                same("with Interrupt Disable", asked.asserts(), true)?;
                rig.function.write_command(1, &[0]);
                wait_line(true)?;
                same("without it", asked.asserts(), true)?;
                rig.satisfy()?;
                same("satisfied", asked.asserts(), false)?;
                rig.function.bar_accessed();
                wait_line(false)?;
            }
        }
    }
    Ok(())
}

/// One of those that userspace brings to one pin.
struct Sharer {
    vm: Arc<VmFd>,
    levels: Arc<Mutex<[bool; 2]>>,
    index: usize,
}

impl GuestPin for Sharer {
    fn set_level(&mut self, asserted: bool) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels[self.index] = asserted;
        if let Err(error) = self.vm.set_irq_line(GSI, levels.contains(&true)) {
            println!("the line cannot be driven: {error}"); // what is missing shows in the test
        }
    }
}

/// edu by KVM, e1000e by userspace, and an emulated function, on one pin. The guest's handler reads Status
/// of each.
fn shared(world: &mut World) -> Result<(), String> {
    let mut nested = Nested::new(world.kvm.as_ref().map_err(Clone::clone)?, &[])?;
    route_line(&nested.vm, SHARED)?;
    let levels = Arc::default();
    let pin = |index| -> Box<dyn GuestPin> {
        let (vm, levels) = (Arc::clone(&nested.vm), Arc::clone(&levels));
        Box::new(Sharer { vm, levels, index })
    };
    let edu = device_of(world, Kind::Edu)?;
    let e1000e = device_of(world, Kind::E1000e)?;
    let by_kernel = Rig::on(edu, Kind::Edu, &nested.vm, Pin::Kernel(GSI))?;
    let by_userspace = Rig::on(e1000e, Kind::E1000e, &nested.vm, Pin::Driven(pin(0)))?;
    let setup = FunctionSetup { pin: Some(pin(1)), ..FunctionSetup::new(Vmm) };
    let emulated = Function::new(&by_userspace.routes, setup).map_err(text)?;
    let satisfied: Arc<[AtomicU32; SHARERS as usize]> = Arc::default();
    {
        let first = Asked::new(&by_kernel.function, edu, Kind::Edu)?;
        let second = Asked::new(&by_userspace.function, e1000e, Kind::E1000e)?;
        let (third, satisfied) = (emulated.clone(), Arc::clone(&satisfied));
        nested.start(move |access| {
            match access {
                Access::In(port) if port == STATUS => return first.status(),
                Access::In(port) if port == STATUS + 1 => {
                    let status = second.status();
                    if status & 8 == 0 {
                        // The guest makes no other access, when the interrupt of another had it satisfy
                        // this one.
                        second.function.eoi();
                    }
                    return status;
                }
                Access::In(_) => return third.command_and_status().1.to_le_bytes()[0],
                Access::Out(SATISFY_SHARER, _) => _ = first.device.satisfy(),
                Access::Out(port, _) if port == SATISFY_SHARER + 1 => {
                    second.device.satisfy();
                    second.function.bar_accessed();
                }
                Access::Out(..) | Access::Write(..) => third.set_level(false),
            }
            if let Access::Out(port, _) = access {
                let sharer = usize::from(port - SATISFY_SHARER);
                satisfied[sharer].fetch_add(1, Ordering::Relaxed);
            }
            0
        });
    }
    let status = Asked::new(&by_userspace.function, e1000e, Kind::E1000e)?;
    let counts = || [0, 1, 2].map(|sharer: usize| satisfied[sharer].load(Ordering::Relaxed));
    let mut expected = [0; SHARERS as usize];
    let run = || by_userspace.routes.run(Some(Duration::ZERO)).map(drop).map_err(text);
    for round in 1..=35_u32 {
        // Every set of them asserts.
        let asserts = [1, 2, 4].map(|bit| round & bit != 0);
        for sharer in [1, 0, 2].into_iter().filter(|&sharer: &usize| asserts[sharer]) {
            expected[sharer] += 1;
            match sharer {
                0 => by_kernel.raise(Mode::Intx, 0)?,
                1 => {
                    by_userspace.raise(Mode::Intx, 0)?;
                    wait("Interrupt Status", || Ok(status.asserts()))?;
                }
                _ => emulated.set_level(true),
            }
        }
        if asserts[0] {
            // KVM brings it by itself. So the guest satisfies the second as well, before userspace has
            // read that it fired, and gets its interrupt later.
            wait("what KVM brings", || Ok(counts()[..2] == expected[..2]))?;
        }
        wait("all", || run().map(|()| counts() == expected))
            .map_err(|why| format!("{why}: {:?} and not {expected:?}", counts()))?;
    }
    // The line is low again: nothing comes any more.
    let (mut taken, mut begun) = (nested.count(SHARED)?, Instant::now());
    let patience = Instant::now();
    while begun.elapsed() < QUIET {
        run()?;
        let now = nested.count(SHARED)?;
        if now != taken {
            (taken, begun) = (now, Instant::now());
        }
        same("a line that stays high", patience.elapsed() > PATIENCE, false)?;
    }
    same("satisfied in the end", counts(), expected)?;
    println!(
        "VM-FIGURE: a shared line: {expected:?} assertions, each satisfied once, by {taken} interrupts"
    );
    Ok(())
}
