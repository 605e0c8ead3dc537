//! The init of a virtual machine that tests VFIO and KVM on a stock Linux kernel.
//!
//! It loads the modules, hands the devices to vfio-pci, runs every test of [`tests::all`] and then those
//! of [`tests::apart`], prints a line for each and one for all, and powers the machine off. tests/tests/vm
//! starts it and reads the console. It starts itself for the parts of tests that are processes of their own.
//! With MSIX_VM_LOAD in its environment it does what [`load`] says instead.
//!
//! It is two other inits as well: that of a machine that runs the toy VMM ([`linux_host`]), and that of the
//! VMM's guest ([`linux`]).

mod boot;
mod controllers;
mod device;
mod device_to_apic;
mod linux;
mod linux_host;
mod load;
mod nested;
mod process;
mod rig;
mod tests;
mod tracing;
mod vmm;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use world::World;

fn main() -> ExitCode {
    if boot::is_child_of_the_init() {
        let Err(why) = tests::part() else { return ExitCode::SUCCESS };
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    if linux::is_guest() {
        linux::run();
    }
    if !boot::is_init_of_the_test_machine() {
        eprintln!("this is the init of a test machine; see tests/run vm");
        return ExitCode::FAILURE;
    }
    if std::env::var_os("MSIX_VM_LOAD").is_some() {
        let loaded = guarded(|| {
            boot::mount_all()?;
            boot::load_modules()?;
            load::run()
        });
        match loaded {
            Ok(()) => println!("VM-DONE: ok"),
            Err(why) => println!("VM-DONE: {why}"),
        }
        boot::power_off()
    }
    boot::beat();
    let ran = if linux_host::is_wanted() {
        guarded(linux_host::run)
    } else {
        guarded(World::new).map(run)
    };
    let tally = match ran {
        Ok(tally) => tally,
        Err(why) => {
            println!("VM-RESULT: FAILED boot: {why}");
            Tally { ok: 0, failed: 1 }
        }
    };
    println!("VM-DONE: {} ok, {} failed", tally.ok, tally.failed);
    boot::power_off()
}

#[derive(Default)]
struct Tally {
    ok: usize,
    failed: usize,
}

impl Tally {
    fn run(&mut self, name: &str, test: impl FnOnce() -> Result<(), String>) {
        println!("-- {name}");
        match guarded(test) {
            Ok(()) => {
                println!("VM-RESULT: ok {name}");
                self.ok += 1;
            }
            Err(why) => {
                println!("VM-RESULT: FAILED {name}: {why}");
                self.failed += 1;
            }
        }
    }
}

fn run(mut world: World) -> Tally {
    let mut tally = Tally::default();
    let filter = std::env::var("MSIX_VM_FILTER").unwrap_or_default();
    for (name, test) in tests::all().filter(|(name, _)| name.contains(&filter)) {
        tally.run(name, || test(&mut world));
        // The next test finds what the first one found.
        world.quiesce();
    }
    drop(world); // one process at a time has a device
    for (name, test) in tests::apart().filter(|(name, _)| name.contains(&filter)) {
        tally.run(name, test);
    }
    tally
}

/// A panic is a failure like another; the end of init would be the end of the kernel.
fn guarded<T>(part: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|_| Err("panicked, see above".to_owned()))
}
