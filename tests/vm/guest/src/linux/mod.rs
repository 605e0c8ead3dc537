//! The init of a Linux that is the guest of the toy VMM: it uses the virtio random number generator by
//! its own driver, has the worker outside the VMM write the eventfd of the queue's vector, and counts
//! interrupts. Every count is exact:
//!
//! - The kernel counts an interrupt each time its handler runs (`/proc/interrupts`).
//! - The device says how often it raised an interrupt, and how often the worker has written the eventfd.
//! - An event that meets no mask is one interrupt. So is one that the guest masks at that very moment:
//!   it is sent before, or stays pending and is sent when the mask goes.
//! - Events while a mask is set are one interrupt in all, when the mask goes: there is one pending bit.
//! - The driver asks for random numbers again when it has them, so its interrupts do not coalesce with
//!   each other. The kernel may ask at any time: a round in which it did is played again.

mod count;
mod device;
mod scenes;

use crate::{Tally, boot, guarded};
use device::Device;

/// Runs the scenes of this boot, and resets the machine.
pub(crate) fn run() -> ! {
    let mut tally = Tally::default();
    match guarded(|| {
        boot::mount_all()?;
        boot::load_modules()?;
        Device::find()
    }) {
        Ok(mut device) => {
            for &(name, scene) in scenes::OF_EVERY_BOOT {
                tally.run(&format!("boot {}: {name}", boot_number()), || scene(&mut device));
            }
        }
        Err(why) => println!("VM-RESULT: FAILED boot of the guest: {why}"),
    }
    println!("VM-GUEST: boot {} done", boot_number());
    boot::restart()
}

/// Whether this is such a guest: its VMM says the number of the boot.
pub(crate) fn is_guest() -> bool {
    rustix::process::getpid().is_init() && std::env::var_os("VMM_BOOT").is_some()
}

fn boot_number() -> String {
    std::env::var("VMM_BOOT").unwrap_or_default()
}
