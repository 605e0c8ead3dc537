//! A doorbell that the guest rings without an exit.

use super::Test;
use crate::machine::{Access, TRANSLATER};
use crate::rig::Rig;
use crate::{Outcome, same, text, wait};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{Deferral, Doorbell};
use msix_core::Vector;
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(super) const TESTS: &[(&str, Test)] =
    &[("a guest rings a doorbell without an exit, also its own LPIs", rings)];

/// Where the register is at first, and then.
const PLACES: [u64; 2] = [0x0b00_000c, 0x0b00_100c];

fn rings(kvm: &Kvm) -> Outcome {
    let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
    let other = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(text)?);
    let mut doorbell = Doorbell::new(Box::new(Arc::clone(&rig.machine.vm)));
    doorbell.place(Some(PLACES[0]));
    for vector in 0..2 {
        rig.program(0, vector, TRANSLATER, vector.into())?;
        let eventfd = rig.functions[0].eventfd(Vector::new(vector)).map_err(text)?;
        doorbell.connect(vector.into(), eventfd);
    }
    doorbell.connect(0x2_0001, Arc::clone(&other)); // all 32 bits are compared
    same("values that KVM handles", doorbell.armed(), 3)?;
    let exits = Arc::clone(&rig.exits);
    let exits = || std::mem::take(&mut *exits.lock().unwrap());
    for place in PLACES {
        doorbell.place(Some(place));
        for _ in 0..5 {
            for vector in 0..2 {
                rig.machine.script(&[Access::Write(place, vector)])?;
                rig.expect("a ring", 8192 + vector, [1, 0])?;
            }
        }
        rig.machine.script(&[Access::Write(place, 0x2_0001), Access::Write(place, 0x2_0001)])?;
        same("rings of another process", other.read().map_err(text)?, 2)?;
        same("exits", exits(), vec![])?;
        rig.machine.script(&[Access::Write(place, 9)])?;
        same("exits of a value that is not connected", exits(), vec![(place, 9)])?;
    }
    rig.machine.script(&[Access::Write(PLACES[0], 0)])?;
    same("exits where the register was", exits(), vec![(PLACES[0], 0)])?;
    doorbell.disconnect(0);
    rig.machine.script(&[Access::Write(PLACES[1], 0), Access::Write(PLACES[1], 1)])?;
    same("exits of a value that is disconnected", exits(), vec![(PLACES[1], 0)])?;
    rig.expect("the other value", 8193, [1, 0])?;
    rig.expect("rings while it was not connected", 8192, [0, 0])?;
    // Masked, the ring pends in the function.
    rig.mask(0, 1, true)?;
    rig.machine.script(&[Access::Write(PLACES[1], 1)])?;
    rig.expect("while masked", 8193, [0, 0])?;
    rig.mask(0, 1, false)?;
    rig.expect("at the unmask", 8193, [1, 0])?;
    drop(doorbell);
    rig.machine.script(&[Access::Write(PLACES[1], 1)])?;
    wait("an exit without a doorbell", || Ok(exits() == [(PLACES[1], 1)]))?;
    same("messages sent by userspace", rig.routes.stats().signals, 0)
}
