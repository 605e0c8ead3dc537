//! A worker that stands for another process, such as a vhost back end: it has an eventfd, and knows
//! nothing of tables, masks and routes. The guest of a test tells it how often to write it.
//!
//! | offset | what |
//! |---|---|
//! | 0 | a write of `n` has the worker write the eventfd `n` times, without waiting for it; a read says how often it has written it |
//! | 4 | a read says how often the device itself began to raise an interrupt |
//! | 8 | a read says how often it had raised one |

use crate::Outcome;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vmm_sys_util::eventfd::EventFd;

/// The worker, and what the guest may know.
pub(crate) struct Outside {
    orders: Arc<EventFd>,
    written: Arc<AtomicU32>,
    began: AtomicU32,
    raised: AtomicU32,
    _worker: Worker,
}

impl Outside {
    /// Starts the worker.
    pub(crate) fn start(eventfd: Arc<EventFd>) -> Outcome<Self> {
        let orders = Arc::new(EventFd::new(0)?);
        let written = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&written);
        let worker = Worker::start("outside", &orders, move |times| {
            for _ in 0..times {
                if eventfd.write(1).is_ok() {
                    counted.fetch_add(1, Ordering::Release);
                }
            }
        })?;
        let (began, raised) = (AtomicU32::new(0), AtomicU32::new(0));
        Ok(Self { orders, written, began, raised, _worker: worker })
    }

    /// Raises an interrupt of the device itself by `raise`, and counts it before and after.
    pub(crate) fn device_raises(&self, raise: impl FnOnce()) {
        self.began.fetch_add(1, Ordering::SeqCst);
        raise();
        self.raised.fetch_add(1, Ordering::SeqCst);
    }

    /// Reads for a guest.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let count = match offset {
            0 => &self.written,
            4 => &self.began,
            8 => &self.raised,
            _ => return,
        };
        let bytes = count.load(Ordering::Acquire).to_le_bytes();
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    /// Writes for a guest.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        if let (0, &[low, high, _, _]) = (offset, data) {
            let times = u16::from_le_bytes([low, high]);
            // Orders add up. It would fail only beyond 64 bits.
            let _ = self.orders.write(times.into());
        }
    }
}
