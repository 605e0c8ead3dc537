//! MSI and the pin of a function.

use super::Test;
use crate::guest::{LEVEL, RAISE};
use crate::machine::{Access, TRANSLATER};
use crate::rig::{Bus, IDS, Rig, Spi};
use crate::{Outcome, same, text, wait};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{Deferral, Format, Function, FunctionSetup};
use msix_core::{MsiCapability, Vector};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("MSI and INTx of a function", msi_and_intx),
    ("KVM brings a level to the guest and its end back", resampled),
];

fn msi_and_intx(kvm: &Kvm) -> Outcome {
    let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
    let vm = Arc::clone(&rig.machine.vm);
    let setup = FunctionSetup {
        msi: Some(MsiCapability::new(4).map_err(text)?.with_64_bit_address()),
        pin: Some(Box::new(Spi(vm))),
        format: Format::its(TRANSLATER, IDS[0]),
        ..FunctionSetup::new(Bus::default())
    };
    let function = Function::new(&rig.routes, setup).map_err(text)?;
    let its = function.clone();
    rig.level.set(Box::new(move |high| its.set_level(high))).map_err(|_| "set before")?;
    function.claim_all();
    function.write_command(0, &[6, 0]);
    // By the processor that takes the interrupt: another thread may still be at the pin when the handler ends.
    let raise = Access::Write(RAISE, 1);
    for _ in 0..3 {
        rig.machine.script(&[raise])?;
        rig.expect("the pin", LEVEL, [1, 0])?;
    }
    function.write_msi(4, &(TRANSLATER as u32).to_le_bytes());
    function.write_msi(8, &[0; 4]);
    function.write_msi(12, &[4, 0]); // events 4 to 7
    function.write_msi(2, &[2 << 4 | 1, 0]); // enabled, with four vectors
    for vector in 0..4 {
        for _ in 0..3 {
            function.notify(Vector::new(vector)).map_err(text)?;
            rig.expect("MSI", 8196 + u32::from(vector), [1, 0])?;
        }
    }
    function.write_msi(2, &[1, 0]); // one vector: all events are its
    function.notify(Vector::new(3)).map_err(text)?;
    rig.expect("MSI with one vector", 8196, [1, 0])?;
    function.write_msi(2, &[0, 0]);
    rig.machine.script(&[raise])?;
    rig.expect("the pin again", LEVEL, [1, 0])?;
    same("failures", rig.routes.stats().failures, 0)
}

fn resampled(kvm: &Kvm) -> Outcome {
    let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
    let eventfd = || EventFd::new(EFD_NONBLOCK).map_err(text);
    let (trigger, resample) = (eventfd()?, eventfd()?);
    let vm = Arc::clone(&rig.machine.vm);
    vm.register_irqfd_with_resample(&trigger, &resample, LEVEL - 32).map_err(text)?;
    for round in 0..5 {
        // Each commit must leave the pin's route in the table.
        rig.program(0, round, TRANSLATER, round.into())?;
        trigger.write(1).map_err(text)?;
        wait("the end of the interrupt", || Ok(resample.read().is_ok()))?;
        rig.expect("the level", LEVEL, [1, 0])?;
        same("ends of it", resample.read().is_ok(), false)?;
    }
    same("commits", rig.routes.stats().commits >= 5, true)
}
