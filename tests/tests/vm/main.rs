//! VFIO and KVM on Debian's stock kernels: boots them in an emulated machine with an IOMMU, with
//! tests/vm/guest as the only program. `tests/run vm` runs these alone and shows what the guest says.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

mod machine;
mod recorded;
mod recordings;

use machine::{Console, Machine};
use msix_tests::{initramfs, stock_guest};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

/// The modules of the kernel that the guest loads.
const MODULES: &[&str] = &["vfio_iommu_type1", "vfio_pci", "kvm_amd"];

#[test]
fn everything_holds_on_linux_6_1_where_msix_is_not_resized() {
    boot("6.1");
}

#[test]
fn everything_holds_on_linux_6_12_where_msix_is_resized() {
    boot("6.12");
}

/// Runs the guest's tests on the newest stock kernel of a series.
fn boot(series: &str) {
    let test = format!("VFIO on Linux {series}");
    if std::env::var_os("MSIX_VM").is_none() {
        msix_tests::peers::skipped(&test, "word that it may boot kernels", "./tests/run vm");
        return;
    }
    if Command::new(machine::QEMU).arg("--version").output().is_err() {
        msix_tests::peers::skipped(&test, machine::QEMU, "apt-get install qemu-system-x86");
        return;
    }
    let kernel = match stock_guest::kernel(series, "cloud") {
        Ok(folder) => folder,
        Err(why) => {
            msix_tests::peers::skipped(&test, &format!("kernel {series}"), &why);
            return;
        }
    };
    static INIT: LazyLock<PathBuf> =
        LazyLock::new(|| stock_guest::init(Path::new(env!("CARGO_TARGET_TMPDIR"))));
    let files = [("recorded", recorded::text())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let initramfs = initramfs::build(&INIT, &kernel.join("modules"), MODULES, &files);
    let begun = Instant::now();
    let console = Machine::start(series, &kernel.join("vmlinuz"), &initramfs).run();
    let seconds = begun.elapsed().as_secs_f32();
    let all = std::env::var_os("MSIX_VM_FILTER").is_none_or(|filter| filter.is_empty());
    let judged = recordings::judge(series, &console.text, all);
    match verdict(&console).and_then(|ok| judged.map(|()| ok)) {
        Ok(ok) => println!("{}Linux {series}: {ok} in {seconds:.0} s", results(&console.text)),
        Err(why) => panic!("Linux {series}: {why} after {seconds:.0} s\n{console}"),
    }
}

/// What the guest's last line says, when it says that all is well.
fn verdict(console: &Console) -> Result<&str, String> {
    console.ended.as_ref().map_err(Clone::clone)?;
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
