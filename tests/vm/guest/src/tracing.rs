//! The kernel's trace events of KVM.

use std::fs;

/// What a recording for `msix replay` has.
const EVENTS: [&str; 5] =
    ["kvm_mmio", "kvm_pio", "kvm_msi_set_irq", "kvm_apic_accept_irq", "kvm_set_irq"];

/// A recording that goes on until [`Recording::end`].
#[derive(Debug)]
pub(crate) struct Recording(());

impl Recording {
    /// Begins one, in an empty buffer.
    pub(crate) fn begin() -> Result<Self, String> {
        write("tracing_on", "0")?;
        write("trace_clock", "mono")?;
        write("buffer_size_kb", "4096")?;
        write("trace", "")?;
        for event in EVENTS {
            write(&format!("events/kvm/{event}/enable"), "1")?;
        }
        write("tracing_on", "1")?;
        Ok(Self(()))
    }

    /// Ends it, and returns its text.
    pub(crate) fn end(self) -> Result<String, String> {
        write("tracing_on", "0")?;
        fs::read_to_string(place("trace")).map_err(|error| format!("trace: {error}"))
    }
}

fn write(file: &str, text: &str) -> Result<(), String> {
    fs::write(place(file), text).map_err(|error| format!("{file}: {error}"))
}

fn place(file: &str) -> String {
    format!("/sys/kernel/tracing/{file}")
}
