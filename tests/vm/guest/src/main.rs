//! The init of a virtual machine that tests VFIO and KVM on a stock Linux kernel.
//!
//! It loads the modules, hands the devices to vfio-pci, runs every test of [`tests::all`], prints a
//! line for each and one for all, and powers the machine off. tests/tests/vm starts it and reads the
//! console.

mod boot;
mod device;
mod device_to_apic;
mod nested;
mod rig;
mod tests;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use world::World;

fn main() -> ExitCode {
    if !boot::is_init_of_the_test_machine() {
        eprintln!("this is the init of a test machine; see tests/run vm");
        return ExitCode::FAILURE;
    }
    let tally = match guarded(World::new) {
        Ok(mut world) => run(&mut world),
        Err(why) => {
            println!("VM-RESULT: FAILED boot: {why}");
            Tally { ok: 0, failed: 1 }
        }
    };
    println!("VM-DONE: {} ok, {} failed", tally.ok, tally.failed);
    boot::power_off()
}

struct Tally {
    ok: usize,
    failed: usize,
}

fn run(world: &mut World) -> Tally {
    let mut tally = Tally { ok: 0, failed: 0 };
    let filter = std::env::var("MSIX_VM_FILTER").unwrap_or_default();
    for (name, test) in tests::all().filter(|(name, _)| name.contains(&filter)) {
        println!("-- {name}");
        match guarded(|| test(world)) {
            Ok(()) => {
                println!("VM-RESULT: ok {name}");
                tally.ok += 1;
            }
            Err(why) => {
                println!("VM-RESULT: FAILED {name}: {why}");
                tally.failed += 1;
            }
        }
        // The next test finds what the first one found.
        world.quiesce();
    }
    tally
}

/// A panic is a failure like another; the end of init would be the end of the kernel.
fn guarded<T>(part: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|_| Err("panicked, see above".to_owned()))
}
