//! A real MSI-X arrives at an eventfd.

use super::{Test, same, text};
use crate::device::taken;
use crate::world::World;
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("an event of the one enabled vector reaches its eventfd", one_vector),
    ("an event of each of four vectors reaches its own eventfd", four_vectors),
];

fn one_vector(world: &mut World) -> Result<(), String> {
    let device = &world.ivshmem;
    let event = EventFd::new(EFD_NONBLOCK).map_err(text)?;
    same("enabling", device.set_eventfds(0, &[Some(&event)]), Ok(0))?;
    same("Message Control", device.message_control()?, 0x8003)?;
    device.ring(0)?;
    same("events", taken(&event, 1), 1)?;
    same("more events", taken(&event, 0), 0)?;
    same("PBA", device.pba()?, 0)?;
    same("disabling", device.disable_msix(), Ok(0))?;
    same("Message Control", device.message_control()?, 0x0003)?;
    same("disabling again", device.disable_msix(), Err(Errno::INVAL)) // D5
}

fn four_vectors(world: &mut World) -> Result<(), String> {
    let device = &world.ivshmem;
    let events: Result<Vec<EventFd>, _> = (0..4).map(|_| EventFd::new(EFD_NONBLOCK)).collect();
    let events = events.map_err(text)?;
    let enabled = device.vfio().enable_msix(events.iter().collect());
    enabled.map_err(text)?;
    for (vector, event) in (0..).zip(&events) {
        device.ring(vector)?;
        same(&format!("events of vector {vector}"), taken(event, 1), 1)?;
    }
    for (vector, event) in events.iter().enumerate() {
        same(&format!("more events of vector {vector}"), event.read().is_err(), true)?;
    }
    same("disabling", device.disable_msix(), Ok(0))
}
