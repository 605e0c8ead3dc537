//! The interrupts that the kernel counted, and what they must be.

use super::device::{Device, read, text};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The line of the queue's vector in `/proc/interrupts`.
pub(crate) struct Line {
    /// The kernel's number of the interrupt.
    pub(crate) number: u32,
    /// How often each processor took it.
    pub(crate) taken: Vec<u32>,
}

impl Line {
    /// Reads it.
    pub(crate) fn read() -> Result<Self, String> {
        let all = read(Path::new("/proc/interrupts"))?;
        let line = all.lines().find(|line| line.ends_with("-input"));
        let line = line.ok_or_else(|| format!("the driver has no interrupt:\n{all}"))?;
        let (number, rest) = line.split_once(':').ok_or("no number")?;
        let counts = rest.split_whitespace().map_while(|count| count.parse().ok());
        Ok(Self {
            number: number.trim().parse().map_err(|_| format!("no number: {line}"))?,
            taken: counts.collect(),
        })
    }

    /// How often all processors took it.
    pub(crate) fn sum(&self) -> u32 {
        self.taken.iter().sum()
    }
}

/// Does `act`, which causes `expected` interrupts by the worker outside, and checks that the kernel
/// counted as many. Plays it again, whatever `act` says, if the device itself raised one meanwhile.
pub(crate) fn round(
    device: &Device,
    expected: u32,
    mut act: impl FnMut(&Device) -> Result<(), String>,
) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let raised = settled(device)?;
        let before = Line::read()?.sum();
        if let Err(error) = act(device) {
            if device.raised()? == raised {
                return Err(error);
            }
            continue;
        }
        let mut counted = wait_for(device, before, expected, raised)?;
        if counted == expected {
            // One event more, behind all others: what came twice is counted before it.
            device.order(1)?;
            counted = wait_for(device, before, expected + 1, raised)?.wrapping_sub(1);
        }
        if device.raised()? != raised {
            continue;
        }
        if counted != expected {
            return Err(format!("{counted} interrupts instead of {expected}"));
        }
        return Ok(());
    }
    Err(format!("the driver asked for numbers in each of {ROUNDS} rounds"))
}

/// Waits until so many interrupts were counted and their handlers have returned, or the device raised one
/// itself. Returns how many were counted.
fn wait_for(device: &Device, before: u32, expected: u32, raised: u32) -> Result<u32, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = Line::read()?.sum().wrapping_sub(before);
        if counted >= expected || device.raised()? != raised || Instant::now() > deadline {
            let_handlers_return()?;
            return Ok(counted);
        }
        thread::yield_now();
    }
}

/// Waits until no handler runs that ran before: runs on each processor itself. The kernel counts an
/// interrupt before it calls the handler, and counts none that comes to another processor meanwhile: the
/// first one then handles that as well.
fn let_handlers_return() -> Result<(), String> {
    let all = sched_getaffinity(None).map_err(text)?;
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).map_err(text)?;
    }
    sched_setaffinity(None, &all).map_err(text)
}

/// Waits until the device raises no interrupt of its own. Returns how many it has.
fn settled(device: &Device) -> Result<u32, String> {
    loop {
        let (raised, counted) = (device.raised()?, Line::read()?.sum());
        let raising = device.is_raising()?;
        thread::sleep(Duration::from_millis(2));
        if !raising && device.raised()? == raised && Line::read()?.sum() == counted {
            let_handlers_return()?;
            return Ok(raised);
        }
    }
}

const ROUNDS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(10);
