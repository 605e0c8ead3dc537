//! ACPI tables: they tell the kernel of the processors, the interrupt controllers and the PCI bus.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Name, ResourceTemplate,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::FADTBuilder;
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

/// Builds the tables for address `at`, the pointer to the others (RSDP) in front, for a machine with so
/// many processors.
pub(crate) fn build(at: u64, cpus: u8) -> Vec<u8> {
    let mut tables = vec![0; Rsdp::len()];
    let mut add = |table: &dyn Aml| {
        tables.resize(tables.len().next_multiple_of(64), 0);
        let place = at + tables.len() as u64;
        table.to_aml_bytes(&mut tables);
        place
    };
    let facs = add(&FACS::new());
    let dsdt = add(&dsdt());
    let fadt = add(&fadt(facs, dsdt).finalize());
    let madt = add(&madt(cpus));
    let mut xsdt = XSDT::new(VENDOR, MACHINE, 1);
    [fadt, madt].into_iter().for_each(|table| xsdt.add_entry(table));
    let xsdt = add(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(VENDOR, xsdt).to_aml_bytes(&mut rsdp);
    tables[..rsdp.len()].copy_from_slice(&rsdp);
    tables
}

/// The registers of power management are there because the kernel wants them, and do nothing.
fn fadt(facs: u64, dsdt: u64) -> FADTBuilder {
    let mut fadt = FADTBuilder::new(VENDOR, MACHINE, 1).dsdt_64(dsdt).firmware_ctrl_64(facs);
    fadt.sci_int = 9.into();
    fadt.pm1a_evt_blk = u32::from(POWER).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(POWER + 4).into();
    fadt.pm1_cnt_len = 2;
    fadt
}

/// Local APIC `n` is that of processor `n`; the interrupts of ISA are the first pins of the I/O APIC.
fn madt(cpus: u8) -> MADT {
    let controller = LocalInterruptController::Address(0xfee0_0000);
    let mut madt = MADT::new(VENDOR, MACHINE, 1, controller);
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(cpus, 0xfec0_0000, 0));
    madt
}

/// The host bridge, and what it passes on. Functions have no pins, so there is no table of them.
fn dsdt() -> Sdt {
    let buses = AddressSpace::new_bus_number(0_u16, 0);
    let ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let cacheable = AddressSpaceCacheable::NotCacheable;
    let memory = AddressSpace::new_memory(cacheable, true, WINDOW.0, WINDOW.1, None);
    let resources = ResourceTemplate::new(vec![&buses, &ports, &memory]);
    let id = Name::new("_HID".into(), &EISAName::new("PNP0A03"));
    let resources = Name::new("_CRS".into(), &resources);
    let bridge = Device::new("_SB_.PCI0".into(), vec![&id, &resources]);
    let mut code = Vec::new();
    bridge.to_aml_bytes(&mut code);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, VENDOR, MACHINE, 1);
    dsdt.append_slice(&code);
    dsdt
}

/// The ports of power management: status and enable of events, and control, two bytes each.
pub(crate) const POWER: u16 = 0x600;
pub(crate) const POWER_LEN: u16 = 6;
/// First and last address of the memory that PCI has.
const WINDOW: (u32, u32) = (0xe000_0000, 0xefff_ffff);
const VENDOR: [u8; 6] = *b"MSIX  ";
const MACHINE: [u8; 8] = *b"TOY VMM ";
