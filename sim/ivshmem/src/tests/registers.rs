//! Registers, BARs and configuration space (E1 to E3).

use super::*;

#[test]
fn e2_the_four_registers() {
    let mut world = World::new(DeviceOptions::new(2));
    world.device.write_bar(0, 0, &0x1234_5678_u32.to_le_bytes());
    world.device.write_bar(0, 4, &0x9abc_def0_u32.to_le_bytes());
    world.device.write_bar(0, 8, &[0xff; 4]);
    let read: Vec<u32> = [0, 4, 4, 8, 12, 16, 252].map(|at| world.read(0, at)).into();
    assert_eq!(read, [0x1234_5678, 0x9abc_def0, 0, u32::from(OWN), 0, 0, 0]);
    assert!(world.line().is_empty(), "a device with MSI-X has no line");
}

#[test]
fn e3_only_a_dword_at_12_rings() {
    let rung = |width, offset: u64, bytes: &[u8]| {
        let mut world = World::new(DeviceOptions { width, ..DeviceOptions::new(2) });
        let theirs = world.connect(0, 2);
        world.device.write_bar(0, offset, bytes);
        [taken(&theirs[0]), taken(&theirs[1])]
    };
    assert_eq!(rung(Width::Strict, 12, &[1, 0, 0, 0]), [0, 1]);
    for (offset, bytes) in [
        (12, &[1_u8][..]),
        (12, &[1, 0]),
        (14, &[1, 0]),
        (8, &[0; 8]),
        (12, &[0; 8]),
        (11, &[0; 4]),
    ] {
        assert_eq!(rung(Width::Strict, offset, bytes), [0, 0], "{offset} {bytes:?}");
    }
    // As QEMU: any width, and the register that the first byte is in.
    assert_eq!(rung(Width::Qemu, 12, &[1]), [0, 1]);
    assert_eq!(rung(Width::Qemu, 14, &[1, 0]), [0, 1]);
    assert_eq!(rung(Width::Qemu, 8, &[0, 0, 0, 0, 1, 0, 0, 0]), [0, 1]);
    let parts = "a byte at 11, a word at 12, a byte at 14";
    assert_eq!(rung(Width::Qemu, 11, &[9, 1, 0, 0]), [1, 1], "{parts}");
}

#[test]
fn e1_a_plain_device_has_memory_and_no_interrupts() {
    let memory = shared_memory(1 << 16);
    let mut device =
        IvshmemDevice::<Vmm>::plain(memory.as_fd().try_clone_to_owned().unwrap(), Width::Strict)
            .unwrap();
    let mut config = [0; 64];
    device.read_config(0, &mut config);
    assert_eq!(config[..4], [0xf4, 0x1a, 0x10, 0x11]);
    assert_eq!((config[6] & 0x10, config[0x34], config[0x3d]), (0, 0, 0), "no capability, no pin");
    device.write_config(0x18, &(MEMORY as u32).to_le_bytes());
    device.write_config(0x14, &[0xff; 4]);
    device.write_config(4, &[2, 0]);
    assert_eq!(device.decode(MEMORY + 5), Some((2, 5)));
    device.write_bar(2, 5, b"shared");
    device.write_bar(0, 12, &[0; 4]);
    let mut bytes = [0; 6];
    rustix::io::pread(&memory, &mut bytes[..], 5).unwrap();
    assert_eq!((&bytes, device.id(), device.rings()), (b"shared", Some(0), 0));
    let mut nothing = [1; 4];
    device.read_bar(1, 0, &mut nothing);
    assert_eq!((nothing, device.bar(1)), ([0; 4], None));
    device.read_config(0x14, &mut nothing);
    assert_eq!(nothing, [0; 4], "no BAR1");
    assert!(IvshmemDevice::<Vmm>::plain(shared_memory(100), Width::Strict).is_err());
}

#[test]
fn e1_revision_0_is_there_before_its_setup() {
    let (server, client) = UnixStream::pair().unwrap();
    let vmm = Vmm::default();
    let options =
        DeviceOptions { revision: Revision::Zero { memory: 1 << 20 }, ..DeviceOptions::new(2) };
    let routes = routes_without_vm(vmm.clone()).unwrap();
    let device = IvshmemDevice::doorbell(client, options, &routes, vmm.clone(), None).unwrap();
    let mut world = World { device, server, routes, vmm, memory: shared_memory(1 << 20) };
    world.switch_on();
    world.program(1);
    let state = |world: &World| (world.read(0, 8), world.read(2, 0));
    assert_eq!(state(&world), (u32::MAX, u32::MAX));
    let mut id = [0; 12];
    world.device.read_config(0, &mut id);
    assert_eq!(id[8], 0, "revision");
    world.say(0, None).unwrap();
    world.say(i64::from(OWN), None).unwrap();
    let own = world.connect(OWN, 2);
    assert_eq!(state(&world), (u32::MAX, u32::MAX), "the memory is still to come");
    world.ring(OWN, 0);
    assert_eq!(taken(&own[0]), 0, "E2: ignored");
    let memory = world.memory.try_clone().unwrap();
    world.say(-1, Some(memory.as_fd())).unwrap();
    assert_eq!(state(&world), (u32::from(OWN), 0));
    world.ring(OWN, 0);
    assert_eq!(world.messages(), [0x100]);

    let (server, client) = UnixStream::pair().unwrap();
    let mut other =
        IvshmemDevice::doorbell(client, options, &world.routes, world.vmm.clone(), None).unwrap();
    send_whole(&server, 0, None).unwrap();
    send_whole(&server, 0, None).unwrap();
    send_whole(&server, -1, Some(shared_memory(1 << 19).as_fd())).unwrap();
    assert!(matches!(other.serve(), Err(SessionError::Memory(_))), "another size than BAR2");
}

#[test]
fn e1_without_msix_status_and_mask_drive_the_line() {
    let mut world =
        World::new(DeviceOptions { interrupt: Interrupt::Pin, ..DeviceOptions::new(2) });
    let own = world.connect(OWN, 2);
    let mut config = [0; 64];
    world.device.read_config(0, &mut config);
    assert_eq!((config[0x3d], config[0x34]), (1, 0), "a pin, no capability");
    write(&own[1]);
    assert!(world.line().is_empty(), "masked");
    assert_eq!(world.read(0, 4), 1, "delivery sets Status");
    assert_eq!(world.read(0, 4), 0, "which reading clears");
    world.device.write_bar(0, 0, &u32::MAX.to_le_bytes());
    write(&own[0]);
    assert_eq!(world.line(), [true]);
    write(&own[0]);
    assert!(world.line().is_empty(), "it is a level");
    world.device.read_config(6, &mut config[..1]);
    assert_eq!(config[0] & 8, 8, "Interrupt Status");
    world.device.write_config(4, &[6, 4]);
    assert_eq!(world.line(), [false], "Interrupt Disable");
    world.device.write_config(4, &[6, 0]);
    assert_eq!(world.line(), [true]);
    assert_eq!((world.read(0, 4), world.line()), (1, vec![false]));
    world.device.write_bar(0, 4, &1_u32.to_le_bytes());
    world.device.write_bar(0, 0, &0_u32.to_le_bytes());
    assert_eq!(world.line(), [true, false]);
}

#[test]
fn an_access_that_crosses_the_capability_reaches_both_sides() {
    let mut world = World::new(DeviceOptions { width: Width::Qemu, ..DeviceOptions::new(2) });
    world.device.write_config(0x3c, &[0x55, 0, 0, 0, 0, 0, 0xff, 0x80]);
    let mut bytes = [0; 24];
    world.device.read_config(0x3c, &mut bytes);
    assert_eq!(bytes[..8], [0x55, 0, 0, 0, 0x11, 0, 1, 0x80]);
    world.device.write_config(0x4a, &[1, 2, 3, 4]);
    world.device.read_config(0x48, &mut bytes[..8]);
    assert_eq!(bytes[..8], [1, 8, 0, 0, 3, 4, 0, 0], "QEMU's scratch bytes behind it");
    world.device.write_config(usize::MAX, &[1; 4]);
    world.device.read_config(0xfe, &mut bytes[..4]);
    assert_eq!(bytes[..4], [0, 0, 0xff, 0xff]);
}

#[test]
fn around_table_and_pba_bar1_reads_all_ones_or_as_qemus() {
    for (width, nothing) in [(Width::Strict, u32::MAX), (Width::Qemu, 0)] {
        let world = World::new(DeviceOptions { width, ..DeviceOptions::new(2) });
        assert_eq!([world.read(1, 12), world.read(1, 0x800)], [1, 0], "masked, not pending");
        assert_eq!([32, 0x7fc, 0x808, 0xffc].map(|at| world.read(1, at)), [nothing; 4]);
        let mut whole = vec![1; 4096];
        world.device.read_bar(1, 0, &mut whole);
        assert_eq!(world.read(3, 0), 0, "no such BAR");
    }
}
