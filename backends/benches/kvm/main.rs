//! The KVM backend beside the bare system calls on the real /dev/kvm (x86-64), in one process, turn
//! about. Nothing is asserted of a time. Results: README.md beside this folder.
//!
//! `cargo bench -p msix-backends-benches --bench kvm [-- part of a scenario's name]`

mod beside;
mod commit;
mod events;
mod guest;
mod live;
mod measure;
#[path = "../shared/nothing.rs"]
mod nothing;
mod up;
mod vm;

use measure::Report;
use msix_backends::kvm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::error::Error;

/// 2048 eventfds for the side that runs, and some for what the kernel is still closing.
const DESCRIPTORS: u64 = 5000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: this is for cargo bench");
        return Ok(());
    }
    match kvm::probe() {
        Err(unavailable) => println!("nothing measured: {unavailable}"),
        Ok(_) if descriptors()? < DESCRIPTORS => {
            println!("nothing measured: needs {DESCRIPTORS} open files (see ulimit -Hn)");
        }
        Ok(facts) => {
            println!("KVM: {facts}\n");
            let wanted = arguments.into_iter().find(|argument| !argument.starts_with('-'));
            let mut report = Report::new(wanted);
            up::scenarios(&mut report)?;
            live::scenarios(&mut report)?;
            commit::scenarios(&mut report)?;
            events::scenarios(&mut report)?;
            beside::scenarios(&mut report)?;
        }
    }
    Ok(())
}

/// Raises the limit of open files as far as it goes, and says how far.
fn descriptors() -> Result<u64, Box<dyn Error>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
