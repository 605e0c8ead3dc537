//! Virtual machines, and both sides on them: the backend, and the system calls alone.

use crate::measure::{Asked, Outcome, Turn, timed};
use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KvmIrqRouting,
    kvm_enable_cap, kvm_irq_routing_entry as Entry, kvm_irq_routing_irqchip as Pin,
    kvm_irq_routing_msi as Msi,
};
use kvm_ioctls::{Kvm, VmFd};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Deferral, EventfdOrigin, Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes,
};
use msix_core::{Access, BarIndex, Layout, Vector};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The address of every message: the first processor.
pub(crate) const ADDRESS: u32 = 0xfee0_0000;
/// The data of every message.
pub(crate) const DATA: u32 = 0x41;
/// The first GSI that is not a pin's.
pub(crate) const FIRST_GSI: u32 = 24;

/// A machine with all interrupt controllers in the kernel.
pub(crate) fn machine() -> Outcome<Arc<VmFd>> {
    let vm = Kvm::new()?.create_vm()?;
    vm.set_tss_address(0xfffb_d000)?; // for Intel's real mode
    vm.create_irq_chip()?;
    Ok(Arc::new(vm))
}

/// A machine with local APICs in the kernel, and no routes of pins.
pub(crate) fn machine_with_split_irqchip() -> Outcome<Arc<VmFd>> {
    let vm = Kvm::new()?.create_vm()?;
    vm.set_tss_address(0xfffb_d000)?;
    let args = [u64::from(FIRST_GSI), 0, 0, 0];
    vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args, ..Default::default() })?;
    Ok(Arc::new(vm))
}

/// A VMM whose other parts do nothing.
pub(crate) struct Rest;

impl Platform for Rest {
    fn write_memory(&mut self, _: u64, _: u32) {}
    fn snoop(&mut self, _: msix_backends::Route) {}
}

/// The backend with one function, MSI-X enabled and every vector used and masked.
pub(crate) struct Ours {
    // Before the machine: what it owns goes with it.
    pub(crate) function: Function<Rest>,
    pub(crate) routes: Arc<Routes>,
    vectors: u16,
}

impl Ours {
    pub(crate) fn new(vm: Arc<VmFd>, vectors: u16, deferral: Deferral) -> Outcome<Self> {
        let mut options = RouteOptions::new(Irqchip::Full);
        options.deferral = deferral;
        Self::on(Routes::new(Box::new(vm), options, Loop::new()?), vectors)
    }

    /// The same with these routes.
    pub(crate) fn on(routes: Arc<Routes>, vectors: u16) -> Outcome<Self> {
        Self::with_eventfds(routes, vectors, EventfdOrigin::Own)
    }

    /// The same with eventfds from elsewhere: none are assigned until they are connected.
    pub(crate) fn with_eventfds(
        routes: Arc<Routes>,
        vectors: u16,
        eventfds: EventfdOrigin,
    ) -> Outcome<Self> {
        let layout = Layout::exclusive_bar(u32::from(vectors), BarIndex::new(1)?)?;
        let function = Function::new(
            &routes,
            FunctionSetup { msix: Some(layout), eventfds, ..FunctionSetup::new(Rest) },
        )
        .expect("no device id is needed");
        function.write_command(0, &[0x06, 0x00]);
        for vector in 0..vectors {
            function.claim(Vector::new(vector))?;
        }
        function.write_msix(2, &[0x00, 0x80]);
        Ok(Self { function, routes, vectors })
    }

    /// [`Ours::new`], and the guest has brought all vectors up.
    pub(crate) fn live(vm: Arc<VmFd>, vectors: u16, deferral: Deferral) -> Outcome<Self> {
        let ours = Self::new(vm, vectors, deferral)?;
        ours.bring_up();
        Ok(ours)
    }

    /// As Linux does it, and then what a deadline does.
    pub(crate) fn bring_up(&self) {
        for vector in 0..self.vectors {
            self.program(vector, ADDRESS, DATA);
            self.mask(vector, false);
        }
        self.routes.flush();
    }

    pub(crate) fn program(&self, vector: u16, address: u32, data: u32) {
        self.write(vector, 0, address);
        self.write(vector, 4, 0);
        self.write(vector, 8, data);
    }

    pub(crate) fn mask(&self, vector: u16, masked: bool) {
        self.write(vector, 12, u32::from(masked));
    }

    pub(crate) fn mask_function(&self, masked: bool) {
        self.function.write_msix(2, &[0x00, if masked { 0xc0 } else { 0x80 }]);
    }

    fn write(&self, vector: u16, offset: u64, value: u32) {
        let offset = u64::from(vector) * 16 + offset;
        let access = self.function.write_table(offset, &value.to_le_bytes());
        debug_assert_eq!(access, Access::Done);
    }

    /// Times `work` and counts what it asks of the kernel.
    pub(crate) fn turn(&self, work: impl FnOnce(&Self)) -> Outcome<Turn> {
        let before = self.routes.stats();
        let turn = timed(|| {
            work(self);
            Ok(())
        })?;
        Ok(turn.asked(Asked::between(before, self.routes.stats())))
    }
}

/// The system calls alone.
pub(crate) struct Floor {
    // Before the eventfds: the kernel takes the irqfds apart with the machine.
    vm: Arc<VmFd>,
    eventfds: Vec<EventFd>,
    table: Option<KvmIrqRouting>,
    vectors: u16,
}

impl Floor {
    pub(crate) const fn new(vm: Arc<VmFd>, vectors: u16) -> Self {
        Self { vm, eventfds: Vec::new(), table: None, vectors }
    }

    /// [`Floor::new`], and everything is armed.
    pub(crate) fn live(vm: Arc<VmFd>, vectors: u16) -> Outcome<Self> {
        let mut floor = Self::new(vm, vectors);
        floor.make_eventfds()?;
        floor.bring_up()?;
        Ok(floor)
    }

    pub(crate) fn make_eventfds(&mut self) -> Outcome<()> {
        for _ in 0..self.vectors {
            self.eventfds.push(EventFd::new(EFD_NONBLOCK)?);
        }
        Ok(())
    }

    pub(crate) fn bring_up(&mut self) -> Outcome<()> {
        let pic = (0..16).map(|gsi| pin(gsi, gsi / 8, gsi % 8));
        let ioapic = (0..FIRST_GSI).map(|gsi| pin(gsi, 2, gsi));
        self.make_table(pic.chain(ioapic))?;
        self.commit()?;
        for vector in 0..self.vectors {
            self.assign(vector)?;
        }
        Ok(())
    }

    /// Makes the table of these routes and those of the vectors.
    pub(crate) fn make_table(&mut self, pins: impl IntoIterator<Item = Entry>) -> Outcome<()> {
        let vectors = (FIRST_GSI..).take(usize::from(self.vectors)).map(msi);
        let entries: Vec<Entry> = pins.into_iter().chain(vectors).collect();
        self.table = Some(KvmIrqRouting::from_entries(&entries)?);
        Ok(())
    }

    /// Changes the message of a vector in the table.
    pub(crate) fn program(&mut self, vector: u16, address: u32) {
        if let Some(table) = &mut self.table {
            let place = table.as_slice().len() - usize::from(self.vectors) + usize::from(vector);
            table.as_mut_slice()[place] = entry(gsi(vector), address);
        }
    }

    pub(crate) fn commit(&self) -> Outcome<()> {
        let table = self.table.as_ref().ok_or("no table yet")?;
        Ok(self.vm.set_gsi_routing(table)?)
    }

    pub(crate) fn assign(&self, vector: u16) -> Outcome<()> {
        Ok(self.vm.register_irqfd(&self.eventfds[usize::from(vector)], gsi(vector))?)
    }

    pub(crate) fn deassign(&self, vector: u16) -> Outcome<()> {
        Ok(self.vm.unregister_irqfd(&self.eventfds[usize::from(vector)], gsi(vector))?)
    }
}

fn gsi(vector: u16) -> u32 {
    FIRST_GSI + u32::from(vector)
}

fn pin(gsi: u32, irqchip: u32, pin: u32) -> Entry {
    let mut entry = Entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip = Pin { irqchip, pin };
    entry
}

fn msi(gsi: u32) -> Entry {
    entry(gsi, ADDRESS)
}

fn entry(gsi: u32, address_lo: u32) -> Entry {
    let mut entry = Entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi = Msi { address_lo, address_hi: 0, data: DATA, ..Default::default() };
    entry
}
