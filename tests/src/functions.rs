//! Functions on KVM, as the tests with a real one need them.

use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Platform, RouteOptions, Routes};
use msix_core::{BarIndex, Boxed, Function as Engine, Layout, Vector};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::machine::Machine;

/// A VMM whose guest sends interrupts only.
#[derive(Debug)]
pub struct Vmm;

impl Platform for Vmm {
    fn write_memory(&mut self, address: u64, data: u32) {
        panic!("{data:#x} to {address:#x}: the guest sends interrupts only");
    }
    fn snoop(&mut self, _: Route) {}
}

/// The route table of a machine.
///
/// # Panics
/// Without another descriptor.
#[must_use]
pub fn routes(machine: &Machine, options: RouteOptions) -> Arc<Routes> {
    let events = Loop::new().expect("an epoll instance");
    Routes::new(Box::new(Arc::clone(machine.vm())), options, events)
}

/// A function in its reset state, all its vectors in use.
///
/// # Panics
/// For a number of vectors that no function has.
#[must_use]
pub fn fresh(routes: &Arc<Routes>, vectors: u16) -> Function<Vmm> {
    let bar = BarIndex::new(0).expect("a BAR");
    let layout = Layout::exclusive_bar(vectors.into(), bar).expect("1 to 2048 vectors");
    let function =
        Function::new(routes, FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) })
            .expect("no device id is needed");
    function.write_command(0, &[6, 0]);
    for vector in 0..vectors {
        function.claim(Vector::new(vector)).expect("a vector of the table");
    }
    function
}

/// A function whose vector v sends interrupt `first` + v % 64 to the first processor. All vectors
/// are masked; MSI-X is enabled.
///
/// # Panics
/// As [`fresh`].
#[must_use]
pub fn programmed(routes: &Arc<Routes>, vectors: u16, first: u8) -> Function<Vmm> {
    let function = fresh(routes, vectors);
    for vector in 0..vectors {
        let interrupt = u32::from(first) + u32::from(vector % 64);
        function.write_table(u64::from(vector) * 16, &0xfee0_0000_u64.to_le_bytes());
        function.write_table(u64::from(vector) * 16 + 8, &interrupt.to_le_bytes());
    }
    function.write_msix(3, &[0x80]);
    function
}

/// Whether a vector of MSI-X is delivered from userspace.
#[must_use]
pub fn is_fallback(function: &Function<Vmm>, vector: u16) -> bool {
    let look = |engine: &Engine<Boxed>| engine.msix()?.is_fallback(Vector::new(vector));
    function.inspect(look) == Some(true)
}

/// Writes a vector's mask bit, as a guest does.
pub fn mask(function: &Function<Vmm>, vector: u16, masked: bool) {
    function.write_table(u64::from(vector) * 16 + 12, &u32::from(masked).to_le_bytes());
}

/// The first 64 pending bits, as a guest reads them.
#[must_use]
pub fn pending(function: &Function<Vmm>) -> u64 {
    let mut bytes = [0; 8];
    function.read_pba(0, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// The userspace path, as a VMM runs it: a thread that ends with this.
#[derive(Debug)]
pub struct Userspace {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Userspace {
    /// Starts it.
    ///
    /// # Panics
    /// In the thread, when the epoll instance fails.
    #[must_use]
    pub fn run(routes: &Arc<Routes>) -> Self {
        let (routes, stop) = (Arc::clone(routes), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                routes.run(Some(Duration::from_millis(5))).expect("the epoll instance works");
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Userspace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed
        }
    }
}
