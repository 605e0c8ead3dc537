//! What the kernel does with an eventfd that another holder made blocking (K14), and with one that KVM owns
//! while epoll waits for it (K7, K8).

use super::{Test, same, text, wait};
use crate::device_to_apic::take as take_interrupts;
use crate::nested::enable_apic;
use crate::world::World;
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_msi,
};
use msix_backends::eventfd::{import, ring, take};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::channel;
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("an eventfd that a peer made blocking is read and rung without waiting", blocking),
    ("a read of an eventfd need not wait, and a write cannot be asked not to", flags),
    ("an eventfd that keeps events behind is refused where the kernel tells", semaphore),
    ("epoll hears of no event while KVM owns the eventfd, and of each afterwards", owned),
];

const FULL: u64 = u64::MAX - 1;

fn blocking(_: &mut World) -> Result<(), String> {
    in_time(|| {
        let theirs = eventfd(0, EventfdFlags::NONBLOCK).map_err(text)?;
        let ours = import(theirs.try_clone().map_err(text)?).map_err(text)?;
        fcntl_setfl(&theirs, OFlags::empty()).map_err(text)?;
        same("an event in an empty one", take(&ours), false)?;
        same("a ring", (ring(&ours), take(&ours), take(&ours)), (true, true, false))?;
        write(&theirs, FULL)?;
        same("a ring of a full one", (ring(&ours), take(&ours)), (true, true))
    })
}

fn flags(_: &mut World) -> Result<(), String> {
    in_time(|| {
        let eventfd = eventfd(0, EventfdFlags::empty()).map_err(text)?;
        let mut count = [0; 8];
        let read =
            preadv2(&eventfd, &mut [IoSliceMut::new(&mut count)], u64::MAX, ReadWriteFlags::NOWAIT);
        same("a read", read, Err(Errno::AGAIN))?;
        let one = 1_u64.to_ne_bytes();
        let written = pwritev2(&eventfd, &[IoSlice::new(&one)], u64::MAX, ReadWriteFlags::NOWAIT);
        same("a write", written, Err(Errno::OPNOTSUPP))
    })
}

fn semaphore(world: &mut World) -> Result<(), String> {
    let semaphore = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE).map_err(text)?;
    let theirs = semaphore.try_clone().map_err(text)?;
    match import(semaphore) {
        Err(_) => same("before 6.5", world.is_before((6, 5))?, false),
        Ok(ours) => {
            same("before 6.5", world.is_before((6, 5))?, true)?;
            write(&theirs, 7)?;
            same("all events are taken", (take(&ours), take(&ours)), (true, false))
        }
    }
}

fn owned(world: &mut World) -> Result<(), String> {
    const GSI: u32 = 40;
    const INTERRUPT: u8 = 0x41;
    let vm = world.kvm.as_ref().map_err(Clone::clone)?.create_vm().map_err(text)?;
    vm.create_irq_chip().map_err(text)?;
    let cpu = vm.create_vcpu(0).map_err(text)?;
    enable_apic(&cpu)?;
    let mut route =
        kvm_irq_routing_entry { gsi: GSI, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    route.u.msi = kvm_irq_routing_msi {
        address_lo: 0xfee0_0000,
        data: INTERRUPT.into(),
        ..Default::default()
    };
    vm.set_gsi_routing(&KvmIrqRouting::from_entries(&[route]).map_err(text)?).map_err(text)?;
    let arrives = || {
        let mut taken = Vec::new();
        wait("an interrupt", || {
            taken = take_interrupts(&cpu)?;
            Ok(!taken.is_empty())
        })?;
        same("interrupts", taken, vec![INTERRUPT])
    };
    let eventfd = EventFd::new(EFD_NONBLOCK).map_err(text)?;
    let edges = EventSet::IN | EventSet::EDGE_TRIGGERED;
    let before = waits_for(&eventfd, edges)?;
    // One that is there already is sent, and found all the same.
    eventfd.write(1).map_err(text)?;
    vm.register_irqfd(&eventfd, GSI).map_err(text)?;
    arrives()?;
    same("one from before is found", finds(&before, 0)?, true)?;
    eventfd.write(1).map_err(text)?;
    arrives()?;
    let after = waits_for(&eventfd, EventSet::IN)?;
    for _ in 0..200 {
        eventfd.write(1).map_err(text)?;
        same("events in the eventfd", eventfd.read().is_ok(), false)?;
        same("one of KVM's is found", finds(&before, 0)? || finds(&after, 0)?, false)?;
        arrives()?;
    }
    vm.unregister_irqfd(&eventfd, GSI).map_err(text)?;
    eventfd.write(1).map_err(text)?;
    same("one that is not KVM's is found", finds(&before, 1000)? && finds(&after, 1000)?, true)?;
    same("events in the eventfd", eventfd.read().map_err(text), Ok(1))?;
    same("interrupts", take_interrupts(&cpu)?, Vec::new())
}

/// An epoll instance that waits for `eventfd`.
fn waits_for(eventfd: &EventFd, what: EventSet) -> Result<Epoll, String> {
    let epoll = Epoll::new().map_err(text)?;
    let event = EpollEvent::new(what, 0);
    epoll.ctl(ControlOperation::Add, eventfd.as_raw_fd(), event).map_err(text)?;
    Ok(epoll)
}

/// Whether it is found within so many milliseconds.
fn finds(epoll: &Epoll, milliseconds: i32) -> Result<bool, String> {
    Ok(epoll.wait(milliseconds, &mut [EpollEvent::default()]).map_err(text)? > 0)
}

fn write(eventfd: &OwnedFd, count: u64) -> Result<(), String> {
    rustix::io::write(eventfd, &count.to_ne_bytes()).map(drop).map_err(text)
}

/// Runs `what` in a thread of its own, which is left behind when it waits.
fn in_time(what: fn() -> Result<(), String>) -> Result<(), String> {
    let (done, ended) = channel();
    std::thread::spawn(move || done.send(what()));
    ended.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| Err("it waits".to_owned()))
}
