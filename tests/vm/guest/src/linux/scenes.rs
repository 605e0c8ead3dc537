//! What is tried in a boot.

use super::count::{Line, round};
use super::device::{Device, Mask, read, text, write};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Scene = fn(&mut Device) -> Result<(), String>;

/// In this order.
pub(crate) const OF_EVERY_BOOT: &[(&str, Scene)] = &[
    ("each number that the driver reads is one interrupt", read_numbers),
    ("each event is one interrupt while the affinity changes", change_affinity),
    ("events behind the vector's mask are one interrupt", |device| mask(device, Mask::Vector)),
    ("events behind the function's mask are one interrupt", |device| mask(device, Mask::Function)),
    ("an event that meets the vector's mask is one interrupt", |device| meet(device, Mask::Vector)),
    ("an event that meets the function's mask is one interrupt", |device| {
        meet(device, Mask::Function)
    }),
    ("the driver unbinds and binds", rebind),
];

/// Interrupts by the device's own thread, at the driver's request.
fn read_numbers(device: &mut Device) -> Result<(), String> {
    let (raised, taken) = (device.raised()?, Line::read()?.sum());
    read_random(64 * 8)?;
    // The kernel reads too; in the end both counts say the same.
    eventually("as many interrupts as the device raised", || {
        let by_kernel = Line::read()?.sum().wrapping_sub(taken);
        let by_device = device.raised()?.wrapping_sub(raised);
        if by_kernel > by_device {
            return Err(format!("{by_kernel} interrupts, and the device raised {by_device}"));
        }
        Ok(by_kernel == by_device && by_device >= 8)
    })
}

/// Events one by one, and numbers for the driver, while another thread moves the interrupt from processor
/// to processor. The kernel moves it at the next interrupt.
fn change_affinity(device: &mut Device) -> Result<(), String> {
    let before = Line::read()?;
    let path = format!("/proc/irq/{}/smp_affinity_list", before.number);
    let stop = AtomicBool::new(false);
    let changes = thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let mut changes = 0;
            while !stop.load(Ordering::Acquire) {
                write(Path::new(&path), if changes % 2 == 0 { "1" } else { "0" })?;
                changes += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Ok::<u32, String>(changes)
        });
        let worked = (0..6).try_for_each(|_| {
            (0..10).try_for_each(|_| round(device, 1, |device| device.order(1)))?;
            read_random(64 * 8) // or it would wait for ever
        });
        stop.store(true, Ordering::Release);
        let changes = changer.join().unwrap_or_else(|_| Err("the changer panicked".to_owned()));
        worked.and(changes)
    })?;
    let line = Line::read()?;
    let taken: Vec<u32> =
        line.taken.iter().zip(&before.taken).map(|(now, then)| now - then).collect();
    println!("VM-FIGURE: {changes} changes of the affinity, {taken:?} interrupts");
    if taken.contains(&0) { Err("a processor took none".to_owned()) } else { Ok(()) }
}

/// So many events while the mask is set.
fn mask(device: &mut Device, mask: Mask) -> Result<(), String> {
    for events in [1, 2, 5, 1, 3, 40] {
        round(device, 1, |device| {
            let (taken, written) = (Line::read()?.sum(), device.written()?);
            device.mask(mask, true)?;
            device.order(events)?;
            eventually("the worker to write", || {
                Ok(device.written()?.wrapping_sub(written) == events)
            })?;
            let pending = device.is_pending()?;
            let more = Line::read()?.sum() - taken;
            device.mask(mask, false)?;
            if more != 0 || !pending {
                return Err(format!("{more} interrupts in spite of a mask; pending: {pending}"));
            }
            Ok(())
        })?;
        if device.is_pending()? {
            return Err("pending without a mask".to_owned());
        }
    }
    Ok(())
}

/// An event at about the time at which the guest sets and clears the mask.
fn meet(device: &mut Device, mask: Mask) -> Result<(), String> {
    for times in 0..40 {
        round(device, 1, |device| {
            device.order(1)?;
            for _ in 0..times % 6 {
                device.mask(mask, true)?;
                device.mask(mask, false)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// First the driver of the virtio device, which takes its vectors with it; then that of the PCI function.
fn rebind(device: &mut Device) -> Result<(), String> {
    for times in 0..6 {
        if times % 2 == 0 {
            let driver = Path::new("/sys/bus/virtio/drivers/virtio_rng");
            let name = virtio_name(device)?;
            unbind_and_bind(driver, &name)?;
        } else {
            let name =
                device.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
            unbind_and_bind(Path::new("/sys/bus/pci/drivers/virtio-pci"), &name)?;
        }
        eventually("the driver to have its interrupt", || Ok(Line::read().is_ok()))?;
        read_random(16)?;
        (0..3).try_for_each(|_| round(device, 1, |device| device.order(1)))?;
    }
    Ok(())
}

fn unbind_and_bind(driver: &Path, name: &str) -> Result<(), String> {
    write(&driver.join("unbind"), name)?;
    if Line::read().is_ok() {
        return Err(format!("{name} has interrupts without a driver"));
    }
    write(&driver.join("bind"), name)
}

/// The name of the virtio device, such as `virtio0`.
fn virtio_name(device: &Device) -> Result<String, String> {
    let entries = device.folder().read_dir().map_err(text)?;
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.starts_with("virtio")).ok_or_else(|| "no virtio device".to_owned())
}

/// Reads random numbers by the driver.
fn read_random(bytes: usize) -> Result<(), String> {
    let source = "/dev/hwrng";
    let named = |error| format!("{source}: {error}");
    let mut numbers = vec![0; bytes];
    File::open(source).map_err(named)?.read_exact(&mut numbers).map_err(named)?;
    if numbers.iter().all(|byte| *byte == 0) { Err("all zeros".to_owned()) } else { Ok(()) }
}

fn eventually(what: &str, mut done: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done()? {
        if Instant::now() > deadline {
            let all = read(Path::new("/proc/interrupts"))?;
            return Err(format!("not in ten seconds: {what}\n{all}"));
        }
        thread::yield_now();
    }
    Ok(())
}
