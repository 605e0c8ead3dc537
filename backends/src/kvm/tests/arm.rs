//! What differs on Arm.

use super::{Vmm, start};
use crate::eventfd::Loop;
use crate::kvm::{
    Deferral, FakeVm, Format, Function, FunctionError, FunctionSetup, Gicv2mFrame,
    InterruptAddresses, Irqchip, KvmHost, MessageGroup, MessageGroupError, MessageGroupSetup,
    RouteEntry, RouteOptions, Routes, VmCall,
};
use msix_core::{BarIndex, Layout, Vector};
use std::sync::Arc;

const TRANSLATER: u64 = 0x0809_0040;
/// SPIs 8 to 15.
const FRAME: Gicv2mFrame = Gicv2mFrame { address: 0x0802_0000, first: 40, count: 8 };
const SETSPI: u64 = 0x0802_0040;
const GIC: Irqchip = Irqchip::Gic { spis: 32 };

fn routes(irqchip: Irqchip, deferral: Deferral) -> (FakeVm, Arc<Routes>) {
    let vm = FakeVm::new();
    let options = RouteOptions { deferral, ..RouteOptions::new(irqchip) };
    let routes = Routes::new(Box::new(vm.clone()), options, Loop::new().unwrap());
    (vm, routes)
}

fn function(routes: &Arc<Routes>, format: Format) -> Result<Function<Vmm>, FunctionError> {
    let layout = Layout::exclusive_bar(4, BarIndex::new(0).unwrap()).unwrap();
    let setup = FunctionSetup { msix: Some(layout), format, ..FunctionSetup::new(Vmm::default()) };
    Function::new(routes, setup)
}

fn program(function: &Function<Vmm>, vector: u16, address: u64, data: u32) {
    let entry = 16 * u64::from(vector);
    function.write_table(entry + 12, &1_u32.to_le_bytes());
    function.write_table(entry, &address.to_le_bytes());
    function.write_table(entry + 8, &data.to_le_bytes());
}

#[test]
fn k15_nothing_is_made_without_a_device_id_on_a_vm_that_needs_them() {
    let unnamed = Format { interrupts: InterruptAddresses::Any, ..Format::default() };
    let doorbell = InterruptAddresses::Doorbell(TRANSLATER);
    // The VM says so, or the format is that of an ITS.
    for (irqchip, asked, format) in [
        (Irqchip::Split, true, unnamed),
        (GIC, true, unnamed),
        (GIC, false, Format { interrupts: doorbell, ..unnamed }),
    ] {
        let (vm, routes) = routes(irqchip, Deferral::NONE);
        if asked {
            vm.need_device_ids();
        }
        assert_eq!(function(&routes, format).unwrap_err(), FunctionError::NoDeviceId);
        let host = KvmHost::new(&routes, 4, format, Vmm::default());
        assert_eq!(host.unwrap_err(), FunctionError::NoDeviceId);
        let setup = MessageGroupSetup { format, ..MessageGroupSetup::new(4, Vmm::default()) };
        let group = MessageGroup::new(&routes, setup).map(drop).unwrap_err();
        assert_eq!(group, MessageGroupError::Function(FunctionError::NoDeviceId));
        function(&routes, Format { device: Some(0), ..format }).unwrap();
    }
    // Neither: other interrupt controllers take any message.
    let (_vm, routes) = routes(Irqchip::Split, Deferral::NONE);
    function(&routes, Format { interrupts: doorbell, ..unnamed }).unwrap();
}

#[test]
fn k15_every_message_has_the_device_id_and_pins_keep_their_routes() {
    let (vm, routes) = routes(GIC, super::PATIENT);
    let function = start(function(&routes, Format::its(TRANSLATER, 0x28)).unwrap());
    for vector in 0..3 {
        program(&function, vector, TRANSLATER, 7 + u32::from(vector));
        super::mask(&function, vector, false);
        function.notify(Vector::new(vector)).unwrap();
    }
    routes.flush();
    for vector in 0..3 {
        function.notify(Vector::new(vector)).unwrap();
    }
    let delivered = vm.delivered();
    let mut data: Vec<u32> = delivered.iter().map(|msi| msi.data).collect();
    data[3..].sort_unstable(); // irqfds, in any order
    assert_eq!(data, [7, 8, 9, 7, 8, 9]);
    assert!(delivered.iter().all(|msi| msi.device == Some(0x28)));
    let table = vm.routes();
    let pins = table.iter().filter(|entry| matches!(entry, RouteEntry::Pin { .. }));
    assert_eq!((table.len(), pins.count()), (32 + 3, 32));
    assert_eq!(table[32].gsi(), 32);
}

/// A function with messages to the frame.
fn with_frame(deferral: Deferral) -> (FakeVm, Arc<Routes>, Function<Vmm>) {
    let (vm, routes) = routes(GIC, deferral);
    vm.need_device_ids(); // an ITS may be there as well
    let function = start(function(&routes, Format::gicv2m(FRAME)).unwrap());
    (vm, routes, function)
}

/// Programs a vector and unmasks it.
fn unmask(function: &Function<Vmm>, vector: u16, address: u64, data: u32) {
    program(function, vector, address, data);
    super::mask(function, vector, false);
}

fn fire(function: &Function<Vmm>, vector: u16) {
    function.notify(Vector::new(vector)).unwrap();
}

#[test]
fn k16_an_event_is_one_spi_by_a_line_and_by_an_irqfd_on_the_route_of_its_pin() {
    let (vm, routes, function) = with_frame(super::PATIENT);
    for vector in 0..3 {
        unmask(&function, vector, SETSPI, 40 + u32::from(vector));
        fire(&function, vector);
    }
    assert_eq!(vm.raised(), [8, 9, 10]);
    let pulses = |call: &&VmCall| matches!(call, VmCall::PulseSpi(_));
    assert_eq!((vm.count(pulses), vm.armed()), (2, 1), "the first one is committed at once");
    routes.flush();
    assert_eq!(vm.armed(), 3);
    for vector in 0..3 {
        fire(&function, vector);
        assert_eq!(vm.raised(), [8 + u32::from(vector)]);
    }
    // Rewritten while it is live, and masked meanwhile.
    function.write_table(16 + 8, &47_u32.to_le_bytes());
    fire(&function, 1);
    assert_eq!(vm.raised(), [15]);
    super::mask(&function, 0, true);
    fire(&function, 0);
    assert!(vm.raised().is_empty());
    super::mask(&function, 0, false);
    assert_eq!(vm.raised(), [8]);
    let table = vm.routes();
    let pin = |gsi, pin| RouteEntry::Pin { gsi, irqchip: 0, pin };
    assert!(table[..32].iter().zip(0..).all(|(entry, gsi)| *entry == pin(gsi, gsi)));
    assert_eq!(table[32..], [pin(32, 8), pin(33, 15), pin(34, 10)]);
    assert_eq!((vm.count(pulses), vm.delivered().len(), routes.stats().failures), (3, 0, 0));
    assert_eq!(routes.stats().signals, 3);
}

#[test]
fn k16_what_is_no_spi_of_the_frame_is_nobodys_and_what_is_not_the_register_is_memory() {
    for deferral in [Deferral::NONE, super::PATIENT] {
        let (vm, routes, function) = with_frame(deferral);
        for (vector, address, data) in [(0, SETSPI, 48), (1, SETSPI, 39), (2, 0x0802_0044, 40)] {
            unmask(&function, vector, address, data);
            fire(&function, vector);
        }
        assert_eq!((vm.calls(), vm.raised(), routes.deadline()), (vec![], vec![], None));
        assert_eq!(function.platform(|vmm| std::mem::take(&mut vmm.writes)), [(0x0802_0044, 40)]);
        // From there to an SPI, and back.
        for (data, raised) in [(41, vec![9]), (48, vec![]), (42, vec![10])] {
            unmask(&function, 0, SETSPI, data);
            routes.flush();
            fire(&function, 0);
            assert_eq!(vm.raised(), raised, "{data}");
        }
        // While it is live.
        for (data, raised) in [(39, vec![]), (40, vec![8]), (0, vec![]), (43, vec![11])] {
            function.write_table(8, &u32::to_le_bytes(data));
            fire(&function, 0);
            assert_eq!(vm.raised(), raised, "{data}");
        }
        assert_eq!(routes.stats().failures, 0);
        assert!(function.inspect(msix_core::Function::check));
    }
}

#[test]
fn k16_a_line_that_kvm_refuses_is_raised_later() {
    let (vm, routes, function) = with_frame(super::PATIENT);
    vm.fail(|_, call| call != VmCall::SetRoutes);
    unmask(&function, 0, SETSPI, 40);
    fire(&function, 0);
    fire(&function, 0);
    assert!(vm.raised().is_empty());
    vm.heal();
    routes.flush();
    assert_eq!(vm.raised(), [8]);
    let counters = function.vector_counters()[0];
    assert_eq!((counters.sent, counters.refused), (1, 2));
}
