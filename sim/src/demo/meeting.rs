//! Where two guests meet: a server, and the memory that they share.

use super::plan::{DemoError, PATIENCE, Side};
use msix_ivshmem::{Board, IvshmemDevice, Server, ServerOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Runs something beside a server.
pub(super) fn served<T>(run: impl FnOnce(&Path) -> Result<T, DemoError>) -> Result<T, DemoError> {
    let folder = tempfile::tempdir().map_err(DemoError::system("temporary folder"))?;
    let socket = folder.path().join("server");
    let _server = Serving::start(&socket)?;
    run(&socket)
}

/// Waits until a device knows itself and the other.
pub(super) fn meet<B: Board>(device: &mut IvshmemDevice<B>) -> Result<(), DemoError> {
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
        let options = ServerOptions::new(1, MEMORY);
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
pub(super) const fn count_of(index: usize) -> u64 {
    4096 * (index as u64 + 1)
}

/// Bytes of shared memory.
pub(super) const MEMORY: u64 = 1 << 16;
