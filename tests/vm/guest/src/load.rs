//! A guest that loads its disks and its network until the host says stop, and accounts for every
//! interrupt: tests/tests/inside_qemu boots it on a QEMU, and migrates it meanwhile.
//!
//! What it prints: `VM-LOAD: up` when everything runs; `VM-PROGRESS: vda 12, net 30` again and again;
//! at the end a `VM-FIGURE: vda requests 12 interrupts 12` for each device and
//! `VM-FIGURE: net round-trips 30 late 0 lost 0 virtio 60 e1000e 61`.

mod disk;
mod interrupts;
mod log;
mod net;

use disk::Disk;
use interrupts::Counts;
use net::Link;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a device to appear or a link to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Processors of the machine. Each has a queue of its own on a disk with several queues.
const PROCESSORS: usize = 2;

/// What the threads of the load share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }
}

/// Loads everything until a line comes from the console, then says what came of it.
pub(crate) fn run() -> Result<(), String> {
    let disks = Disk::all()?;
    let link = Link::up()?;
    let shared = Shared::default();
    let done: Vec<AtomicU64> = disks.iter().map(|_| AtomicU64::new(0)).collect();
    let pings = net::Pings::default();
    let mut before = Counts::read()?;
    let requests_before = disks.iter().map(Disk::requests).collect::<Result<Vec<_>, _>>()?;

    thread::scope(|scope| -> Result<(), String> {
        let stop = StopAtEnd(&shared);
        let mut workers = Vec::new();
        for (disk, done) in disks.iter().zip(&done) {
            for part in 0..disk.queues {
                let shared = &shared;
                workers.push(scope.spawn(move || disk.work(part, shared, done)));
            }
        }
        workers.push(scope.spawn(|| link.echo(&shared)));
        workers.push(scope.spawn(|| link.ping(&shared, &pings)));
        workers.push(scope.spawn(|| interrupts::move_about(&link.names(), &shared)));
        // It waits for a line for ever, so nobody waits for it.
        let (line, host) = std::sync::mpsc::channel();
        thread::spawn(move || line.send(std::io::stdin().read_line(&mut String::new())));

        println!("VM-LOAD: up");
        while host.recv_timeout(Duration::from_millis(300)).is_err() {
            if workers.iter().any(thread::ScopedJoinHandle::is_finished) {
                break; // it tells why below
            }
            let mut line = String::from("VM-PROGRESS: ");
            for (disk, done) in disks.iter().zip(&done) {
                line += &format!("{} {}, ", disk.name, done.load(Ordering::Relaxed));
            }
            println!("{line}net {}", pings.returned.load(Ordering::Relaxed));
        }
        drop(stop);
        let ended = workers.into_iter().map(|worker| worker.join());
        let ended: Vec<_> =
            ended.map(|end| end.unwrap_or_else(|_| Err("panicked".into()))).collect();
        ended.into_iter().collect()
    })?;

    settle();
    let mut after = Counts::read()?;
    for ((disk, done), before_it) in disks.iter().zip(&done).zip(requests_before) {
        let completed = disk.requests()? - before_it;
        let asked = done.load(Ordering::Relaxed);
        if completed != asked {
            return Err(format!("{}: asked for {asked}, completed {completed}", disk.name));
        }
        let interrupts = after.take(&disk.interrupts) - before.take(&disk.interrupts);
        println!("VM-FIGURE: {} requests {asked} interrupts {interrupts}", disk.name);
    }
    let [returned, late, lost] =
        [&pings.returned, &pings.late, &pings.lost].map(|count| count.load(Ordering::Relaxed));
    let [here, there] = link.names().map(|name| after.take(&name) - before.take(&name));
    println!(
        "VM-FIGURE: net round-trips {returned} late {late} lost {lost} virtio {here} e1000e {there}"
    );
    log::complaints()
}

/// The threads end with their scope, however that ends.
struct StopAtEnd<'a>(&'a Shared);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

/// The counts of the interrupts that are being handled come in.
fn settle() {
    thread::sleep(Duration::from_millis(100));
}

/// Waits until `look` finds what it looks for.
fn await_found<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("no {what} in {} s", PATIENCE.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
