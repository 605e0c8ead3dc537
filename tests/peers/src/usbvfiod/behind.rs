//! usbvfiod as its clients have it: a VMM traps the guest's accesses to capability, table and PBA, and takes
//! the device's events from an eventfd. The VMM is this project's engine; its events are the controller's.

use super::Server;
use super::controller::Controller;
use msix_conformance::{Choices, Device, Layouts, Message, NoDevice, Refused, Subject};
use msix_core::{
    BarIndex, Boxed, Effect, Effects, Layout, Location, MAX_EFFECTS, Msix, NotCarriedOut, Policy,
    Vector,
};
use std::path::{Path, PathBuf};

/// A program that is usbvfiod, behind a VMM.
#[derive(Debug, Clone)]
pub struct BehindVmm {
    /// Where it is.
    pub program: PathBuf,
}

impl Subject for BehindVmm {
    fn name(&self) -> String {
        "usbvfiod 0.3.0, its events behind a VMM with this project's engine".into()
    }

    fn choices(&self) -> Choices {
        Choices::of(&Policy::SPEC)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        if vectors != 1 {
            return Err(NoDevice::NotOffered("it has one vector".into()));
        }
        let mut server = Server::start(&self.program).map_err(NoDevice::NotOffered)?;
        let controller = Controller::start(&mut server.client).map_err(NoDevice::NotOffered)?;
        Ok(Box::new(Vmm::new(server, controller).map_err(NoDevice::NotOffered)?))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

/// What the eventfd of a new device counts: of 100 events; and of one that is raised while the device has no
/// eventfd and one after it has it again, together.
///
/// # Errors
/// Why there is no device, or what it did not do.
pub fn counted(program: &Path) -> Result<[u64; 2], String> {
    let mut server = Server::start(program)?;
    let mut controller = Controller::start(&mut server.client)?;
    let mut all = 0;
    for _ in 0..100 {
        controller.raise(&mut server.client)?;
        all += controller.interrupts()?;
    }
    controller.disconnect(&mut server.client)?;
    controller.raise(&mut server.client)?;
    controller.connect(&mut server.client)?;
    controller.raise(&mut server.client)?;
    Ok([all, controller.interrupts()?])
}

struct Vmm {
    server: Server,
    controller: Controller,
    msix: Msix<Boxed>,
    fx: Effects<MAX_EFFECTS>,
    sent: Vec<Message>,
}

impl Vmm {
    /// With the table and the PBA where the server says that they are.
    fn new(server: Server, controller: Controller) -> Result<Self, String> {
        let place = |(bar, offset): (u32, u64)| {
            let bar = u8::try_from(bar).map_err(|why| why.to_string())?;
            let bar = BarIndex::new(bar).map_err(|why| why.to_string())?;
            Ok::<_, String>(Location::new(bar, offset))
        };
        let sizes =
            [0, 1, 2, 3, 4, 5].map(|bar| server.client.region(bar).map_or(0, |bar| bar.size));
        let layout = Layout::new(1, place(server.table)?, place(server.pba)?, &sizes);
        let msix = Msix::boxed(layout.map_err(|why| why.to_string())?, Policy::SPEC);
        let mut vmm = Self { server, controller, msix, fx: Effects::new(), sent: Vec::new() };
        vmm.input(|msix, fx| msix.claim(Vector::new(0), fx)).map_err(|why| why.to_string())?;
        vmm.always(Msix::attach);
        Ok(vmm)
    }

    /// One input. Userspace delivers: all that is carried out is the sending.
    fn input<T>(
        &mut self,
        input: impl FnOnce(&mut Msix<Boxed>, &mut Effects<MAX_EFFECTS>) -> T,
    ) -> T {
        let answer = input(&mut self.msix, &mut self.fx);
        while let Some(effect) = self.fx.take() {
            if let Effect::Send(set) = effect {
                self.sent.extend(set.iter().filter_map(|v| self.msix.message(v)));
            }
        }
        answer
    }

    fn always<T>(
        &mut self,
        input: impl FnOnce(&mut Msix<Boxed>, &mut Effects<MAX_EFFECTS>) -> Result<T, NotCarriedOut>,
    ) {
        assert!(self.input(input).is_ok(), "the list was carried out");
    }
}

impl Device for Vmm {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.msix.read_config(offset, bytes);
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.always(|msix, fx| msix.write_config(offset, bytes, fx));
    }
    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.msix.read_table(offset, bytes);
    }
    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.always(|msix, fx| msix.write_table(offset, bytes, fx));
    }
    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.msix.read_pba(offset, bytes);
    }
    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        let _ = self.msix.write_pba(offset, bytes);
    }
    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        if vector != 0 {
            return Err(Refused(format!("no vector {vector}")));
        }
        let raised = self.controller.raise(&mut self.server.client);
        let counted = raised.and_then(|()| self.controller.interrupts());
        assert_eq!(counted, Ok(1), "an event is one write to the eventfd");
        self.input(|msix, fx| msix.notify(Vector::new(0), fx)).map(drop).map_err(Refused::because)
    }
    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }
    nothing! {
        claims: Claims, withdrawal: Withdrawal, side_channel: SideChannel, function_reset: FunctionReset,
        bus_master: BusMaster, intx: IntxLog, host_log: HostLog, host_script: HostScript,
        backend_log: BackendLog, attachment: Attachment, snapshots: Snapshots, qemu_field: QemuField
    }
}
