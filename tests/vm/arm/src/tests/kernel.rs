//! What KVM says and does on Arm, which the rules K15 and K16 state.

use super::Test;
use crate::machine::{Chip, Machine, TRANSLATER};
use crate::rig::Bus;
use crate::{Outcome, same, text, wait};
use kvm_ioctls::{Cap, Kvm};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Format, Function, FunctionError, FunctionSetup, Irqchip, KvmMessage, RouteEntry, RouteOptions,
    Routes, Vm,
};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Those that need a GICv3 with its ITS.
pub(super) const OF_ITS: &[(&str, Test)] = &[
    ("an ITS takes messages with a device id alone", messages),
    ("no function without one", refused),
];

/// Those that need no ITS, on any controller.
pub(super) const OF_SPIS: &[(&str, Test)] =
    &[("an SPI is raised by a line, and by irqfds on the routes of pins", spis)];

fn message(address: u64, data: u32, device: Option<u32>) -> KvmMessage {
    let (address_lo, address_hi) = (address as u32, (address >> 32) as u32);
    KvmMessage { address_lo, address_hi, data, device }
}

/// What KVM_SIGNAL_MSI answers: whether it was taken, or an error's number.
fn answer(machine: &Machine, message: KvmMessage) -> Result<bool, Option<i32>> {
    Vm::signal(&*machine.vm, message).map_err(|error| error.raw_os_error())
}

fn messages(kvm: &Kvm) -> Outcome {
    let id = Some(0x28);
    let good = message(TRANSLATER, 0, id);
    let before = Machine::new(kvm, Chip::V3)?;
    same("device ids without an ITS", before.vm.check_extension_int(Cap::MsiDevid), 0)?;
    same("a message without an ITS", answer(&before, good), Ok(false))?; // ENODEV
    let machine = Machine::new(kvm, Chip::V3WithIts)?;
    same("device ids with an ITS", machine.vm.check_extension_int(Cap::MsiDevid), 1)?;
    same("a message while the ITS is off", answer(&machine, good), Err(Some(16)))?; // EBUSY
    let bare = KvmMessage { device: None, ..good };
    same("a message without a device id", answer(&machine, bare), Ok(false))?; // EINVAL
    let elsewhere = message(0xfee0_0000, 0, id);
    same("a message to no doorbell", answer(&machine, elsewhere), Ok(false))?;
    // Routes are taken as they are.
    let routes = [bare, elsewhere, good].map(|msi| [RouteEntry::Msi { gsi: 100, msi }]);
    routes.iter().try_for_each(|table| machine.vm.set_routes(table)).map_err(text)
}

fn refused(kvm: &Kvm) -> Outcome {
    for (chip, expected) in [(Chip::V3, None), (Chip::V3WithIts, Some(FunctionError::NoDeviceId))] {
        let machine = Machine::new(kvm, chip)?;
        let vm = Box::new(Arc::clone(&machine.vm));
        // Nothing but the VM says what it is.
        let options = RouteOptions::new(Irqchip::Split);
        let routes = Routes::new(vm, options, Loop::new().map_err(text)?);
        let bare = Function::new(&routes, FunctionSetup::new(Bus::default()));
        same(&format!("a function on {chip:?}"), bare.err(), expected)?;
        let format = Format::its(TRANSLATER, 0x28);
        let setup = FunctionSetup { format, ..FunctionSetup::new(Bus::default()) };
        Function::new(&routes, setup).map_err(text)?;
    }
    Ok(())
}

fn spis(kvm: &Kvm) -> Outcome {
    let chip = if crate::is_v2() { Chip::V2 } else { Chip::V3 };
    let mut machine = Machine::new(kvm, chip)?;
    machine.start(&machine.bring_up(), |_, _| ())?;
    let frame = message(0x0802_0040, 50, None);
    same("a message", answer(&machine, frame), Ok(false))?; // ENODEV
    let taken = |what: &str, spi: u32, expected: u32| {
        wait(what, || Ok(machine.taken(spi)?[0] >= expected))?;
        same(what, machine.taken(spi)?[0], expected)
    };
    for round in 1..=3 {
        machine.pulse(50)?;
        taken("an SPI by its line", 50, round)?;
    }
    let irqfd = |gsi| {
        let eventfd = EventFd::new(EFD_NONBLOCK).map_err(text)?;
        machine.vm.register_irqfd(&eventfd, gsi).map_err(text)?;
        Ok::<_, String>(eventfd)
    };
    let default = irqfd(19)?;
    default.write(1).map_err(text)?;
    taken("an SPI by KVM's default route", 51, 1)?;
    let pin = |gsi, pin| RouteEntry::Pin { gsi, irqchip: 0, pin };
    machine.vm.set_routes(&[pin(100, 20)]).map_err(text)?;
    let routed = irqfd(100)?;
    for round in 1..=3 {
        routed.write(1).map_err(text)?;
        taken("an SPI by a route", 52, round)?;
    }
    machine.vm.set_routes(&[pin(100, 21)]).map_err(text)?;
    routed.write(1).map_err(text)?;
    taken("an SPI after another route", 53, 1)?;
    default.write(1).map_err(text)?;
    machine.pulse(50)?;
    taken("an SPI by its line", 50, 4)?;
    same("the default route is gone", machine.taken(51)?[0], 1)
}
