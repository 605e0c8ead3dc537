//! Logs made by hand, and the program run on them.
#![expect(dead_code, reason = "each test file uses a part")]

pub(crate) mod process;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

pub(crate) const NVME: (&str, &str) = ("nvme", "00:04.0");
pub(crate) const TABLE: u64 = 0xfebc_2000;

/// A log, line by line.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) text: String,
    pub(crate) lines: u64,
}

impl Log {
    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> &mut Self {
        writeln!(self.text, "{line}").unwrap();
        self.lines += 1;
        self
    }

    pub(crate) fn config(
        &mut self,
        (name, bdf): (&str, &str),
        offset: u16,
        value: u32,
    ) -> &mut Self {
        self.line(format!("pci_cfg_write {name} {bdf} @{offset:#x} <- {value:#x}"))
    }

    pub(crate) fn config_read(
        &mut self,
        (name, bdf): (&str, &str),
        offset: u16,
        value: u32,
    ) -> &mut Self {
        self.line(format!("pci_cfg_read {name} {bdf} @{offset:#x} -> {value:#x}"))
    }

    /// The two lines of a 16-bit write to Message Control at `offset`.
    pub(crate) fn control(&mut self, device: (&str, &str), offset: u16, value: u32) -> &mut Self {
        self.config(device, offset, value).control_line(device.0, value)
    }

    pub(crate) fn control_line(&mut self, name: &str, value: u32) -> &mut Self {
        let (enabled, masked) = (value >> 15 & 1, value >> 14 & 1);
        self.line(format!("msix_write_config dev {name} enabled {enabled} masked {masked}"))
    }

    pub(crate) fn write(&mut self, mr: u64, address: u64, value: u32) -> &mut Self {
        self.memory("write", mr, address, u64::from(value), "msix-table")
    }

    pub(crate) fn read(&mut self, mr: u64, address: u64, value: u32) -> &mut Self {
        self.memory("read", mr, address, u64::from(value), "msix-table")
    }

    pub(crate) fn memory(
        &mut self,
        kind: &str,
        mr: u64,
        address: u64,
        value: u64,
        name: &str,
    ) -> &mut Self {
        self.line(format!(
            "memory_region_ops_{kind} cpu 0 mr {mr:#x} addr {address:#x} value {value:#x} size 4 \
             name '{name}'"
        ))
    }

    /// Programs an entry of the table at `table`: address and data, not the mask.
    pub(crate) fn program(&mut self, mr: u64, table: u64, vector: u64, data: u32) -> &mut Self {
        let entry = table + 16 * vector;
        self.write(mr, entry, 0xfee0_1000).write(mr, entry + 4, 0).write(mr, entry + 8, data)
    }

    pub(crate) fn mask(&mut self, mr: u64, table: u64, vector: u64, masked: bool) -> &mut Self {
        self.write(mr, table + 16 * vector + 12, u32::from(masked))
    }

    pub(crate) fn raise(&mut self, vector: u32) -> &mut Self {
        self.line(format!("pci_nvme_irq_msix raising MSI-X IRQ vector {vector}"))
    }

    pub(crate) fn message(&mut self, data: u32) -> &mut Self {
        self.memory("write", 0x1, 0xfee0_1000, u64::from(data), "apic-msi")
    }

    /// A 32-bit memory BAR 0 sized fresh from reset and placed at `base`, bus master on.
    pub(crate) fn place(&mut self, device: (&str, &str), base: u32) -> &mut Self {
        self.config(device, 0x10, 0xffff_ffff).config(device, 0x10, 0);
        self.config(device, 0x10, base).config(device, 4, 0x107)
    }

    /// An nvme with 4 vectors; vector 0 has data 0x40 and is live.
    pub(crate) fn nvme() -> Self {
        let mut log = Self::default();
        log.place(NVME, 0xfebc_0000).control(NVME, 0x42, 0xc003);
        log.program(NVME_MR, TABLE, 0, 0x40).mask(NVME_MR, TABLE, 0, false);
        log.control(NVME, 0x42, 0x8003);
        log
    }

    /// Lines that mean nothing, to let the window for a message pass.
    pub(crate) fn idle(&mut self) -> &mut Self {
        for _ in 0..70 {
            self.config(("mch", "00:00.0"), 0x90, 0);
        }
        self
    }
}

pub(crate) const NVME_MR: u64 = 0x1000;

pub(crate) fn recording() -> Vec<String> {
    let text = std::str::from_utf8(msix_sim::RECORDING).unwrap();
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn joined(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

pub(crate) fn msix(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_msix")).args(arguments).output().unwrap()
}

/// Exit status, standard output and standard error of `msix replay` on this text.
pub(crate) fn replayed(text: impl AsRef<[u8]>, arguments: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("guest.log");
    std::fs::write(&path, text).unwrap();
    replayed_file(&path, arguments)
}

pub(crate) fn replayed_file(path: &Path, arguments: &[&str]) -> (i32, String, String) {
    let path = path.to_str().unwrap();
    let output = msix(&[&["replay", path], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
