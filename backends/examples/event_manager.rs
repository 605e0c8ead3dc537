//! The loop of the userspace path inside the VMM's own loop, which is that of `event-manager`.
//!
//! ```sh
//! cargo run -p msix-backends --features kvm --example event_manager
//! ```

mod machine;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use machine::{Machine, Outcome, Vmm};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Irqchip, RouteOptions, Routes};
use msix_core::{BarIndex, Layout, Vector};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::epoll::EventSet;

/// Delivers what KVM does not, whenever the loop's descriptor is readable.
struct UserspacePath(Arc<Routes>);

impl MutEventSubscriber for UserspacePath {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&**self.0.events(), EventSet::IN)) {
            eprintln!("cannot watch: {error:?}");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        if let Err(error) = self.0.run(Some(Duration::ZERO)) {
            eprintln!("epoll: {error}");
        }
    }
}

/// One round of the VMM: waits for events. The loop is readable too when routes that wait are due.
fn round(manager: &mut EventManager<UserspacePath>) -> Outcome {
    manager.run().map_err(|error| format!("{error:?}"))?;
    Ok(())
}

fn main() -> Outcome {
    let Some(machine) = Machine::new()? else { return Ok(()) };
    let options = RouteOptions::new(Irqchip::Full);
    let routes = Routes::new(Box::new(machine.vm.clone()), options, Loop::new()?);
    let mut manager = EventManager::new().map_err(|error| format!("{error:?}"))?;
    manager.add_subscriber(UserspacePath(routes.clone()));

    let layout = Layout::exclusive_bar(2, BarIndex::new(0)?)?;
    let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) };
    let function = Function::new(&routes, setup)?;
    function.write_command(0, &[0x06, 0x00]);
    function.write_msix(2, &[0x01, 0x80]);
    for vector in [0, 1] {
        function.claim(Vector::new(vector))?;
        for (offset, value) in [(0, 0xfee0_0000), (8, 0x41 + u32::from(vector)), (12, 0)] {
            function.write_table(16 * u64::from(vector) + offset, &value.to_le_bytes());
        }
    }
    // Somebody else, such as a vhost worker, writes this. Its route waits for others.
    let eventfd = function.eventfd(Vector::new(1))?;
    eventfd.write(1)?; // so this one goes by userspace
    round(&mut manager)?;
    machine.take(0x42)?;
    while routes.deadline().is_some() {
        round(&mut manager)?;
    }
    eventfd.write(1)?; // and this one straight to KVM
    machine.take(0x42)?;
    println!("{:?}", routes.stats());
    Ok(())
}

#[test]
fn runs() -> Outcome {
    main()
}
