//! The init of an emulated arm64 machine: KVM's interrupt controllers, and the backend on them.
//!
//! It runs every test of [`tests::all`] that the machine's interrupt controller can run, prints a line for
//! each and one for all, and powers the machine off. tests/tests/vm starts it and reads the console.

#[expect(
    dead_code,
    reason = "this machine does not boot twice, and nothing is the child of its init"
)]
#[path = "../../guest/src/boot.rs"]
mod boot;
#[expect(dead_code, reason = "less is looked at here")]
#[path = "../../guest/src/device.rs"]
mod device;
mod guest;
mod machine;
mod pending;
mod rig;
mod tests;

use kvm_ioctls::Kvm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a test, or a part of one, comes to.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    if !boot::is_init_of_the_test_machine() {
        eprintln!("this is the init of a test machine; see tests/run vm");
        return ExitCode::FAILURE;
    }
    let (mut ok, mut failed) = (0, 0);
    let filter = std::env::var("MSIX_VM_FILTER").unwrap_or_default();
    // An eventfd for each of 2048 vectors.
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let booted =
        boot::mount_all().and_then(|()| raised.map_err(text)).and_then(|()| boot::load_modules());
    match booted.and_then(|()| Kvm::new().map_err(text)) {
        Err(why) => {
            println!("VM-RESULT: FAILED boot: {why}");
            failed = 1;
        }
        Ok(kvm) => {
            for (name, test) in tests::all().filter(|(name, _)| name.contains(&filter)) {
                println!("-- {name}");
                let begun = Instant::now();
                let ended = catch_unwind(AssertUnwindSafe(|| test(&kvm)));
                match ended.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
                    Ok(()) => {
                        println!("VM-RESULT: ok {name} in {:.1?}", begun.elapsed());
                        ok += 1;
                    }
                    Err(why) => {
                        println!("VM-RESULT: FAILED {name}: {why}");
                        failed += 1;
                    }
                }
            }
        }
    }
    println!("VM-DONE: {ok} ok, {failed} failed");
    boot::power_off()
}

/// Whether the machine has a GICv2, and KVM no other for its guests.
pub(crate) fn is_v2() -> bool {
    std::env::var_os("MSIX_VM_GICV2").is_some()
}

/// An error as a test returns it.
pub(crate) fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Both are equal, or an error that says what it is about.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Outcome {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:?} instead of {expected:?}")) }
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(format!("in vain: {what}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
