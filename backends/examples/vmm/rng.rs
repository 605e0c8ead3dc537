//! The random number generator: a thread that fills the buffers of the queue.

use crate::Outcome;
use crate::virtio::VirtioPci;
use crate::worker::Worker;
use msix_core::Vector;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use virtio_queue::QueueT as _;

/// Virtio's type of the device.
pub(crate) const KIND: u16 = 4;
/// The most bytes for one buffer.
const LONGEST: u64 = 64 << 10;

/// Starts the device's thread.
pub(crate) fn start(device: &Arc<VirtioPci>) -> Outcome<Worker> {
    let source = File::open("/dev/urandom")?;
    let rng = Arc::clone(device);
    Worker::start("rng", &device.kick, move |_| serve(&rng, &source))
}

/// Fills what the queue has, and raises an interrupt if the driver wants one. A queue that makes no
/// sense is left alone.
fn serve(device: &VirtioPci, source: &File) {
    let mut registers = device.registers();
    if !registers.is_driver_ok() || !registers.queue.is_valid(&device.memory) {
        return;
    }
    let queue = &mut registers.queue;
    while let Some(chain) = queue.pop_descriptor_chain(&device.memory) {
        let head = chain.head_index();
        let filled = chain.writer(&device.memory).map_or(Ok(0), |mut buffers| {
            let len = (buffers.available_bytes() as u64).min(LONGEST);
            io::copy(&mut source.take(len), &mut buffers)
        });
        let Ok(filled) = filled else { return };
        if queue.add_used(&device.memory, head, filled as u32).is_err() {
            return;
        }
    }
    let wanted = queue.needs_notification(&device.memory).unwrap_or(false);
    let vector = registers.queue_vector().filter(|_| wanted);
    drop(registers);
    if let Some(vector) = vector {
        device.outside.device_raises(|| {
            // The registers take no vector that does not exist.
            let _ = device.interrupts.notify(Vector::new(vector));
        });
    }
}
