//! The backend on a real vfio-pci and a real KVM: the guest's registers decide, the device raises, and
//! a local APIC of a nested virtual machine takes the interrupt.

use super::{Test, same, text};
use crate::device::{Device, MSIX, taken};
use crate::device_to_apic::{
    Assigned, Chain, PATIENCE, QUIET, assign, interrupt, irqs, is_fallback, mask, of_msix, pending,
};
use crate::nested::{Access, Nested};
use crate::world::{NVME_VECTORS, World};
use msix_backends::eventfd::with;
use msix_backends::kvm::Deferral;
use msix_backends::vfio::{IrqIndex, Irqs as _, WhileMasked};
use msix_core::{Mode, Msix};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vfio_bindings::bindings::vfio::VFIO_PCI_MSI_IRQ_INDEX;
use vmm_sys_util::eventfd::EventFd;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("the index is as our planner takes it", index),
    ("the guest's table decides which interrupt a device's event is", chain),
    ("a nested guest takes every event in its own handler, once", handled),
    ("an event while masked is pending, and taken once", masked),
    ("by policy, the device keeps an event while masked", masked_in_the_device),
    ("the device follows Enable and reset at once", follows),
    ("nvme comes up in a logarithm of calls", many),
    ("bring-up takes fewer calls than a call and a commit a vector", brings_up),
    ("what a recorded Linux did drives a real device", recorded),
    ("the kernel's errors are those that the planner expects", errors),
];

fn index(world: &mut World) -> Result<(), String> {
    let noresize = world.is_noresize()?;
    let found = irqs(&*world.ivshmem)?.index().map_err(text)?;
    same("the index", found, IrqIndex { count: 4, noresize, holes: true })
}

fn chain(world: &mut World) -> Result<(), String> {
    let device = &world.ivshmem;
    let chain = Chain::new(world, device, 4, WhileMasked::Eventfd)?;
    chain.enable(0x80);
    same("Message Control", device.message_control()?, 0x8003)?; // D7: before any vector
    // Sparse, then growth, before and behind.
    for vector in [2, 3, 0, 1] {
        chain.mask(vector, false);
        for again in [vector, 2] {
            device.ring(again)?;
            chain.expect(&format!("interrupts of vector {again}"), &[interrupt(again)])?;
        }
    }
    chain.expect("more interrupts", &[])?;
    // The guest moves one.
    chain.mask(1, true);
    chain.function.write_table(16 + 8, &0x99_u32.to_le_bytes());
    chain.mask(1, false);
    device.ring(1)?;
    chain.expect("the moved interrupt", &[0x99])?;
    let stats = chain.routes.stats();
    same("failures", stats.failures, 0)?;
    same("interrupts from userspace", stats.signals, 0)
}

fn handled(world: &mut World) -> Result<(), String> {
    const TABLE: u32 = 0xd_0000;
    const CONTROL: u8 = 0xf5;
    let device = &world.ivshmem;
    // The guest decides: others than those that the table had before.
    let interrupt = |vector: u16| interrupt(vector) + 8;
    let mut accesses = vec![Access::Out(CONTROL, 0x8000)];
    for vector in 0..4_u16 {
        let entry = TABLE + u32::from(vector) * 16;
        accesses.push(Access::Write(entry, 0xfee0_0000));
        accesses.push(Access::Write(entry + 4, 0));
        accesses.push(Access::Write(entry + 8, interrupt(vector).into()));
        accesses.push(Access::Write(entry + 12, 0));
    }
    let mut nested = Nested::new(world.kvm.as_ref().map_err(Clone::clone)?, &accesses)?;
    let (masked, deferral) = (WhileMasked::Eventfd, Deferral::NONE);
    let Assigned { function, routes, .. } = assign(&nested.vm, device, 4, masked, deferral)?;
    let its = function.clone();
    nested.start(move |access| match access {
        Access::Out(_, value) => {
            its.write_msix(2, &value.to_le_bytes()[..2]);
            0
        }
        Access::Write(address, value) => {
            its.write_table(u64::from(address - TABLE), &value.to_le_bytes());
            0
        }
        Access::In(_) => 0,
    });
    let begun = Instant::now();
    while !of_msix(&function, 3, Msix::is_live) {
        same("a guest that is late", begun.elapsed() > PATIENCE, false)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    for count in 1..=50 {
        for vector in 0..4 {
            device.ring(vector)?;
            nested.wait(interrupt(vector), count)?;
        }
    }
    mask(&function, 2, true);
    device.ring(2)?;
    let begun = Instant::now();
    while pending(&function) == 0 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    same("pending bits", pending(&function), 4)?;
    same("interrupts while masked", nested.count(interrupt(2))?, 50)?;
    mask(&function, 2, false);
    nested.wait(interrupt(2), 51)?;
    same("pending bits", pending(&function), 0)?;
    std::thread::sleep(QUIET);
    for (vector, count) in (0..4).zip([50, 50, 51, 50]) {
        same(&format!("interrupts of vector {vector}"), nested.count(interrupt(vector))?, count)?;
    }
    same("failures", routes.stats().failures, 0)
}

/// A device, what raises one of its vectors, and Message Control when idle: ivshmem rings its own
/// doorbell; for nvme, which we have no driver for, the kernel raises what is bound (D5).
type Raised<'a> = (&'a Device, Box<dyn Fn(u16) -> Result<(), String> + 'a>, u16);

fn both(world: &World) -> Result<[Raised<'_>; 2], String> {
    let (ivshmem, nvme) = (&world.ivshmem, world.nvme.as_ref().ok_or("no nvme")?);
    let trigger = move |vector: u16| nvme.vfio().trigger_irq(MSIX, vector.into()).map_err(text);
    let idle = u16::try_from(NVME_VECTORS - 1).map_err(text)?;
    Ok([
        (ivshmem, Box::new(move |vector| ivshmem.ring(vector)), 3),
        (nvme, Box::new(trigger), idle),
    ])
}

fn masked(world: &mut World) -> Result<(), String> {
    both(world)?.iter().try_for_each(|(device, raise, _)| masked_on(world, device, raise))
}

fn masked_on(
    world: &World,
    device: &Device,
    raise: &dyn Fn(u16) -> Result<(), String>,
) -> Result<(), String> {
    let chain = Chain::new(world, device, 4, WhileMasked::Eventfd)?;
    chain.enable(0x80);
    (0..4).for_each(|vector| chain.mask(vector, false));
    for (mask, unmask) in [(0xc0, 0x80), (0x80, 0x80)] {
        chain.mask(1, true);
        chain.enable(mask);
        raise(1)?;
        raise(1)?;
        chain.expect("interrupts while masked", &[])?;
        same("pending bits", chain.pba(), 2)?;
        chain.enable(unmask);
        chain.expect("interrupts while one mask is left", &[])?;
        chain.mask(1, false);
        chain.expect("the pending interrupt", &[interrupt(1)])?;
        chain.expect("more interrupts", &[])?;
        same("pending bits", chain.pba(), 0)?;
        raise(1)?;
        chain.expect("the next interrupt", &[interrupt(1)])?;
    }
    Ok(())
}

fn masked_in_the_device(world: &mut World) -> Result<(), String> {
    let device = &world.ivshmem;
    let chain = Chain::new(world, device, 4, WhileMasked::Physical)?;
    chain.enable(0x80);
    for vector in [0, 1] {
        chain.mask(vector, false);
    }
    chain.mask(1, true);
    device.ring(1)?;
    chain.expect("interrupts while masked", &[])?;
    same("the device's pending bits", device.pba()?, 2)?;
    chain.mask(1, false);
    chain.expect("the pending interrupt", &[interrupt(1)])?;
    same("the device's pending bits", device.pba()?, 0)?;
    for vector in [0, 1] {
        device.ring(vector)?;
        chain.expect("the next interrupt", &[interrupt(vector)])?;
    }
    chain.expect("more interrupts", &[])
}

fn follows(world: &mut World) -> Result<(), String> {
    both(world)?
        .iter()
        .try_for_each(|(device, raise, idle)| follows_on(world, device, raise, *idle))
}

fn follows_on(
    world: &World,
    device: &Device,
    raise: &dyn Fn(u16) -> Result<(), String>,
    idle: u16,
) -> Result<(), String> {
    let chain = Chain::new(world, device, 4, WhileMasked::Eventfd)?;
    let control = |what: &str, expected| same(what, device.message_control()?, expected);
    control("Message Control at first", idle)?;
    chain.mask(3, false);
    for _ in 0..2 {
        chain.enable(0x80);
        control("Message Control when enabled", 0x8000 | idle)?;
        raise(3)?;
        chain.expect("the interrupt", &[interrupt(3)])?;
        chain.enable(0);
        control("Message Control when disabled", idle)?;
    }
    chain.enable(0x80);
    chain.function.reset();
    control("Message Control after reset", idle)?;
    chain.enable(0x80);
    control("Message Control when enabled", 0x8000 | idle)?;
    drop(chain);
    control("Message Control in the end", idle)
}

fn many(world: &mut World) -> Result<(), String> {
    let nvme = world.nvme.as_ref().ok_or("no nvme")?;
    let vectors = u16::try_from(NVME_VECTORS).map_err(text)?;
    let (masked, deferral) = (WhileMasked::Eventfd, Deferral::default());
    let chain = Chain::deferred(world, nvme, vectors, masked, deferral)?;
    chain.enable(0x80);
    let fallback = |vector| is_fallback(&chain.function, vector);
    let mut calls_when_full = 0;
    for vector in 0..vectors {
        chain.mask(vector, false);
        if !fallback(vector) {
            calls_when_full = chain.calls.load(Ordering::Relaxed);
        }
    }
    chain.routes.flush();
    let bound = (0..vectors).take_while(|&vector| !fallback(vector)).count();
    let stats = chain.routes.stats();
    let all = chain.calls.load(Ordering::Relaxed);
    println!(
        "VM-FIGURE: {bound} vectors in {calls_when_full} SET_IRQS, {all} with those too many, and {} \
         route commits",
        stats.commits
    );
    same("vectors behind the last one bound", (0..vectors).skip(bound).all(fallback), true)?;
    same("enough vectors to tell", bound >= 100, true)?;
    same("few calls, though too many vectors are wanted", all <= 40, true)?;
    same("few commits", stats.commits <= 6, true)?;
    same("irqfds", stats.assigns, u64::from(vectors))?;
    // DATA_NONE raises what is bound (D5).
    for vector in 0..bound {
        let raised = nvme.vfio().trigger_irq(MSIX, u32::try_from(vector).map_err(text)?);
        raised.map_err(text)?;
        let vector = u16::try_from(vector).map_err(text)?;
        chain.expect(&format!("interrupts of vector {vector}"), &[interrupt(vector)])?;
    }
    Ok(())
}

/// Bring-up as Linux does it, ours and with a call and a commit for every vector, turn about. Times are
/// shown and not asserted.
fn brings_up(world: &mut World) -> Result<(), String> {
    const VECTORS: u16 = 128;
    let nvme = world.nvme.as_ref().ok_or("no nvme")?;
    let ways =
        [(WhileMasked::Eventfd, Deferral::default()), (WhileMasked::Physical, Deferral::NONE)];
    let (mut times, mut calls, mut commits) = ([Vec::new(), Vec::new()], [0, 0], [0, 0]);
    for _ in 0..5 {
        for (way, (masked, deferral)) in ways.into_iter().enumerate() {
            let chain = Chain::deferred(world, nvme, VECTORS, masked, deferral)?;
            let begun = Instant::now();
            chain.enable(0x80);
            (0..VECTORS).for_each(|vector| chain.mask(vector, false));
            chain.routes.flush();
            times[way].push(begun.elapsed());
            calls[way] = chain.calls.load(Ordering::Relaxed);
            commits[way] = chain.routes.stats().commits;
            let fallback = |vector| is_fallback(&chain.function, vector);
            same("a vector that fell back", (0..VECTORS).find(|&vector| fallback(vector)), None)?;
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    let [ours, each] = times.map(|times| (times[0], times[times.len() / 2]));
    let ratio = each.1.as_secs_f64() / ours.1.as_secs_f64();
    println!(
        "VM-FIGURE: {VECTORS} vectors up in {ours:?} (min, median), {} SET_IRQS, {} commits; one a \
         vector: {each:?}, {}, {}; {ratio:.1} times",
        calls[0], commits[0], calls[1], commits[1]
    );
    same("few calls", calls[0] <= 9 && commits[0] <= 4, true)?;
    same("a call a vector at least", calls[1] >= usize::from(VECTORS), true)
}

/// Every device of the recording in its turn; its events are raised by the kernel (D5).
fn recorded(world: &mut World) -> Result<(), String> {
    let nvme = world.nvme.as_ref().ok_or("no nvme")?;
    let all = std::fs::read_to_string("/recorded").map_err(text)?;
    let devices = all.lines().filter_map(|line| line.strip_prefix("device ")?.parse::<u16>().ok());
    let (mut raised, mut arrived) = (0, 0);
    for (number, vectors) in devices.enumerate() {
        let chain = Chain::new(world, nvme, vectors, WhileMasked::Eventfd)?;
        let its = all.lines().filter_map(|line| line.strip_prefix(&format!("{number} ")));
        let mut wanted: Vec<u8> = Vec::new();
        let mut command = 6; // memory and bus master on
        for line in its {
            let words: Vec<&str> = line.split(' ').collect();
            let at = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
            let bytes = at(3).unwrap_or(0).to_le_bytes();
            let length = usize::try_from(at(2).unwrap_or(0)).map_err(text)?.min(8);
            let place = at(1).unwrap_or(0);
            if words.first() != Some(&"sent") {
                chain.arrive(&mut wanted).map_err(|why| format!("device {number}: {why}"))?;
            }
            match words.first() {
                Some(&"config") => {
                    let place = usize::try_from(place).map_err(text)?;
                    chain.function.write_msix(place, &bytes[..length]);
                    let mode = chain.function.inspect(msix_core::Function::mode);
                    let enabled = mode == Mode::MsiX;
                    let told = nvme.message_control()? & 0x8000 != 0;
                    same("the device's Enable", told, enabled)?;
                }
                Some(&"table") => _ = chain.function.write_table(place, &bytes[..length]),
                Some(&"master") => {
                    command = if place != 0 { 6 } else { 2 };
                    chain.function.write_command(0, &[command]);
                }
                Some(&"reset") => {
                    chain.function.reset();
                    // The recording tells when Command is reset.
                    chain.function.write_command(0, &[command]);
                }
                Some(&"raise") => {
                    let vector = u32::try_from(place).map_err(text)?;
                    // Where MSI-X is disabled there is nothing to raise.
                    raised += u32::from(nvme.vfio().trigger_irq(MSIX, vector).is_ok());
                }
                Some(&"sent") => {
                    let data = at(2).unwrap_or(0).to_le_bytes();
                    wanted.push(data[0]);
                    arrived += 1;
                }
                _ => return Err(format!("the recording says {line}")),
            }
        }
        chain.arrive(&mut wanted)?;
        chain.expect("more interrupts", &[])?;
    }
    println!("VM-FIGURE: {raised} events of the recording raised, {arrived} interrupts arrived");
    same("interrupts enough to tell", arrived > 500, true)
}

fn errors(world: &mut World) -> Result<(), String> {
    let device = &world.ivshmem;
    let irqs = irqs(&**device)?;
    let errno = |result: std::io::Result<u32>| result.map_err(|error| error.raw_os_error());
    let event = eventfd(0, EventfdFlags::NONBLOCK).map_err(text)?;
    let good = Some(event.as_fd());
    let other = EventFd::new(0).map_err(text)?;
    same("disabling an idle index", errno(irqs.disable().map(|()| 0)), Err(Some(22)))?; // D5
    same("start past the end", errno(irqs.set(4, std::slice::from_ref(&good))), Err(Some(22)))?; // D1
    same("an end past the end", errno(irqs.set(3, &[good, None])), Err(Some(22)))?;
    same("all four", errno(irqs.set(0, &[good; 4])), Ok(0))?;
    // D2: another index while this one is active.
    let msi = device.vfio().enable_irq(VFIO_PCI_MSI_IRQ_INDEX, vec![&other]);
    same("MSI beside MSI-X", msi.is_err(), true)?;
    // D4: a descriptor that is no eventfd, in the middle: what was bound before is not any more.
    let flags = vfio_bindings::bindings::vfio::VFIO_IRQ_SET_DATA_EVENTFD
        | vfio_bindings::bindings::vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    let bad: Vec<u8> = [-1_i32, 9999, -1].iter().flat_map(|fd| fd.to_ne_bytes()).collect();
    let answer = device.set_irqs(flags, 1, 3, &bad);
    same("a bad descriptor", answer, Err(rustix::io::Errno::BADF))?;
    device.ring(1)?;
    device.ring(0)?;
    let events = |at_least| with(event.as_fd(), |event| taken(event, at_least));
    same("events of the vector that is still bound", events(1), 1)?;
    same("events of the one that is not", events(0), 0)?;
    same("the device's pending bits", device.pba()?, 2)?;
    same("disabling", irqs.disable().is_ok(), true)
}
