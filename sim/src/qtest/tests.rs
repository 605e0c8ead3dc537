//! Commands, without sockets but for the server's.

use super::command::answer;
use super::machine::{Bus, Machine, Seated};
use super::setup::MachineKind;
use crate::replay::Peer;
use msix_core::Policy;
use msix_ivshmem::{DeviceOptions, IvshmemDevice, Width, routes_without_vm, send_whole};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Bytes of it.
const RAM: usize = 64 << 20;

/// A machine with its device at slot 4, and the server's end.
fn machine() -> (Machine, UnixStream) {
    machine_of(MachineKind::Q35)
}

fn machine_of(kind: MachineKind) -> (Machine, UnixStream) {
    let memory = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 1 << 20).unwrap();
    let (server, client) = UnixStream::pair().unwrap();
    send_whole(&server, 0, None).unwrap();
    send_whole(&server, 1, None).unwrap();
    send_whole(&server, -1, Some(memory.as_fd())).unwrap();
    let bus = Bus::default();
    let routes = routes_without_vm(bus.clone()).unwrap();
    let mut options = DeviceOptions::new(2);
    options.policy = Policy::QEMU;
    options.width = Width::Qemu;
    let device = IvshmemDevice::doorbell(client, options, &routes, bus.clone(), None).unwrap();
    let devices = vec![Seated::new(4, device)];
    (Machine::new(kind, RAM, devices, bus, Peer::Qemu, None), server)
}

fn all(machine: &mut Machine, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        assert_eq!(answer(machine, line), *expected, "{line}");
    }
}

#[test]
fn answers_are_qemus() {
    // As QEMU 7.2 gave them, but for the failures, where it ends in an assertion.
    all(
        &mut machine().0,
        &[
            ("outl 0xcf8 0x80000000", "OK"),
            ("inl 0xcfc", "OK 0x29c08086"),
            ("outl 0xcf8 0x80002000", "OK"),
            ("inl 0xcfc", "OK 0x11101af4"),
            ("inw 0xcfe", "OK 0x1110"),
            ("inb 0xcfc", "OK 0x00f4"),
            ("outb 0xcf8 1", "OK"),
            ("inl 0xcf8", "OK 0x80002000"),
            ("inw 0xcf8", "OK 0x2000"),
            ("inb 0x80", "OK 0x00ff"),
            ("outl 0xcf8 0x80002800", "OK"),
            ("inl 0xcfc", "OK 0xffffffff"),
            ("endianness", "OK little"),
            ("writel 0x200000 0x11223344", "OK"),
            ("readq 0x200000", "OK 0x0000000011223344"),
            ("read 0x200000 4", "OK 0x44332211"),
            ("b64read 0x200000 8", "OK RDMiEQAAAAA="),
            ("memset 0x200000 4 0x7f", "OK"),
            ("read 0x200000 0x6", "OK 0x7f7f7f7f0000"),
            ("write 0x200000 0x2 0xabc", "OK"),
            ("read 0x200000 2", "OK 0xab00"),
            ("b64write 0x200000 3 AQID", "OK"),
            ("readl 0x200000", "OK 0x000000007f030201"),
            ("readl 0x4000000", "OK 0x0000000000000000"),
            ("readl 0xffffffffffffffff", "OK 0x0000000000000000"),
            ("irq_intercept_in ioapic", "OK"),
            ("clock_step", "OK 0"),
            ("clock_step 5", "OK 5"),
            ("clock_set 100", "OK 100"),
            ("clock_set 10", "OK 100"),
            ("foo", "FAIL Unknown command 'foo'"),
            ("", "FAIL Unknown command ''"),
            ("inq 0xcf8", "FAIL Unknown command 'inq'"),
        ],
    );
}

#[test]
fn what_is_wrong_with_a_command_is_said_and_nothing_is_done() {
    let (mut machine, _server) = machine();
    for line in [
        "readl",
        "readl zzz",
        "readl 1 2",
        "readl 0x",
        "readl -1",
        "readl +1",
        "readl 0x1ffffffffffffffff",
        "inb 0x10000",
        "outb 5",
        "read 0 0",
        "read 0 0x1000001",
        "read 0 0xffffffffffffffff",
        "write 0 4 zz",
        "write 0 4 0x",
        "write 0 4 0xé",
        "write 0 4",
        "b64write 0 4 !",
        "memset 0 0x1000001 1",
        "memset 0 1",
        "clock_step x",
        "clock_set",
        "irq_intercept_in",
    ] {
        let answered = answer(&mut machine, line);
        assert!(answered.starts_with("FAIL "), "{line}: {answered}");
    }
    assert_eq!(answer(&mut machine, "read 0 8"), "OK 0x0000000000000000");
}

#[test]
fn an_access_that_crosses_the_end_of_something_reaches_both_sides() {
    let (mut machine, _server) = machine();
    let end = RAM as u64;
    all(
        &mut machine,
        &[
            ("outl 0xcf8 0x80002010", "OK"),
            ("outl 0xcfc 0x04000000", "OK"), // right behind RAM
            ("outl 0xcf8 0x80002004", "OK"),
            ("outw 0xcfc 2", "OK"),
        ],
    );
    all(
        &mut machine,
        &[
            (&format!("writeq {:#x} 0x1111111122222222", end - 4), "OK"),
            (&format!("readq {:#x}", end - 4), "OK 0x1111111122222222"),
            (&format!("readl {:#x}", end), "OK 0x0000000011111111"),
            (&format!("writeq {:#x} 0x33333333", end + 0xfc), "OK"),
            (&format!("readq {:#x}", end + 0xfc), "OK 0x0000000000000000"),
            ("writeq 0xfffffffffffffffc 0x4444444455555555", "OK"),
            ("readl 0", "OK 0x0000000044444444"),
        ],
    );
}

#[test]
fn numbers_are_read_as_c_reads_them() {
    let (mut machine, _server) = machine();
    all(
        &mut machine,
        &[
            ("writeb 010 17", "OK"),
            ("readb 8", "OK 0x0000000000000011"),
            ("readb 0X8", "OK 0x0000000000000011"),
            ("readb  8 ", "OK 0x0000000000000011"),
            ("writeb 8 0x1ff", "OK"),
            ("readb 8", "OK 0x00000000000000ff"),
        ],
    );
}

#[test]
fn a_register_number_is_written_whole_and_read_at_the_low_bits_of_both() {
    // As QEMU 7.2 gave them, on both machines.
    for kind in [MachineKind::Pc, MachineKind::Q35] {
        all(
            &mut machine_of(kind).0,
            &[
                ("outl 0xcf8 0x80002002", "OK"),
                ("inl 0xcf8", "OK 0x80002002"),
                ("inw 0xcfc", "OK 0x1110"),
                ("inw 0xcfd", "OK 0x1011"),
                ("inb 0xcff", "OK 0x0011"),
                ("inw 0xcff", "OK 0xff11"),
                ("inl 0xcfd", "OK 0xff111011"),
                ("outl 0xcf8 0x800020fd", "OK"),
                ("outl 0xcfc 0x11223344", "OK"),
                ("inl 0xcfc", "OK 0x223344"),
                ("outl 0xcf8 0x80002100", "OK"),
                ("inl 0xcfc", "OK 0xffffffff"),
                ("outl 0xcf8 0x81002000", "OK"),
                ("inl 0xcfa", "OK 0x1af42000"),
                ("inl 0xcfb", "OK 0x101af400"),
                ("outw 0xcf8 0x1234", "OK"),
                ("outl 0xcf7 0x55555555", "OK"),
                ("inl 0xcf8", "OK 0x81002000"),
                ("outl 0xcf8 0x8000203c", "OK"),
                ("outl 0xcfb 0x66778899", "OK"),
                ("inl 0xcfc", "OK 0x0088"),
                ("outl 0xcf8 0x80010000", "OK"),
                ("inl 0xcfc", "OK 0xffffffff"),
            ],
        );
    }
}

#[test]
fn a_guest_resets_the_machine_and_the_configuration_address_stays() {
    let kinds = [(MachineKind::Pc, "OK 0x0002"), (MachineKind::Q35, "OK 0x000a")];
    for (kind, kept) in kinds {
        let (mut machine, _server) = machine_of(kind);
        for (asked, line) in (1..).zip(["outb 0xcf9 6", "outb 0x92 1", "outb 0x64 0xfe"]) {
            all(
                &mut machine,
                &[
                    ("outl 0xcf8 0x8000203c", "OK"),
                    ("outb 0xcfc 0x55", "OK"),
                    ("outb 0xcf9 0xfb", "OK"),
                    ("inb 0xcf9", kept),
                    ("inb 0xcfc", "OK 0x0055"),
                    (line, "OK"),
                    ("inb 0xcf9", "OK 0x0000"),
                    ("inl 0xcf8", "OK 0x8000203c"),
                    ("inb 0xcfc", "OK 0x0000"),
                ],
            );
            assert_eq!(machine.resets, asked, "{line}");
        }
    }
}

#[test]
fn q35_shows_configuration_space_in_memory_where_its_bridge_says() {
    all(
        &mut machine().0,
        &[
            ("readl 0xb0020000", "OK 0x0000000000000000"),
            ("outl 0xcf8 0x80000060", "OK"),
            ("outl 0xcfc 0xb0000001", "OK"),
            ("readl 0xb0020000", "OK 0x0000000011101af4"),
            ("readl 0xb0020001", "OK 0x000000000011101a"),
            ("readl 0xb00200ff", "OK 0x00000000ffffff00"),
            ("readl 0xb0028000", "OK 0x00000000ffffffff"),
            ("readl 0xb0000000", "OK 0x0000000029c08086"),
            ("writeq 0xb0020038 0xaa00000000", "OK"),
            ("readl 0xb002003c", "OK 0x00000000000000aa"),
            ("outl 0xcfc 0x1", "OK"),
            ("outl 0xcf8 0x80000064", "OK"),
            ("outl 0xcfc 0x1", "OK"),
            ("readw 0x100020002", "OK 0x0000000000001110"),
            ("outb 0xcf9 6", "OK"),
            ("readw 0x100020002", "OK 0x0000000000000000"),
        ],
    );
    all(
        &mut machine_of(MachineKind::Pc).0,
        &[
            ("outl 0xcf8 0x80000060", "OK"),
            ("outl 0xcfc 0xb0000001", "OK"),
            ("inl 0xcfc", "OK 0xb0000001"),
            ("readl 0xb0020000", "OK 0x0000000000000000"),
        ],
    );
}
