//! What the kernel does with an eventfd that another holder made blocking (K14).

use super::{Test, same, text};
use crate::world::World;
use msix_backends::eventfd::{import, ring, take};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::time::Duration;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("an eventfd that a peer made blocking is read and rung without waiting", blocking),
    ("a read of an eventfd need not wait, and a write cannot be asked not to", flags),
    ("an eventfd that keeps events behind is refused where the kernel tells", semaphore),
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

fn write(eventfd: &OwnedFd, count: u64) -> Result<(), String> {
    rustix::io::write(eventfd, &count.to_ne_bytes()).map(drop).map_err(text)
}

/// Runs `what` in a thread of its own, which is left behind when it waits.
fn in_time(what: fn() -> Result<(), String>) -> Result<(), String> {
    let (done, ended) = channel();
    std::thread::spawn(move || done.send(what()));
    ended.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| Err("it waits".to_owned()))
}
