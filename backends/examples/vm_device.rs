//! A device's BAR on the buses of `vm-device`: the table and the PBA in it are the function's.
//!
//! ```sh
//! cargo run -p msix-backends --features kvm --example vm_device
//! ```

mod machine;

use machine::{Machine, Outcome, Vmm};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Irqchip, RouteOptions, Routes};
use msix_core::{BarIndex, Layout, Region, Vector};
use std::sync::Arc;
use vm_device::DeviceMmio;
use vm_device::bus::{MmioAddress, MmioRange};
use vm_device::device_manager::{IoManager, MmioManager};

/// BAR 0 of the device: where its table and PBA are, and whose they are.
struct Bar {
    bar: BarIndex,
    layout: Layout,
    function: Function<Vmm>,
}

impl DeviceMmio for Bar {
    fn mmio_read(&self, _: MmioAddress, offset: u64, data: &mut [u8]) {
        match self.layout.locate(self.bar, offset) {
            Some((Region::Table, at)) => _ = self.function.read_table(at, data),
            Some((Region::Pba, at)) => _ = self.function.read_pba(at, data),
            None => data.fill(0), // the device's own registers would be here
        }
    }

    fn mmio_write(&self, _: MmioAddress, offset: u64, data: &[u8]) {
        match self.layout.locate(self.bar, offset) {
            Some((Region::Table, at)) => _ = self.function.write_table(at, data),
            Some((Region::Pba, at)) => _ = self.function.write_pba(at, data),
            None => {}
        }
    }
}

fn main() -> Outcome {
    let Some(machine) = Machine::new()? else { return Ok(()) };
    let options = RouteOptions::new(Irqchip::Full);
    let routes = Routes::new(Box::new(machine.vm.clone()), options, Loop::new()?);

    let bar = BarIndex::new(0)?;
    let layout = Layout::exclusive_bar(4, bar)?;
    let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) };
    let function = Function::new(&routes, setup)?;
    function.claim(Vector::new(0))?; // the device will raise vector 0
    let mut bus = IoManager::new();
    let range = MmioRange::new(MmioAddress(0xe000_0000), layout.min_bar_size(bar))?;
    bus.register_mmio(range, Arc::new(Bar { bar, layout, function: function.clone() }))?;

    // The guest turns bus mastering and MSI-X on by configuration space, and programs entry 0.
    function.write_command(0, &[0x06, 0x00]);
    function.write_msix(2, &[0x00, 0x80]);
    for (offset, value) in [(0, 0xfee0_0000_u32), (4, 0), (8, 0x41), (12, 0)] {
        bus.mmio_write(MmioAddress(0xe000_0000 + offset), &value.to_le_bytes())?;
    }
    // The device has an event.
    function.notify(Vector::new(0))?;
    machine.take(0x41)
}

#[test]
fn runs() -> Outcome {
    main()
}
