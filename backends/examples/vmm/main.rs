//! A toy VMM that boots Linux: what a VMM has around `msix_backends::kvm::Function`, in a few small
//! files, made of the crates that VMMs use.
//!
//! ```sh
//! cargo run -p msix-backends --features kvm --example vmm            # a guest of a few instructions
//! cargo run -p msix-backends --features kvm --example vmm -- \
//!     --kernel vmlinuz --initramfs initrd.img --append "console=ttyS0 reboot=k"
//! ```
//!
//! The machine has a host bridge and one device, a virtio random number generator with two MSI-X
//! vectors; a serial port is its console.
//!
//! | file | what |
//! |---|---|
//! | `interrupts` | the embedding: read this first |
//! | `pci` | configuration space, which has Command and the MSI-X capability |
//! | `virtio`, `registers` | the device's BAR, which has the table and the PBA |
//! | `rng` | the device's thread, which raises interrupts |
//! | `outside` | a worker that has an eventfd and nothing else |
//! | `machine`, `cpu`, `ports`, `worker` | the rest of a machine, with its reset |
//! | `linux`, `acpi` | what the kernel wants at its start |
//! | `small_guest` | the guest of a few instructions, and the test with it |

mod acpi;
mod cpu;
mod interrupts;
mod linux;
mod machine;
mod outside;
mod pci;
mod ports;
mod registers;
mod rng;
mod small_guest;
mod virtio;
mod worker;

use clap::Parser;
use linux::Linux;
use machine::Machine;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// What may fail, returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A toy VMM on msix-backends.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kernel to boot, a bzImage; without one, a guest of a few instructions runs.
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Its initramfs.
    #[arg(long)]
    initramfs: Option<PathBuf>,
    /// Its command line. The number of the boot is added as VMM_BOOT.
    #[arg(long, default_value = "console=ttyS0 reboot=k")]
    append: String,
    /// MiB of memory, up to 1024.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1024))]
    memory: u32,
    /// Processors.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// How often the guest may boot: the reset after that ends the VMM.
    #[arg(long, default_value_t = 1)]
    boots: u32,
}

fn main() -> Outcome {
    let arguments = Arguments::parse();
    if kvm_ioctls::Kvm::new().is_err() {
        eprintln!("no /dev/kvm here: nothing to show");
        return Ok(());
    }
    let Some(kernel) = arguments.kernel else { return small_guest::run(Box::new(io::stdout())) };
    let memory = usize::try_from(arguments.memory)? << 20;
    let mut machine = Machine::new(memory, arguments.cpus, Box::new(io::stdout()))?;
    for boot in 1..=arguments.boots {
        let command_line = format!("{} VMM_BOOT={boot}", arguments.append);
        let linux =
            Linux { kernel: kernel.clone(), initramfs: arguments.initramfs.clone(), command_line };
        let entry = linux.load(&machine.memory, arguments.cpus)?;
        machine.run(|cpu| entry.enter(cpu))?;
        println!("vmm: boot {boot} ended: {:?}", machine.routes.stats());
    }
    Ok(())
}
