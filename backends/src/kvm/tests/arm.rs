//! What differs on Arm.

use super::{Vmm, start};
use crate::eventfd::Loop;
use crate::kvm::{
    Deferral, FakeVm, Format, Function, FunctionError, FunctionSetup, InterruptAddresses, Irqchip,
    KvmHost, MessageGroup, MessageGroupError, MessageGroupSetup, RouteEntry, RouteOptions, Routes,
};
use msix_core::{BarIndex, Layout, Vector};
use std::sync::Arc;

const TRANSLATER: u64 = 0x0809_0040;
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
    function.write_table(entry + 8, &u64::from(data).to_le_bytes());
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
        function.write_table(16 * u64::from(vector) + 12, &[0]);
        function.notify(Vector::new(vector)).unwrap();
    }
    routes.flush();
    for vector in 0..3 {
        function.notify(Vector::new(vector)).unwrap();
    }
    let delivered = vm.delivered();
    assert_eq!(delivered.iter().map(|msi| msi.data).collect::<Vec<_>>(), [7, 8, 9, 7, 8, 9]);
    assert!(delivered.iter().all(|msi| msi.device == Some(0x28)));
    let table = vm.routes();
    let pins = table.iter().filter(|entry| matches!(entry, RouteEntry::Pin { .. }));
    assert_eq!((table.len(), pins.count()), (32 + 3, 32));
    assert_eq!(table[32].gsi(), 32);
}
