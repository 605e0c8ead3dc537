//! The backend on a VM that counts, fails and pretends.

mod arm;
mod both;
mod calls;
mod connect;
mod faults;
mod flow;
mod hold;
mod message_group;
mod modes;
mod neighbours;
mod notifier;
mod outside_producers;
mod plain;
mod random;
mod random_modes;
mod retries;
mod runner;
mod seen_from_outside;

use super::{
    Deferral, FakeVm, Format, Function, FunctionSetup, InterruptAddresses, Irqchip, Platform,
    RouteEntry, RouteOptions, Routes,
};
use crate::Route;
use crate::eventfd::Loop;
use msix_core::{BarIndex, Boxed, Layout, Msix, Vector};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A VMM that records its calls.
#[derive(Debug, Default)]
pub(crate) struct Vmm {
    writes: Vec<(u64, u32)>,
    snooped: Vec<Route>,
}

impl Platform for Vmm {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.writes.push((address, data));
    }
    fn snoop(&mut self, route: Route) {
        self.snooped.push(route);
    }
}

/// A setup without any part, whose messages are those of x86 on every processor that runs the tests.
pub(crate) fn on_x86<P>(platform: P) -> FunctionSetup<P> {
    let interrupts = InterruptAddresses::LocalApics;
    let format = Format { interrupts, ..Format::default() };
    FunctionSetup { format, ..FunctionSetup::new(platform) }
}

/// A panic of the VMM that a test causes. Counts how often it reaches an input's caller.
#[derive(Debug, Clone, Default)]
pub(super) struct Bug(Arc<AtomicUsize>);

impl Bug {
    pub(super) fn reached(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn panic(&self) -> ! {
        resume_unwind(Box::new(self.clone()))
    }
}

/// Makes an input, which a [`Bug`] may reach in the end.
pub(super) fn attempt(input: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(input)) else { return };
    match panic.downcast::<Bug>() {
        Ok(bug) => _ = bug.0.fetch_add(1, Ordering::Relaxed),
        Err(panic) => resume_unwind(panic),
    }
}

/// One function on a fake VM. Vector v sends data 0x40 + v.
struct World {
    fake: FakeVm,
    routes: Arc<Routes>,
    function: Function<Vmm>,
}

pub(crate) const PATIENT: Deferral =
    Deferral { growth: 8, quiet: Duration::from_secs(3600), longest: Duration::from_secs(3600) };

impl World {
    fn new(vectors: u16, deferral: Deferral) -> Self {
        Self::with_limit(vectors, deferral, 4096)
    }

    fn with_limit(vectors: u16, deferral: Deferral, limit: u32) -> Self {
        let fake = FakeVm::new();
        let options = RouteOptions { deferral, limit, ..RouteOptions::new(Irqchip::Full) };
        let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
        let function = Self::add(&routes, vectors);
        Self { fake, routes, function }
    }

    /// A function with programmed and masked entries, and MSI-X enabled.
    fn add(routes: &Arc<Routes>, vectors: u16) -> Function<Vmm> {
        let layout = Layout::exclusive_bar(vectors.into(), BarIndex::new(0).unwrap()).unwrap();
        let setup = FunctionSetup { msix: Some(layout), ..on_x86(Vmm::default()) };
        start(Function::new(routes, setup).unwrap())
    }

    fn mask(&self, vector: u16, masked: bool) {
        mask(&self.function, vector, masked);
    }

    fn fire(&self, vector: u16) {
        self.function.notify(Vector::new(vector)).unwrap();
    }

    /// What was delivered since the last call.
    fn delivered(&self) -> Vec<u32> {
        // Reads what epoll has, without waiting.
        attempt(|| self.routes.run(Some(Duration::ZERO)).unwrap());
        delivered(&self.fake)
    }

    fn pba(&self) -> u64 {
        let mut bytes = [0; 8];
        self.function.read_pba(0, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Takes the data of what was delivered since the last call.
pub(crate) fn delivered(fake: &FakeVm) -> Vec<u32> {
    let routes = fake.routes();
    let pins = routes.iter().filter(|entry| matches!(entry, RouteEntry::Pin { .. })).count();
    assert!(routes.is_empty() || pins == 40, "K1: {pins} routes of pins");
    fake.delivered().into_iter().map(|msi| msi.data).collect()
}

/// Claims and programs all vectors, which stay masked, and enables MSI-X.
fn start(function: Function<Vmm>) -> Function<Vmm> {
    let vectors = function.inspect(|engine| engine.msix().map_or(0, Msix::vectors));
    function.write_command(0, &[6, 0]);
    for vector in 0..vectors {
        function.claim(Vector::new(vector)).unwrap();
        program(&function, vector, 0x40 + u32::from(vector));
    }
    function.write_msix(3, &[0x80]);
    function
}

/// Whether a vector of MSI-X is delivered from userspace.
pub(crate) fn is_fallback(function: &Function<Vmm>, vector: u16) -> bool {
    let look = |msix: &Msix<Boxed>| msix.is_fallback(Vector::new(vector)).unwrap();
    function.inspect(|engine| look(engine.msix().unwrap()))
}

/// Writes an entry as a guest does, but for its mask.
pub(crate) fn program(function: &Function<Vmm>, vector: u16, data: u32) {
    let entry = u64::from(vector) * 16;
    function.write_table(entry, &0xfee0_0000_u32.to_le_bytes());
    function.write_table(entry + 8, &data.to_le_bytes());
}

/// Saves a function, as bytes or as plain data, and loads that into it again.
fn save_and_load<P: super::Platform>(function: &Function<P>, as_bytes: bool) {
    if as_bytes {
        function.load(&function.save()).unwrap();
    } else {
        function.load_snapshot(&function.snapshot()).unwrap();
    }
    function.resume();
}

pub(crate) fn mask(function: &Function<Vmm>, vector: u16, masked: bool) {
    function.write_table(u64::from(vector) * 16 + 12, &u32::from(masked).to_le_bytes());
}
