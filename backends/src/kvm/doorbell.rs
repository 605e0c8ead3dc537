//! Guest writes that KVM turns into writes of eventfds, without an exit to userspace.

use crate::eventfd::borrow;
use crate::happening::failed;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// The system calls that a doorbell makes on a VM: KVM_IOEVENTFD. They must not use the doorbell.
pub trait Ioeventfds: Send + Sync {
    /// Makes a write of the 4 bytes `value` at `address` write `eventfd`.
    ///
    /// # Errors
    /// The kernel's: `ENOSPC` at its limit of devices on a bus, `EEXIST`.
    fn assign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()>;
    /// Undoes [`assign`](Self::assign).
    ///
    /// # Errors
    /// The kernel's.
    fn deassign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()>;
}

impl<V: Ioeventfds + ?Sized> Ioeventfds for Arc<V> {
    fn assign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        (**self).assign(address, value, eventfd)
    }

    fn deassign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        (**self).deassign(address, value, eventfd)
    }
}

/// A 32-bit register that turns writes into writes of other processes' eventfds, one for each
/// value. Values beyond KVM's limit reach the VMM as exits.
pub struct Doorbell {
    vm: Box<dyn Ioeventfds>,
    /// Guest-physical address of the register, while the guest can reach it.
    place: Option<u64>,
    lines: BTreeMap<u32, RungEventfd>,
    /// Eventfds that KVM refused to deassign, with address and value.
    stuck: Vec<(u64, u32, Arc<EventFd>)>,
}

struct RungEventfd {
    eventfd: Arc<EventFd>,
    armed: bool,
}

impl Doorbell {
    /// Makes a register without an address.
    #[must_use]
    pub const fn new(vm: Box<dyn Ioeventfds>) -> Self {
        Self { vm, place: None, lines: BTreeMap::new(), stuck: Vec::new() }
    }

    /// Moves the register to guest-physical address `place`, or removes it (`None`).
    pub fn place(&mut self, place: Option<u64>) {
        if self.place == place {
            return;
        }
        let values: Vec<u32> = self.lines.keys().copied().collect();
        for value in &values {
            self.disarm(*value);
        }
        self.place = place;
        self.let_go();
        for value in values {
            self.arm(value);
        }
    }

    /// Connects `value`: from now on a write of it writes `eventfd`.
    pub fn connect(&mut self, value: u32, eventfd: Arc<EventFd>) {
        self.disconnect(value);
        self.lines.insert(value, RungEventfd { eventfd, armed: false });
        self.arm(value);
    }

    /// Disconnects `value`: a write of it does nothing any more.
    pub fn disconnect(&mut self, value: u32) {
        self.disarm(value);
        self.lines.remove(&value);
        self.let_go();
    }

    /// Drops the register of a VM that is about to be closed, without a call for each value.
    pub fn abandon(mut self) {
        self.lines.clear();
        self.stuck.clear();
    }

    /// Returns how many values KVM handles by itself.
    #[must_use]
    pub fn armed(&self) -> usize {
        self.lines.values().filter(|line| line.armed).count()
    }

    fn arm(&mut self, value: u32) {
        if let (Some(place), Some(line)) = (self.place, self.lines.get_mut(&value)) {
            let armed = self.vm.assign(place, value, borrow(&line.eventfd));
            line.armed = armed.inspect_err(failed("KVM_IOEVENTFD, assign")).is_ok();
        }
    }

    fn disarm(&mut self, value: u32) {
        if let (Some(place), Some(line)) = (self.place, self.lines.get_mut(&value))
            && std::mem::take(&mut line.armed)
        {
            let let_go = self.vm.deassign(place, value, borrow(&line.eventfd));
            if let_go.inspect_err(failed("KVM_IOEVENTFD, deassign")).is_err() {
                self.stuck.push((place, value, Arc::clone(&line.eventfd)));
            }
        }
    }

    /// Tries again the deassigns that KVM refused.
    fn let_go(&mut self) {
        self.stuck.retain(|(place, value, eventfd)| {
            let let_go = self.vm.deassign(*place, *value, borrow(eventfd));
            let_go.inspect_err(failed("KVM_IOEVENTFD, deassign")).is_err()
        });
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.place(None);
        self.let_go();
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell")
            .field("place", &self.place)
            .field("armed", &self.armed())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mockall::Sequence;
    use mockall::predicate::{always, eq};
    use std::sync::Mutex;

    mockall::mock! {
        Ioeventfds {}
        impl Ioeventfds for Ioeventfds {
            fn assign<'a>(&self, address: u64, value: u32, eventfd: BorrowedFd<'a>) -> io::Result<()>;
            fn deassign<'a>(&self, address: u64, value: u32, eventfd: BorrowedFd<'a>) -> io::Result<()>;
        }
    }

    fn eventfd() -> Arc<EventFd> {
        Arc::new(EventFd::new(0).unwrap())
    }

    #[test]
    fn a_register_that_moves_takes_its_values_along() {
        let mut vm = MockIoeventfds::new();
        let mut order = Sequence::new();
        let mut assign = |vm: &mut MockIoeventfds, address, value| {
            vm.expect_assign()
                .with(eq(address), eq(value), always())
                .times(1)
                .in_sequence(&mut order)
                .returning(|_, _, _| Ok(()));
        };
        assign(&mut vm, 0xe000_000c, 0x1_0000);
        assign(&mut vm, 0xe000_000c, 0x1_0001);
        assign(&mut vm, 0xf000_000c, 0x1_0000);
        assign(&mut vm, 0xf000_000c, 0x1_0001);
        vm.expect_deassign()
            .withf(|address, _, _| *address == 0xe000_000c)
            .times(2)
            .returning(|_, _, _| Ok(()));
        vm.expect_deassign()
            .withf(|address, _, _| *address == 0xf000_000c)
            .times(2)
            .returning(|_, _, _| Ok(()));
        let mut doorbell = Doorbell::new(Box::new(vm));
        doorbell.connect(0x1_0000, eventfd());
        assert_eq!(doorbell.armed(), 0, "it lies nowhere");
        doorbell.place(Some(0xe000_000c));
        doorbell.connect(0x1_0001, eventfd());
        doorbell.place(Some(0xe000_000c));
        doorbell.place(Some(0xf000_000c));
        assert_eq!(doorbell.armed(), 2);
        doorbell.place(None);
        assert_eq!(doorbell.armed(), 0);
    }

    #[test]
    fn a_peer_that_comes_back_is_connected_to_its_new_eventfd_only() {
        let seen: Arc<Mutex<Vec<(bool, i32)>>> = Arc::default();
        let mut vm = MockIoeventfds::new();
        for assigned in [true, false] {
            let seen = Arc::clone(&seen);
            let note = move |_: u64, _: u32, eventfd: BorrowedFd<'_>| {
                use std::os::fd::AsRawFd;
                seen.lock().unwrap().push((assigned, eventfd.as_raw_fd()));
                Ok(())
            };
            if assigned {
                vm.expect_assign().returning(note);
            } else {
                vm.expect_deassign().returning(note);
            }
        }
        let mut doorbell = Doorbell::new(Box::new(vm));
        doorbell.place(Some(0xc));
        let (first, second) = (eventfd(), eventfd());
        let raw = |eventfd: &EventFd| std::os::fd::AsRawFd::as_raw_fd(eventfd);
        let expected = [(true, raw(&first)), (false, raw(&first)), (true, raw(&second))];
        doorbell.connect(7, first);
        doorbell.connect(7, Arc::clone(&second));
        assert_eq!(seen.lock().unwrap()[..], expected);
        doorbell.disconnect(7);
        doorbell.disconnect(7);
        drop(doorbell);
        assert_eq!(seen.lock().unwrap()[3..], [(false, raw(&second))], "once");
        assert_eq!(Arc::strong_count(&second), 1, "it is held no more");
    }

    #[test]
    fn a_register_of_a_dying_vm_goes_without_a_call() {
        let mut vm = MockIoeventfds::new();
        vm.expect_assign().times(2).returning(|_, _, _| Ok(()));
        vm.expect_deassign().never();
        let mut doorbell = Doorbell::new(Box::new(vm));
        doorbell.place(Some(0xc));
        let rung = eventfd();
        doorbell.connect(1, Arc::clone(&rung));
        doorbell.connect(2, eventfd());
        doorbell.abandon();
        assert_eq!(Arc::strong_count(&rung), 1);
    }

    #[test]
    fn what_kvm_has_no_room_for_is_left_to_an_exit_and_what_it_keeps_is_tried_again() {
        let mut vm = MockIoeventfds::new();
        vm.expect_assign().times(1).returning(|_, _, _| Ok(()));
        vm.expect_assign().times(1).returning(|_, _, _| Err(io::Error::from_raw_os_error(28)));
        let mut refusals = 3;
        vm.expect_deassign().times(4).returning(move |_, value, _| {
            assert_eq!(value, 1, "only what was assigned");
            refusals -= 1;
            if refusals >= 0 { Err(io::Error::from_raw_os_error(12)) } else { Ok(()) }
        });
        let mut doorbell = Doorbell::new(Box::new(vm));
        doorbell.place(Some(0xc));
        doorbell.connect(1, eventfd());
        doorbell.connect(2, eventfd());
        assert_eq!(doorbell.armed(), 1);
        doorbell.disconnect(2);
        doorbell.disconnect(1);
        doorbell.place(None);
        drop(doorbell);
    }
}
