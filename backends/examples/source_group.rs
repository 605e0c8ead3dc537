//! A group of interrupt sources, as device models of several VMMs want one: they trigger a source by its
//! number, or take its eventfd, and know nothing of masks, routes and modes.
//!
//! ```sh
//! cargo run -p msix-backends --features kvm --example source_group
//! ```

mod machine;

use machine::{Machine, Outcome, Vmm};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes};
use msix_core::{BarIndex, Layout, Vector};
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The device model's view.
trait InterruptSourceGroup: Send + Sync {
    /// Raises source `index`.
    fn trigger(&self, index: u16) -> io::Result<()>;
    /// Returns an eventfd that raises source `index`.
    fn notifier(&self, index: u16) -> io::Result<Arc<EventFd>>;
}

impl<P: Platform> InterruptSourceGroup for Function<P> {
    fn trigger(&self, index: u16) -> io::Result<()> {
        let raised = self.notify(Vector::new(index));
        raised.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn notifier(&self, index: u16) -> io::Result<Arc<EventFd>> {
        self.eventfd(Vector::new(index))
    }
}

fn main() -> Outcome {
    let Some(machine) = Machine::new()? else { return Ok(()) };
    let options = RouteOptions::new(Irqchip::Full);
    let routes = Routes::new(Box::new(machine.vm.clone()), options, Loop::new()?);
    let layout = Layout::exclusive_bar(2, BarIndex::new(0)?)?;
    let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) };
    let function = Function::new(&routes, setup)?;
    (0..2).try_for_each(|vector| function.claim(Vector::new(vector)))?;
    let group: Arc<dyn InterruptSourceGroup> = Arc::new(function.clone());

    function.write_command(0, &[0x06, 0x00]);
    function.write_msix(2, &[0x00, 0x80]);
    for (entry, data) in [(0, 0x41_u32), (16, 0x42)] {
        for (offset, value) in [(0, 0xfee0_0000), (8, data), (12, 0)] {
            function.write_table(entry + offset, &value.to_le_bytes());
        }
    }
    routes.flush();
    group.trigger(0)?;
    machine.take(0x41)?;
    group.notifier(1)?.write(1)?;
    machine.take(0x42)
}

#[test]
fn runs() -> Outcome {
    main()
}
