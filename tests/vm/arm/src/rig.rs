//! Functions of the backend on a machine, with a guest that is their driver.

use crate::guest::{EVENTS, LEVEL, RAISE, SATISFY};
use crate::machine::{Access, Chip, Machine, SPIS, TRANSLATER, mapc, mapd, mapti, sync};
use crate::{Outcome, same, text, wait};
use kvm_ioctls::{Kvm, VmFd};
use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Deferral, Format, Function, FunctionSetup, GuestPin, Irqchip, Platform, RouteOptions, Routes,
    Runner, Vm,
};
use msix_core::{BarIndex, Layout, Vector};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Vectors of a function.
pub(crate) const VECTORS: u16 = 8;
/// The requester id of the first device, and of the second.
pub(crate) const IDS: [u32; 2] = [0x28, 0x1_0130 & 0xffff];
/// Where the first function's BAR is; the next one's is a page behind.
const BARS: u64 = 0x1000_0000;

/// The VMM's bus, which notes what functions write there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bus(pub(crate) Arc<Mutex<Vec<(u64, u32)>>>);

impl Platform for Bus {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.0.lock().unwrap().push((address, data));
    }
    fn snoop(&mut self, _: Route) {} // only Xen wants to
}

/// Raises a level, or ends it.
pub(crate) type SetLevel = Box<dyn Fn(bool) + Send + Sync>;

/// The pin of a function at the guest's controller, driven by userspace: the SPI [`LEVEL`].
pub(crate) struct Spi(pub(crate) Arc<VmFd>);

impl GuestPin for Spi {
    fn set_level(&mut self, asserted: bool) {
        self.0.set_irq_line(1 << 24 | LEVEL, asserted).expect("the VM has the SPI");
    }
}

pub(crate) struct Rig {
    pub(crate) functions: Vec<Function<Bus>>,
    pub(crate) bus: Bus,
    pub(crate) routes: Arc<Routes>,
    _runner: Runner,
    pub(crate) machine: Machine,
    /// What the guest does to the level by a write of [`RAISE`], and its handler before the interrupt ends.
    pub(crate) level: Arc<OnceLock<SetLevel>>,
    /// Writes of the guest that reached userspace and belong to no function.
    pub(crate) exits: Arc<Mutex<Vec<(u64, u32)>>>,
    /// What was taken, by interrupt, when it was last looked at.
    pub(crate) seen: BTreeMap<u32, [u32; 2]>,
}

impl Rig {
    /// Two devices of an ITS, with 8 vectors each. The ITS maps event n of the first to LPI 8192 + n and
    /// of the second to 8208 + n, for processor 0. No function is programmed.
    pub(crate) fn with_its(kvm: &Kvm, deferral: Deferral) -> Outcome<Self> {
        Self::with_its_behind(kvm, deferral, |vm| vm)
    }

    /// The same, with something between the backend and the VM.
    pub(crate) fn with_its_behind(
        kvm: &Kvm,
        deferral: Deferral,
        between: impl FnOnce(Box<dyn Vm>) -> Box<dyn Vm>,
    ) -> Outcome<Self> {
        let machine = Machine::new(kvm, Chip::V3WithIts)?;
        let formats = [IDS[0], IDS[1], IDS[0]].map(|id| Format::its(TRANSLATER, id));
        let mut rig = Self::of(machine, deferral, &formats, between)?;
        let accesses = rig.machine.bring_up();
        rig.start(&accesses)?;
        let mut commands = vec![mapc(0, 0), mapc(1, 1)];
        for (index, device) in (0..).zip(IDS) {
            commands.push(mapd(device, 4, EVENTS + 0x1_0000 * u64::from(index)));
            for event in 0..VECTORS.into() {
                let lpi = 8192 + 16 * index + event;
                rig.machine.configure(lpi, true)?;
                commands.push(mapti(device, event, lpi, 0));
            }
        }
        commands.extend([sync(0), sync(1)]);
        rig.command(&commands)?;
        Ok(rig)
    }

    /// Functions with these formats on a machine that does not run yet.
    pub(crate) fn of(
        machine: Machine,
        deferral: Deferral,
        formats: &[Format],
        between: impl FnOnce(Box<dyn Vm>) -> Box<dyn Vm>,
    ) -> Outcome<Self> {
        let mut options = RouteOptions::new(Irqchip::Gic { spis: SPIS });
        options.deferral = deferral;
        let vm = between(Box::new(Arc::clone(&machine.vm)));
        let routes = Routes::new(vm, options, Loop::new().map_err(text)?);
        let runner = Runner::start(&routes, "msix", || Ok(())).map_err(text)?;
        let bus = Bus::default();
        let mut functions = Vec::new();
        for &format in formats {
            let bar = BarIndex::new(1).map_err(text)?;
            let layout = Layout::exclusive_bar(VECTORS.into(), bar).map_err(text)?;
            let setup =
                FunctionSetup { msix: Some(layout), format, ..FunctionSetup::new(bus.clone()) };
            let function = Function::new(&routes, setup).map_err(text)?;
            function.claim_all();
            function.write_command(0, &[6, 0]);
            function.write_msix(2, &[0, 0x80]);
            functions.push(function);
        }
        Ok(Self {
            functions,
            bus,
            routes,
            _runner: runner,
            machine,
            level: Arc::default(),
            exits: Arc::default(),
            seen: BTreeMap::new(),
        })
    }

    /// Starts the guest, whose writes reach the functions, and which does these accesses first.
    pub(crate) fn start(&mut self, accesses: &[Access]) -> Outcome {
        let functions = self.functions.clone();
        let (level, exits) = (Arc::clone(&self.level), Arc::clone(&self.exits));
        self.machine.start(accesses, move |address, data| {
            let page = address.checked_sub(BARS).map(|offset| (offset / 0x1000) as usize);
            match (address, page.and_then(|page| functions.get(page)), level.get()) {
                (RAISE | SATISFY, _, Some(set_level)) => set_level(address == RAISE),
                (_, Some(function), _) => drop(function.write_table(address % 0x1000, data)),
                _ => {
                    let word = data.try_into().map(u32::from_le_bytes);
                    exits.lock().unwrap().extend(word.map(|word| (address, word)));
                }
            }
        })
    }

    /// Has the ITS carry these out.
    pub(crate) fn command(&mut self, commands: &[[u64; 4]]) -> Outcome {
        let access = self.machine.command(commands)?;
        let done = self.machine.script(&[access, Access::Read64(crate::machine::ITS + 0x90)])?;
        let Access::Write64(_, written) = access else { return Err("not a register".to_owned()) };
        same("commands that the ITS carried out", done, written)
    }

    /// What a driver does for a vector: message and unmask, by accesses of the guest.
    pub(crate) fn program(&self, function: u64, vector: u16, address: u64, data: u32) -> Outcome {
        let at = BARS + 0x1000 * function + 16 * u64::from(vector);
        let accesses = [
            Access::Write(at + 12, 1),
            Access::Write(at, address as u32),
            Access::Write(at + 4, (address >> 32) as u32),
            Access::Write(at + 8, data),
            Access::Write(at + 12, 0),
        ];
        self.machine.script(&accesses).map(drop)
    }

    /// Writes a message without a mask around it, as a driver does to change the data alone.
    pub(crate) fn set_data(&self, function: u64, vector: u16, data: u32) -> Outcome {
        let at = BARS + 0x1000 * function + 16 * u64::from(vector);
        self.machine.script(&[Access::Write(at + 8, data)]).map(drop)
    }

    /// Masks a vector, or unmasks it.
    pub(crate) fn mask(&self, function: u64, vector: u16, masked: bool) -> Outcome {
        let at = BARS + 0x1000 * function + 16 * u64::from(vector) + 12;
        self.machine.script(&[Access::Write(at, masked.into())]).map(drop)
    }

    /// An event of a device.
    pub(crate) fn notify(&self, function: usize, vector: u16) -> Outcome {
        self.functions[function].notify(Vector::new(vector)).map(drop).map_err(text)
    }

    /// So many interrupts arrived at each processor since the last look, soon and no more.
    pub(crate) fn expect(&mut self, what: &str, interrupt: u32, more: [u32; 2]) -> Outcome {
        let before = self.seen.get(&interrupt).copied().unwrap_or_default();
        let expected = [before[0] + more[0], before[1] + more[1]];
        let arrived = wait(what, || {
            let taken = self.machine.taken(interrupt)?;
            Ok(taken[0] >= expected[0] && taken[1] >= expected[1])
        });
        if arrived.is_ok() {
            std::thread::sleep(Duration::from_millis(10)); // nor more
        }
        let taken = self.machine.taken(interrupt)?;
        self.seen.insert(interrupt, taken);
        same(&format!("{what}: interrupt {interrupt}, on each processor"), taken, expected)?;
        arrived
    }
}
