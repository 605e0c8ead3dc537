//! VFIO and KVM on Debian's stock kernels: boots them in an emulated machine with an IOMMU, with
//! tests/vm/guest as the only program; and as the guest of the toy VMM, in a machine that runs it. And
//! KVM and VFIO on those for arm64, with tests/vm/arm as the only program.
//! `tests/run vm` runs these alone and shows what the guests say.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

mod machine;
mod recorded;
mod recordings;

use machine::{Console, Fault, Gic, Hardware, Machine};
use msix_tests::initramfs::Kind;
use msix_tests::{initramfs, stock_guest};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::Instant;

#[test]
fn everything_holds_on_linux_6_1_where_msix_is_not_resized() {
    boot(Hardware::Devices, "6.1");
}

#[test]
fn everything_holds_on_linux_6_12_where_msix_is_resized() {
    boot(Hardware::Devices, "6.12");
}

#[test]
fn a_linux_guest_of_the_toy_vmm_takes_each_interrupt_once_on_linux_6_1() {
    boot(Hardware::Processor, "6.1");
}

#[test]
fn a_linux_guest_of_the_toy_vmm_takes_each_interrupt_once_on_linux_6_12() {
    boot(Hardware::Processor, "6.12");
}

#[test]
fn every_event_is_one_lpi_of_an_arm_its_on_linux_6_1() {
    boot(Hardware::Arm(Gic::V3WithIts), "6.1");
}

#[test]
fn every_event_is_one_lpi_of_an_arm_its_on_linux_6_12() {
    boot(Hardware::Arm(Gic::V3WithIts), "6.12");
}

#[test]
fn every_event_is_one_spi_of_an_arm_gicv2_on_linux_6_12() {
    boot(Hardware::Arm(Gic::V2), "6.12");
}

/// What is said when an emulated processor went astray. No program in the machine can do that to its kernel:
/// a processor took no interrupts any more in the code of a guest's guest, faulted in the kernel's own code while
/// that was patched, or ran into faults behind faults in the guest's guest. That was seen of machines with two
/// processors (on 2026-11-27 nine of twelve boots with a guest's guest); of those with one in two of twenty.
const ASTRAY: [&str; 6] = [
    "Watchdog detected hard LOCKUP",
    "detected stalls on CPUs/tasks",
    "Oops: int3",
    "RIP: 0010:text_poke",
    "stack guard page was hit",
    "a processor ended with Shutdown",
];

/// How often a machine is booted whose processors went astray.
const BOOTS: usize = 4;

/// Returns how a machine's processors went astray, if they did: as its kernel says, or the machine ended and
/// no kernel said why, or no program ran any more.
fn astray(console: &str, ended: &Result<(), Fault>) -> Option<&'static str> {
    let says = |said: &str| console.contains(said);
    if let Some(said) = ASTRAY.into_iter().find(|said| says(said)) {
        return Some(said);
    }
    // The VMM keeps none of them, and its guest's kernel has one that spins.
    if says("VM-STUCK: every processor of the guest is in KVM_RUN")
        && (says("watchdog: BUG: soft lockup") || says("self-detected stall on CPU"))
    {
        return Some("a kernel waits for a processor that runs");
    }
    match ended {
        Ok(()) if !says("VM-DONE") && !says("Kernel panic") => {
            Some("the machine ended, and no kernel said why")
        }
        Err(Fault::Silent) => Some("no program ran any more"),
        Ok(()) | Err(Fault::Exit(_) | Fault::Late) => None,
    }
}

#[test]
fn processors_that_go_astray_without_a_word_are_told_from_tests_that_fail() {
    let (before, after) =
        ("[ 30.2] reboot: Restarting system\nvmm: boot 1 ended\n", "VM-DONE: 1 ok, 1 failed\n");
    assert!(astray(before, &Ok(())).is_some(), "the VMM's guest has restarted, not the machine");
    assert!(astray(before, &Err(Fault::Silent)).is_some());
    let whole = format!("{before}{after}");
    assert_eq!(astray(&whole, &Ok(())), None);
    for told in [&whole, before, "Kernel panic - not syncing"] {
        assert_eq!(astray(told, &Err(Fault::Late)), None, "{told}");
    }
    assert_eq!(astray("Kernel panic - not syncing", &Ok(())), None);
    let stuck = "VM-STUCK: every processor of the guest is in KVM_RUN\n";
    let lockup = "[ 28.7] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kworker/0:1:17]\n";
    let stall = "[ 32.9] rcu: INFO: rcu_preempt self-detected stall on CPU\n";
    for (told, expected) in [
        (&[stuck][..], false),
        (&[lockup, stall], false),
        (&[lockup, stuck], true),
        (&[stall, stuck], true),
    ] {
        let told = format!("{}{after}", told.concat());
        assert_eq!(astray(&told, &Ok(())).is_some(), expected, "{told}");
    }
}

/// Runs the guest's tests on the newest stock kernel of a series.
fn boot(hardware: Hardware, series: &str) {
    let test = match hardware {
        Hardware::Devices => format!("VFIO on Linux {series}"),
        Hardware::Processor => format!("the toy VMM with Linux {series}"),
        Hardware::Arm(Gic::V3WithIts) => format!("the ITS of Arm on Linux {series}"),
        Hardware::Arm(Gic::V2) => format!("GICv2m of Arm on Linux {series}"),
    };
    if std::env::var_os("MSIX_VM").is_none() {
        msix_tests::peers::skipped(&test, "word that it may boot kernels", "./tests/run vm");
        return;
    }
    if Command::new(hardware.qemu()).arg("--version").output().is_err() {
        let remedy = format!("apt-get install {}", hardware.package());
        msix_tests::peers::skipped(&test, hardware.qemu(), &remedy);
        return;
    }
    let kernel = match stock_guest::kernel(series, "cloud", hardware.processor()) {
        Ok(folder) => folder,
        Err(why) => {
            msix_tests::peers::skipped(&test, &format!("kernel {series}"), &why);
            return;
        }
    };
    let initramfs = match hardware {
        Hardware::Devices => initramfs_for_devices(&kernel),
        Hardware::Processor => initramfs_with_vmm(&kernel),
        Hardware::Arm(_) => match &*ARM_INIT {
            Ok(init) => {
                let wanted = ["vfio_iommu_type1", "vfio_pci"];
                initramfs::build(init, &kernel.join("modules"), &wanted, &[])
            }
            Err(package) => {
                let remedy = format!("apt-get install {package}");
                msix_tests::peers::skipped(&test, package, &remedy);
                return;
            }
        },
    };
    // A guest in a guest runs out of time beside another machine, where two processors are all there are.
    static PROCESSORS: RwLock<()> = RwLock::new(());
    let alone = matches!(hardware, Hardware::Processor)
        .then(|| PROCESSORS.write().unwrap_or_else(PoisonError::into_inner));
    let _beside_others =
        alone.is_none().then(|| PROCESSORS.read().unwrap_or_else(PoisonError::into_inner));
    let begun = Instant::now();
    let run = || Machine::start(hardware, series, &kernel.join("vmlinuz"), &initramfs).run();
    let mut console = run();
    for boot in 2..=BOOTS {
        let (Some(said), Err(_)) = (astray(&console.text, &console.ended), verdict(&console))
        else {
            break;
        };
        println!("{test}: `{said}`, boot {boot} of {BOOTS}\n{console}");
        console = run();
    }
    let seconds = begun.elapsed().as_secs_f32();
    let judged = match hardware {
        Hardware::Devices => {
            let all = std::env::var_os("MSIX_VM_FILTER").is_none_or(|filter| filter.is_empty());
            recordings::judge(series, &console.text, all)
        }
        Hardware::Processor | Hardware::Arm(_) => Ok(()),
    };
    match verdict(&console).and_then(|ok| judged.map(|()| ok)) {
        Ok(ok) => println!("{}{test}: {ok} in {seconds:.0} s", results(&console.text)),
        Err(why) => panic!("{test}: {why} after {seconds:.0} s\n{console}"),
    }
}

/// The init of all guests. The toy VMM is built beside it.
static INIT: LazyLock<PathBuf> =
    LazyLock::new(|| stock_guest::init(Path::new(env!("CARGO_TARGET_TMPDIR"))));

/// The init of machines with Arm processors, or the package that it lacks.
static ARM_INIT: LazyLock<Result<PathBuf, String>> =
    LazyLock::new(|| stock_guest::arm_init(Path::new(env!("CARGO_TARGET_TMPDIR"))));

fn initramfs_for_devices(kernel: &Path) -> Vec<u8> {
    let wanted = ["vfio_iommu_type1", "vfio_pci", "kvm_amd"];
    let recorded = recorded::text();
    let others = [("recorded", Kind::File, recorded.as_bytes())];
    initramfs::build(&INIT, &kernel.join("modules"), &wanted, &others)
}

/// The VMM, and what its guest boots: the same kernel and the same init.
fn initramfs_with_vmm(kernel: &Path) -> Vec<u8> {
    let modules = kernel.join("modules");
    let guest = initramfs::build(&INIT, &modules, &["virtio_pci", "virtio_rng"], &[]);
    let read = |path: &Path| fs::read(path).expect("the file can be read");
    let (vmm, vmlinuz) = (read(&INIT.with_file_name("vmm")), read(&kernel.join("vmlinuz")));
    let others = [
        ("vmm", Kind::Executable, &*vmm),
        ("guest", Kind::Folder, &[]),
        ("guest/vmlinuz", Kind::File, &vmlinuz),
        ("guest/initramfs", Kind::File, &guest),
    ];
    initramfs::build(&INIT, &modules, &["kvm_amd"], &others)
}

/// What the guest's last line says, when it says that all is well.
fn verdict(console: &Console) -> Result<&str, String> {
    console.ended.as_ref().map_err(Fault::to_string)?;
    let last = console.text.lines().find_map(|line| line.trim_end().split_once("VM-DONE: "));
    let (_, done) = last.ok_or("the guest ended before its tests did")?;
    let all = done.strip_suffix(" ok, 0 failed").and_then(|count| count.parse::<u32>().ok());
    if all.is_some_and(|count| count > 0) { Ok(done) } else { Err(done.to_owned()) }
}

/// What the guest says about its tests, a line each, and the figures they saw.
fn results(console: &str) -> String {
    let told = ["VM-RESULT: ", "VM-FIGURE: "];
    let lines = console.lines().filter(|line| told.iter().any(|told| line.starts_with(told)));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}
