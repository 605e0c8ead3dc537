//! What this machine has for running and testing the engine against real peers.

mod command;

use command::{Failure, first_line};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// One thing that was looked for.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether it can be used.
    pub available: bool,
    /// What was found, or why it cannot be used.
    pub detail: String,
    /// How to get it, if it cannot be used.
    pub remedy: Option<String>,
}

struct Wanted {
    name: &'static str,
    purpose: &'static str,
    remedy: &'static str,
    /// What was found, or why it is missing.
    look: fn() -> Result<String, String>,
}

/// In the order in which they are printed.
const WANTED: [Wanted; 10] = [
    Wanted {
        name: "/dev/kvm",
        purpose: "backend: irqfds and MSI routes",
        remedy: "load kvm_intel or kvm_amd, join the group kvm; in a virtual machine, have nested \
            virtualization enabled",
        look: kvm,
    },
    Wanted {
        name: "/dev/vfio/vfio",
        purpose: "backend: assigned devices",
        remedy: "modprobe vfio-pci on a machine with an IOMMU; tests also run it inside a TCG \
            guest, without this node",
        look: vfio,
    },
    Wanted {
        name: "KVM trace events",
        purpose: "recordings of a guest of any VMM on KVM, for `msix replay`",
        remedy: "as root: mount -t tracefs tracefs /sys/kernel/tracing, and load kvm",
        look: traces,
    },
    Wanted {
        name: "qemu-system-x86_64",
        purpose: "test peer: the oracle of the engine, and who records logs",
        remedy: "apt-get install qemu-system-x86",
        look: || first_line("qemu-system-x86_64", &["--version"]).map_err(missing),
    },
    Wanted {
        name: "setpriv",
        purpose: "no QEMU outlives a `msix diff` that is killed",
        remedy: "apt-get install util-linux",
        look: || {
            first_line("setpriv", &["--pdeathsig", "KILL", "setpriv", "--version"]).map_err(missing)
        },
    },
    Wanted {
        name: "valgrind",
        purpose: "benchmarks by instruction count",
        remedy: "apt-get install valgrind",
        look: || first_line("valgrind", &["--version"]).map_err(missing),
    },
    Wanted {
        name: "chromium",
        purpose: "tests of the timeline page",
        remedy: "apt-get install chromium",
        look: || first_line("chromium", &["--version"]).map_err(missing),
    },
    Wanted {
        name: "rust nightly",
        purpose: "fuzzing with sanitizers",
        remedy: "rustup toolchain install nightly --profile minimal",
        look: nightly,
    },
    Wanted {
        name: "cargo-fuzz",
        purpose: "fuzzing",
        remedy: "cargo install --locked cargo-fuzz",
        look: || first_line("cargo-fuzz", &["fuzz", "--version"]).map_err(missing),
    },
    Wanted {
        name: "cargo-hack",
        purpose: "building every combination of features",
        remedy: "cargo install --locked cargo-hack",
        look: || first_line("cargo-hack", &["hack", "--version"]).map_err(missing),
    },
];

/// Looks for everything. Runs other programs, each for a few seconds at most.
#[must_use]
pub fn examine() -> Vec<Check> {
    WANTED
        .iter()
        .map(|wanted| {
            let found = (wanted.look)();
            let available = found.is_ok();
            let (Ok(detail) | Err(detail)) = found;
            let remedy = (!available).then(|| wanted.remedy.to_owned());
            Check { name: wanted.name, purpose: wanted.purpose, available, detail, remedy }
        })
        .collect()
}

/// The checks as text, and a line that sums up.
#[must_use]
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = if check.available { "yes" } else { "NO " };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark}  {:<19} {}", check.name, check.purpose);
        let _ = writeln!(text, "     {:<19} {}", "", check.detail);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "     {:<19} to get it: {remedy}", "");
        }
    }
    let there = checks.iter().filter(|check| check.available).count();
    let _ = writeln!(text, "{there} of {} there", checks.len());
    text.push_str(RECORDING);
    text
}

/// How to record a guest on KVM, whatever its VMM is.
const RECORDING: &str = "
To record a guest of any VMM on KVM, as root, from before it starts until after the
trouble; `msix replay` reads FILE, gzipped or not:
  E='kvm_mmio kvm_pio kvm_msi_set_irq kvm_apic_accept_irq'
  cd /sys/kernel/tracing; echo mono > trace_clock; echo 65536 > buffer_size_kb
  for e in $E; do echo 1 > events/kvm/$e/enable; done; cat trace_pipe > FILE
  trace-cmd record -C mono $(printf -- '-e kvm:%s ' $E); trace-cmd report > FILE
  perf record -a -k mono $(printf -- '-e kvm:%s ' $E); perf script > FILE
The guest's own `lspci -vvv > LSPCI`, run as root, tells what such a recording may not:
  msix replay FILE --lspci LSPCI";

fn missing(failure: Failure) -> String {
    failure.to_string()
}

fn nightly() -> Result<String, String> {
    let list = command::output("rustup", &["toolchain", "list"]).map_err(missing)?;
    let found = list.lines().find(|line| line.starts_with("nightly"));
    found.map(str::to_owned).ok_or_else(|| "rustup has no nightly toolchain".to_owned())
}

/// Whether the events that a recording needs can be turned on here.
fn traces() -> Result<String, String> {
    let folder = Path::new("/sys/kernel/tracing");
    let events = folder.join("events/kvm/kvm_msi_set_irq/enable");
    match std::fs::metadata(&events) {
        Ok(_) => Ok(folder.display().to_string()),
        Err(error) => Err(format!("{}: {error}", events.display())),
    }
}

#[cfg(feature = "kvm")]
fn kvm() -> Result<String, String> {
    msix_backends::kvm::probe().map(|facts| facts.to_string()).map_err(|error| error.to_string())
}

#[cfg(not(feature = "kvm"))]
fn kvm() -> Result<String, String> {
    Err("this program was built without the feature `kvm`".to_owned())
}

#[cfg(feature = "vfio")]
fn vfio() -> Result<String, String> {
    msix_backends::vfio::probe().map(|facts| facts.to_string()).map_err(|error| error.to_string())
}

#[cfg(not(feature = "vfio"))]
fn vfio() -> Result<String, String> {
    Err("this program was built without the feature `vfio`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_looked_for_is_there_or_has_a_reason_and_a_remedy() {
        let checks = examine();
        assert_eq!(checks.len(), WANTED.len());
        for check in &checks {
            assert!(!check.detail.is_empty(), "{}", check.name);
            assert_eq!(check.remedy.is_none(), check.available, "{}", check.name);
        }
        let text = text(&checks);
        assert!(checks.iter().all(|check| text.contains(check.name)));
    }
}
