//! The MSI index of a passed-through device.

use super::irqs::Irqs;
use crate::eventfd::borrow;
use crate::kvm::PhysicalMsi;
use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The MSI index of a passed-through device. All vectors are bound in one call, because the kernel
/// gives a device its MSI vectors all at once, in the number that it programs into the device.
#[derive(Debug)]
pub struct DeviceMsi<I> {
    irqs: I,
    /// The number of vectors of the device.
    count: u16,
    enabled: bool,
}

impl<I: Irqs> DeviceMsi<I> {
    /// Takes an idle index with `count` vectors.
    pub const fn new(irqs: I, count: u16) -> Self {
        Self { irqs, count, enabled: false }
    }
}

impl<I: Irqs> PhysicalMsi for DeviceMsi<I> {
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16 {
        self.disable();
        let wanted = (0..vectors.min(self.count)).map(|vector| eventfd(Vector::new(vector)));
        let made: Vec<Arc<EventFd>> = wanted.map_while(Result::ok).collect();
        let mut eventfds: Vec<_> = made.iter().map(|eventfd| Some(borrow(eventfd))).collect();
        while !eventfds.is_empty() {
            // A call that fails may have enabled the index.
            self.enabled = true;
            match self.irqs.set(0, &eventfds) {
                Ok(0) => break,
                // D3: nothing was bound, and this many are available.
                Ok(available) if (available as usize) < eventfds.len() => {
                    eventfds.truncate(available as usize);
                }
                Ok(_) | Err(_) => {
                    self.disable();
                    eventfds.clear();
                }
            }
        }
        self.enabled = !eventfds.is_empty();
        u16::try_from(eventfds.len()).unwrap_or(u16::MAX)
    }

    fn disable(&mut self) {
        // An error means that the index was not enabled, or that the device is gone: it is disabled
        // either way.
        if std::mem::take(&mut self.enabled) {
            let _ = self.irqs.disable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfio::irqs::MockIrqs;
    use mockall::Sequence;

    fn made(_: Vector) -> io::Result<Arc<EventFd>> {
        Ok(Arc::new(EventFd::new(0)?))
    }

    #[test]
    fn d3_with_too_few_vectors_as_many_as_there_are_are_bound_at_once() {
        let mut irqs = MockIrqs::new();
        let mut order = Sequence::new();
        for (count, answer) in [(8, 3), (3, 0)] {
            irqs.expect_set()
                .withf(move |start, eventfds| {
                    *start == 0 && eventfds.len() == count && eventfds.iter().all(Option::is_some)
                })
                .times(1)
                .in_sequence(&mut order)
                .returning(move |_, _| Ok(answer));
        }
        irqs.expect_disable().times(1).in_sequence(&mut order).returning(|| Ok(()));
        let mut device = DeviceMsi::new(irqs, 8);
        assert_eq!(device.enable(32, &mut made), 3, "the device has 8 at most");
        device.disable();
        device.disable();
    }

    #[test]
    fn what_the_kernel_refuses_is_disabled_and_nothing_is_bound() {
        let errors: [fn() -> io::Result<u32>; 2] =
            [|| Err(io::Error::from_raw_os_error(22)), || Ok(4)];
        for answer in errors {
            let mut irqs = MockIrqs::new();
            irqs.expect_set().times(1).returning(move |_, _| answer());
            irqs.expect_disable().times(1).returning(|| Err(io::Error::from_raw_os_error(22)));
            let mut device = DeviceMsi::new(irqs, 4);
            assert_eq!(device.enable(4, &mut made), 0);
            device.disable();
        }
    }

    #[test]
    fn another_number_of_vectors_takes_a_disable() {
        let mut irqs = MockIrqs::new();
        irqs.expect_set().times(2).returning(|_, _| Ok(0));
        irqs.expect_disable().times(1).returning(|| Ok(()));
        let mut device = DeviceMsi::new(irqs, 4);
        assert_eq!((device.enable(1, &mut made), device.enable(4, &mut made)), (1, 4));
        let mut none = DeviceMsi::new(MockIrqs::new(), 4);
        let mut failing = |_: Vector| Err(io::ErrorKind::OutOfMemory.into());
        assert_eq!(none.enable(4, &mut failing), 0);
    }
}
