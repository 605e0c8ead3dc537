//! Boots Linux by its 64-bit boot protocol: ACPI tables and a command line, no firmware.

use crate::Outcome;
use crate::acpi;
use crate::cpu::Cpu;
use kvm_bindings::kvm_segment;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator as _, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::{BzImage, Cmdline, KernelLoader as _, load_cmdline};
use std::fs::File;
use std::path::PathBuf;
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, ReadVolatile as _,
};

/// What to boot.
#[derive(Debug, Clone)]
pub(crate) struct Linux {
    /// A bzImage.
    pub(crate) kernel: PathBuf,
    /// An initramfs.
    pub(crate) initramfs: Option<PathBuf>,
    /// The command line.
    pub(crate) command_line: String,
}

/// Where a kernel begins.
pub(crate) struct Entry(u64);

impl Linux {
    /// Puts all of it into the memory of a machine with so many processors.
    pub(crate) fn load(&self, memory: &GuestMemoryMmap, cpus: u8) -> Outcome<Entry> {
        let mut kernel = File::open(&self.kernel)?;
        let start = GuestAddress(HIGH_MEMORY);
        let loaded = BzImage::load(memory, Some(start), &mut kernel, Some(start))?;
        let mut command_line = Cmdline::new(COMMAND_LINE_LEN)?;
        command_line.insert_str(&self.command_line)?;
        load_cmdline(memory, COMMAND_LINE, &command_line)?;

        let hdr = loaded.setup_header.ok_or("a kernel without a header")?;
        let mut params = boot_params { hdr, ..Default::default() };
        params.hdr.type_of_loader = 0xff;
        params.hdr.cmd_line_ptr = COMMAND_LINE.0 as u32;
        params.hdr.cmdline_size = COMMAND_LINE_LEN as u32;
        let end = memory.last_addr().0 + 1;
        if let Some(path) = &self.initramfs {
            let (at, len) = load_at_end(memory, end, path)?;
            (params.hdr.ramdisk_image, params.hdr.ramdisk_size) = (at, len);
        }
        params.acpi_rsdp_addr = ACPI_TABLES.0;
        memory.write_slice(&acpi::build(ACPI_TABLES.0, cpus), ACPI_TABLES)?;
        for (addr, end) in [(0, LOW_MEMORY_END), (HIGH_MEMORY, end)] {
            let entry = boot_e820_entry { addr, size: end - addr, r#type: USABLE };
            params.e820_table[usize::from(params.e820_entries)] = entry;
            params.e820_entries += 1;
        }
        LinuxBootConfigurator::write_bootparams(&BootParams::new(&params, ZERO_PAGE), memory)?;
        identity_map(memory)?;
        // The entry in 64-bit mode.
        Ok(Entry(loaded.kernel_load.0 + 0x200))
    }
}

impl Entry {
    /// Puts a processor there, in 64-bit mode.
    pub(crate) fn enter(&self, cpu: &Cpu) -> Outcome {
        let mut special = cpu.fd.get_sregs()?;
        let code = kvm_segment {
            limit: u32::MAX,
            selector: 0x10,
            type_: 0xb, // code that can be read
            present: 1,
            s: 1,
            l: 1,
            g: 1,
            ..Default::default()
        };
        // Not of 64 bits, but of 32, and it can be written.
        let data = kvm_segment { selector: 0x18, type_: 0x3, l: 0, db: 1, ..code };
        special.cs = code;
        (special.ds, special.es, special.ss) = (data, data, data);
        (special.fs, special.gs) = (data, data);
        special.cr3 = PAGE_TABLES.0;
        special.cr4 |= CR4_PHYSICAL_ADDRESS_EXTENSION;
        special.cr0 |= CR0_PROTECTED | CR0_PAGED;
        special.efer |= EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
        cpu.fd.set_sregs(&special)?;
        let regs = kvm_bindings::kvm_regs {
            rip: self.0,
            rsi: ZERO_PAGE.0,
            rflags: 2, // a bit that is always set
            ..Default::default()
        };
        Ok(cpu.fd.set_regs(&regs)?)
    }
}

/// Loads a file to the last pages of memory. Returns where, and how many bytes.
fn load_at_end(memory: &GuestMemoryMmap, end: u64, path: &PathBuf) -> Outcome<(u32, u32)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let at = end.checked_sub(len).ok_or("the initramfs does not fit")? & !0xfff;
    let mut place = memory.get_slice(GuestAddress(at), usize::try_from(len)?)?;
    file.read_exact_volatile(&mut place)?;
    Ok((u32::try_from(at)?, u32::try_from(len)?))
}

/// Maps the first GiB one to one, in pages of 2 MiB.
fn identity_map(memory: &GuestMemoryMmap) -> Outcome {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE: u64 = 0x80;
    let [top, middle, bottom] = [0, 0x1000, 0x2000].map(|at| GuestAddress(PAGE_TABLES.0 + at));
    memory.write_obj(middle.0 | PRESENT_WRITABLE, top)?;
    memory.write_obj(bottom.0 | PRESENT_WRITABLE, middle)?;
    for page in 0..512 {
        let entry = page << 21 | LARGE | PRESENT_WRITABLE;
        memory.write_obj(entry, GuestAddress(bottom.0 + 8 * page))?;
    }
    Ok(())
}

const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
const PAGE_TABLES: GuestAddress = GuestAddress(0x9000);
const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
const COMMAND_LINE_LEN: usize = 2048;
const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Where firmware would be.
const ACPI_TABLES: GuestAddress = GuestAddress(0xe_0000);
const HIGH_MEMORY: u64 = 0x10_0000;
/// A kind of memory: the kernel may use it.
const USABLE: u32 = 1;
const CR0_PROTECTED: u64 = 1;
const CR0_PAGED: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
