//! QEMU with the engine of this project in place of its own MSI-X, beside the QEMU that it was built from:
//! the same Linux guest loads its disks and its network on both, and migrates between them under that
//! load. `./tests/run qemu` builds both and runs these; MSIX_QEMUS is the folder that holds them.
//!
//! The guest has one request in flight for each queue of a disk, so each request needs an interrupt of its
//! own. An interrupt that is lost stops the queue, or the driver complains of a timeout.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

mod figures;
mod machine;
mod notifiers;

use figures::Figures;
use machine::{Disks, Machine, Software};
use msix_tests::{initramfs, stock_guest};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// The QEMUs, by the names of their folders: the original, and ours with QEMU's policy and with SPEC.
const STOCK: &str = "stock";
const OURS: &str = "ours";
const SPEC: &str = "spec";

/// Which QEMU the guest is on, one after the other.
const WAYS: [&[&str]; 2] = [
    &[STOCK, OURS, STOCK, OURS, OURS, STOCK, STOCK],
    &[STOCK, SPEC, STOCK, SPEC, OURS, SPEC, STOCK],
];

/// How long the guest works on each QEMU.
const STAY: Duration = Duration::from_secs(2);
/// How long the guest works when it stays.
const LOAD: Duration = Duration::from_secs(8);

/// What the guest loads, and with what.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "nvme",
    "e1000e",
    "xhci_pci",
    "usb_storage",
    "sd_mod",
];

/// The kernel and the init, or why there are none.
static SOFTWARE: LazyLock<Result<Software, String>> = LazyLock::new(|| {
    let kernel = stock_guest::kernel("6.1", "generic", "amd64")?;
    let init = stock_guest::init(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let initramfs = initramfs::build(&init, &kernel.join("modules"), MODULES, &[]);
    Ok(Software { kernel: kernel.join("vmlinuz"), initramfs })
});

/// What the guest runs; notes the skip if this machine cannot have it.
fn software() -> Option<&'static Software> {
    if let Err(why) = &*SOFTWARE {
        msix_tests::peers::skipped("a guest on QEMU with the engine in it", "kernel 6.1", why);
    }
    SOFTWARE.as_ref().ok()
}

#[test]
#[ignore = "needs a QEMU with the engine in it: ./tests/run qemu"]
fn every_request_has_its_interrupt_on_each_qemu() {
    let Some(software) = software() else { return };
    for qemu in [STOCK, OURS, SPEC] {
        let disks = Disks::new(&["vda", "sda", "nvme0n1"]);
        let mut machine = Machine::start(&binary(qemu), &disks, software, None);
        machine.await_progress(&Figures::default());
        std::thread::sleep(LOAD);
        let text = machine.finish();
        println!("{qemu}:\n{text}");
        figures::judge(&text, &disks, 0);
    }
}

#[test]
#[ignore = "needs a QEMU with the engine in it: ./tests/run qemu"]
fn a_guest_under_load_migrates_between_them_and_loses_nothing() {
    let Some(software) = software() else { return };
    for way in WAYS {
        // QEMU 7.2 does not migrate nvme.
        let disks = Disks::new(&["vda", "sda"]);
        let mut machine = Machine::start(&binary(way[0]), &disks, software, None);
        machine.await_progress(&Figures::default());
        for next in &way[1..] {
            std::thread::sleep(STAY);
            machine = machine.migrate(&binary(next), &disks, software);
        }
        std::thread::sleep(STAY);
        let text = machine.finish();
        println!("{}:\n{text}", way.join(" -> "));
        figures::judge(&text, &disks, way.len() - 1);
    }
}

#[test]
#[ignore = "needs a QEMU with the engine in it: ./tests/run qemu"]
fn kvm_takes_events_of_the_same_vectors_on_each_qemu() {
    if !Path::new("/dev/kvm").exists() {
        let remedy = "needs KVM and leave to open /dev/kvm";
        msix_tests::peers::skipped("vector notifiers of QEMU", "/dev/kvm", remedy);
        return;
    }
    for qemu in [STOCK, OURS, SPEC] {
        notifiers::judge(&binary(qemu));
    }
}

/// The program of a QEMU.
fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("MSIX_QEMUS").expect("./tests/run qemu sets MSIX_QEMUS");
    Path::new(&folder).join(name).join("qemu-system-x86_64")
}
