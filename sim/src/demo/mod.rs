//! Two guests that ring each other's doorbell through the ivshmem device.
//!
//! Each guest has a processor thread and the device of [`msix_ivshmem`]; a server makes them known to
//! each other. First they take turns, which shows how long a round trip takes; then both ring as fast
//! as they can, which shows that nothing is lost: before each ring a guest counts in the shared memory,
//! and the handler of the other notes how far the count is. Rings that one interrupt stands for are
//! coalesced (A12), and all are accounted for when the count that was noted is the count that was rung.

#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod kvm;
mod userspace;

use msix_ivshmem::{Board, DeviceError, IvshmemDevice, Server, ServerError, ServerOptions};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPlan {
    /// Rings of each guest that wait for the answer of the other.
    pub turns: u32,
    /// Rings of each guest after that, as fast as it can.
    pub flood: u32,
}

impl DemoPlan {
    /// Half of `rings` in turns, at most two million, which is what the guest's memory holds.
    #[must_use]
    pub fn of(rings: u32) -> Self {
        let turns = (rings / 2).min(2_000_000);
        Self { turns, flood: rings - turns }
    }

    /// Rings of each guest.
    #[must_use]
    pub const fn rings(&self) -> u32 {
        self.turns + self.flood
    }
}

/// One guest's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Side {
    /// Rings of its doorbell.
    pub sent: u32,
    /// Interrupts in its handler.
    pub taken: u32,
    /// Rings of the other that its handler had noted at the end.
    pub accounted: u32,
    /// Returns of KVM_RUN between the first ring and the last interrupt.
    pub exits: u64,
    /// Messages sent from userspace, by KVM_SIGNAL_MSI or without KVM.
    pub from_userspace: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DemoOutcome {
    /// `kvm` or `userspace`.
    pub backend: &'static str,
    /// Why there is no KVM.
    pub without_kvm: Option<String>,
    /// The guests.
    pub guests: [Side; 2],
    /// Round trips in nanoseconds, ascending: the 50th, 90th, 99th and 99.9th percentile and the
    /// longest.
    pub round_trip_ns: [u64; 5],
}

impl DemoOutcome {
    /// Whether every ring of each is accounted for at the other.
    #[must_use]
    pub fn nothing_lost(&self) -> bool {
        let [a, b] = &self.guests;
        a.sent == b.accounted && b.sent == a.accounted
    }

    /// Exits to userspace a ring.
    #[must_use]
    pub fn exits_per_ring(&self) -> f64 {
        let [a, b] = &self.guests;
        (a.exits + b.exits) as f64 / f64::from((a.sent + b.sent).max(1))
    }
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A guest did what it should not.
    #[error("guest {guest}: {what}")]
    Guest {
        /// Which.
        guest: usize,
        /// What it did.
        what: String,
    },
    /// A guest made no progress.
    #[error("no progress for {} s: {guests:?}", PATIENCE.as_secs())]
    Stuck {
        /// What the guests had counted.
        guests: [Side; 2],
    },
    /// It was asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Runs it on KVM, or where there is none with threads and eventfds, until it is done or `stop` is set.
///
/// # Errors
/// [`DemoError`]; nothing is left running.
pub fn run(plan: DemoPlan, stop: &AtomicBool) -> Result<DemoOutcome, DemoError> {
    #[cfg(target_arch = "x86_64")]
    let without = match msix_backends::kvm::probe() {
        Ok(_) => return served(|socket| kvm::run(plan, socket, stop)),
        Err(without) => without.to_string(),
    };
    #[cfg(not(target_arch = "x86_64"))]
    let without = "the guests are x86-64's".to_owned();
    let outcome = run_in_userspace(plan, stop)?;
    Ok(DemoOutcome { without_kvm: Some(without), ..outcome })
}

/// As [`run`], without KVM.
///
/// # Errors
/// [`DemoError`].
pub fn run_in_userspace(plan: DemoPlan, stop: &AtomicBool) -> Result<DemoOutcome, DemoError> {
    served(|socket| userspace::run(plan, socket, stop))
}

/// Runs something beside a server.
fn served<T>(run: impl FnOnce(&Path) -> Result<T, DemoError>) -> Result<T, DemoError> {
    let folder = tempfile::tempdir().map_err(DemoError::system("temporary folder"))?;
    let socket = folder.path().join("server");
    let _server = Serving::start(&socket)?;
    run(&socket)
}

/// Waits until a device knows itself and the other.
fn meet<B: Board>(device: &mut IvshmemDevice<B>) -> Result<(), DemoError> {
    let deadline = Instant::now() + PATIENCE;
    while device.peers().count() < 2 {
        device.serve().map_err(|error| DemoError::Device(error.into()))?;
        if Instant::now() > deadline {
            return Err(DemoError::Stuck { guests: [Side::default(); 2] });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A server in a thread, which ends with this.
struct Serving {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn start(socket: &Path) -> Result<Self, DemoError> {
        let options = ServerOptions { vectors: 1, size: MEMORY };
        let mut server = Server::bind(socket, options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = server.turn(Some(Duration::from_millis(20))) {
                    eprintln!("ivshmem server: {error}");
                    break;
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed
        }
    }
}

/// Where in the shared memory guest `index` counts its rings: apart, for the processors' caches.
const fn count_of(index: usize) -> u64 {
    4096 * (index as u64 + 1)
}

/// Percentiles of round trips, in nanoseconds.
fn percentiles(mut trips: Vec<u64>) -> [u64; 5] {
    trips.sort_unstable();
    let at =
        |per_mille: usize| trips.get((trips.len() * per_mille / 1000).min(trips.len().max(1) - 1));
    [500, 900, 990, 999, 1000].map(|per_mille| at(per_mille).copied().unwrap_or(0))
}

/// Bytes of shared memory.
const MEMORY: u64 = 1 << 16;
/// How long a guest may go without progress.
const PATIENCE: Duration = Duration::from_secs(20);
