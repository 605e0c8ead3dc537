//! MSI-X through an ITS: every event is one LPI, by KVM_SIGNAL_MSI and by irqfds.

use super::Test;
use crate::machine::{Access, ITS, TRANSLATER, inv, movi, sync};
use crate::rig::{Rig, VECTORS};
use crate::{Outcome, same, text, wait};
use kvm_ioctls::Kvm;
use msix_backends::kvm::Deferral;
use msix_core::Vector;
use std::time::Duration;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("every event is one LPI, whoever delivers it", counts),
    ("two devices and one that shares their LPIs", devices),
    ("an event goes to another processor, by its message and by the ITS", affinity),
    ("an ITS that is off and comes on again", off),
    ("a message elsewhere, and of an event that is not mapped", elsewhere),
];

/// Never commits by itself: everything is sent.
const SENT: Deferral =
    Deferral { growth: 1000, quiet: Duration::from_secs(100), longest: Duration::from_secs(100) };

fn counts(kvm: &Kvm) -> Outcome {
    let mut rig = Rig::with_its(kvm, Deferral::default())?;
    for vector in 0..VECTORS {
        rig.program(0, vector, TRANSLATER, vector.into())?;
        rig.notify(0, vector)?;
        rig.expect("the first event", 8192 + u32::from(vector), [1, 0])?;
    }
    wait("all are irqfds", || Ok(rig.routes.stats().assigns == 8))?;
    let first = rig.routes.stats();
    same("failures", first.failures, 0)?;
    same("commits, at most one a vector", first.commits <= 8, true)?;
    for _ in 0..5 {
        for vector in 0..VECTORS {
            rig.notify(0, vector)?;
            rig.expect("an event by an irqfd", 8192 + u32::from(vector), [1, 0])?;
        }
    }
    same("messages sent meanwhile", rig.routes.stats().signals, first.signals)?;
    rig.mask(0, 0, true)?;
    rig.notify(0, 0)?;
    rig.expect("while masked", 8192, [0, 0])?;
    let mut pba = [0; 8];
    rig.functions[0].read_pba(0, &mut pba);
    same("pending", pba[0], 1)?;
    rig.mask(0, 0, false)?;
    rig.expect("at the unmask", 8192, [1, 0])?;
    let eventfd = rig.functions[0].eventfd(Vector::new(5)).map_err(text)?;
    eventfd.write(1).map_err(text)?;
    rig.expect("by an eventfd", 8197, [1, 0])?;
    rig.mask(0, 5, true)?;
    eventfd.write(1).map_err(text)?;
    rig.expect("by an eventfd while masked", 8197, [0, 0])?;
    rig.mask(0, 5, false)?;
    rig.expect("by an eventfd at the unmask", 8197, [1, 0])?;
    rig.functions[0].write_msix(2, &[0, 0]);
    rig.functions[0].write_msix(2, &[0, 0x80]);
    rig.notify(0, 6)?;
    rig.expect("after MSI-X was off", 8198, [1, 0])?;
    same("writes to memory", rig.bus.0.lock().unwrap().len(), 0)?;
    same("failures", rig.routes.stats().failures, 0)
}

/// The third function has the requester id of the first, as behind a bridge.
fn devices(kvm: &Kvm) -> Outcome {
    for deferral in [Deferral::NONE, SENT] {
        let mut rig = Rig::with_its(kvm, deferral)?;
        for function in 0..3 {
            for vector in 0..2 {
                rig.program(function, vector, TRANSLATER, vector.into())?;
            }
        }
        for round in 1..=3 {
            let what = format!("round {round}");
            rig.notify(0, 0)?;
            rig.expect(&what, 8192, [1, 0])?;
            rig.notify(1, 0)?;
            rig.expect(&what, 8208, [1, 0])?;
            rig.notify(2, 0)?;
            rig.expect(&what, 8192, [1, 0])?;
            rig.notify(2, 1)?;
            rig.expect(&what, 8193, [1, 0])?;
            rig.expect("an event of its neighbour", 8209, [0, 0])?;
        }
        same("failures", rig.routes.stats().failures, 0)?;
    }
    Ok(())
}

fn affinity(kvm: &Kvm) -> Outcome {
    for deferral in [Deferral::NONE, SENT] {
        let mut rig = Rig::with_its(kvm, deferral)?;
        rig.program(0, 0, TRANSLATER, 0)?;
        rig.program(0, 1, TRANSLATER, 1)?;
        rig.notify(0, 0)?;
        rig.expect("before", 8192, [1, 0])?;
        rig.notify(0, 1)?;
        rig.expect("before", 8193, [1, 0])?;
        // As Linux does it: the message stays.
        rig.command(&[movi(crate::rig::IDS[0], 0, 1), sync(0), sync(1)])?;
        for _ in 0..2 {
            rig.notify(0, 0)?;
            rig.expect("moved by the ITS", 8192, [0, 1])?;
            rig.notify(0, 1)?;
            rig.expect("the other one", 8193, [1, 0])?;
        }
        // By the message: event 1 becomes event 0, which is processor 1's.
        rig.set_data(0, 1, 0)?;
        rig.notify(0, 1)?;
        rig.expect("rewritten", 8192, [0, 1])?;
        rig.program(0, 1, TRANSLATER, 1)?;
        rig.notify(0, 1)?;
        rig.expect("back", 8193, [1, 0])?;
        same("failures", rig.routes.stats().failures, 0)?;
    }
    Ok(())
}

fn off(kvm: &Kvm) -> Outcome {
    let mut rig = Rig::with_its(kvm, SENT)?;
    rig.program(0, 1, TRANSLATER, 1)?; // one that is committed, so that the next waits
    rig.program(0, 0, TRANSLATER, 0)?;
    rig.notify(0, 0)?;
    rig.expect("before", 8192, [1, 0])?;
    rig.machine.script(&[Access::Write(ITS, 0)])?;
    rig.notify(0, 0)?;
    rig.notify(0, 0)?;
    rig.expect("while the ITS is off", 8192, [0, 0])?;
    rig.machine.script(&[Access::Write(ITS, 1)])?;
    rig.routes.flush();
    rig.expect("when it is on again", 8192, [1, 0])?;
    rig.notify(0, 0)?;
    rig.expect("afterwards", 8192, [1, 0])?;
    // An LPI that is disabled pends in the redistributor.
    rig.machine.configure(8192, false)?;
    rig.command(&[inv(crate::rig::IDS[0], 0), sync(0)])?;
    rig.notify(0, 0)?;
    rig.expect("while the LPI is disabled", 8192, [0, 0])?;
    rig.machine.configure(8192, true)?;
    rig.command(&[inv(crate::rig::IDS[0], 0), sync(0)])?;
    rig.expect("when it is enabled again", 8192, [1, 0])
}

fn elsewhere(kvm: &Kvm) -> Outcome {
    for deferral in [Deferral::NONE, SENT] {
        let mut rig = Rig::with_its(kvm, deferral)?;
        let memory = crate::guest::RAM + 0x1f_0000;
        let places = [memory, 0, ITS, TRANSLATER - 4, TRANSLATER | 1 << 32, 0xfee0_0000];
        for (number, place) in (1..).zip(places) {
            rig.program(0, 0, place, 7)?;
            rig.notify(0, 0)?;
            wait("the write", || Ok(rig.bus.0.lock().unwrap().len() == number))?;
            same("the write", rig.bus.0.lock().unwrap().last(), Some(&(place, 7)))?;
        }
        for event in [12, 16, 0x1_0000] {
            rig.program(0, 0, TRANSLATER, event)?;
            rig.notify(0, 0)?;
        }
        rig.program(0, 0, TRANSLATER, 0)?;
        rig.notify(0, 0)?;
        rig.expect("what is mapped", 8192, [1, 0])?;
        same("failures", rig.routes.stats().failures, 0)?;
    }
    Ok(())
}
