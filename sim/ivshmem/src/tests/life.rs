//! Reset, snapshots, and a server that goes.

use super::*;
use crate::{DeviceLoadError, DeviceSaveError};

#[test]
fn only_the_master_migrates() {
    let mut world = World::with_id(DeviceOptions::new(2), 0);
    let own = world.connect(0, 2);
    world.program(2);
    world.mask(1, true);
    write(&own[1]);
    world.device.write_bar(0, 0, &7_u32.to_le_bytes());
    world.device.write_bar(0, 4, &8_u32.to_le_bytes());
    let saved = world.device.save().unwrap();

    let mut other = World::with_id(DeviceOptions::new(2), 0);
    other.device.reset();
    other.connect(0, 2);
    other.device.load(&saved).unwrap();
    assert!(other.messages().is_empty());
    other.device.resume();
    assert_eq!([0, 8, 4].map(|at| other.read(0, at)), [7, 0, 8]);
    assert_eq!(other.read(1, 0x800), 0b10, "C42: what the eventfd held is in it");
    other.ring(0, 0);
    assert_eq!(other.messages(), [0x100]);
    other.mask(1, false);
    assert_eq!(other.messages(), [0x101]);

    let mut peer = World::new(DeviceOptions::new(2));
    assert_eq!(peer.device.save().unwrap_err(), DeviceSaveError::Peer);
    assert!(matches!(peer.device.load(&saved), Err(DeviceLoadError::Peer(_))));
    let master = World::new(DeviceOptions { master: Some(true), ..DeviceOptions::new(2) });
    assert!(master.device.save().is_ok());
    let slave = World::with_id(DeviceOptions { master: Some(false), ..DeviceOptions::new(2) }, 0);
    assert!(slave.device.save().is_err());
}

#[test]
fn a_snapshot_that_does_not_fit_changes_nothing() {
    let good = World::with_id(DeviceOptions::new(2), 0).device.save().unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let pin = DeviceOptions { interrupt: Interrupt::Pin, ..DeviceOptions::new(2) };
    let other = World::with_id(pin, 0).device.save().unwrap();
    let three = World::with_id(DeviceOptions::new(3), 0).device.save().unwrap();
    let mut world = World::with_id(DeviceOptions::new(2), 0);
    world.program(1);
    let before = world.device.save().unwrap();
    let mut bad = vec![other, three, Vec::new(), b"{}".to_vec()];
    bad.extend((0..good.len()).step_by(7).map(|len| good[..len].to_vec()));
    bad.push(text.replace("\"ivshmem\":2", "\"ivshmem\":1").into_bytes());
    bad.push(text.replace("\"ivshmem\":2", "\"ivshmem\":2,\"more\":1").into_bytes());
    bad.push(text.replace("[244,26", "[244,27").into_bytes());
    bad.push(text.replace("[244,26", "[244").into_bytes());
    for bytes in bad {
        let error = world.device.load(&bytes).expect_err("it does not fit");
        assert!(!error.to_string().is_empty());
        assert_eq!(world.device.save().unwrap(), before, "{error}");
    }
    world.device.load(&good).unwrap();
}

#[test]
fn a_server_that_goes_leaves_the_peers_connected() {
    let mut world = World::new(DeviceOptions::new(1));
    let theirs = world.connect(7, 1);
    assert!(world.device.server().is_some());
    world.server.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(world.device.serve(), Err(SessionError::Receive(_))));
    assert!(world.device.serve().is_ok(), "told once");
    assert!(world.device.server().is_none());
    world.ring(7, 0);
    assert_eq!(taken(&theirs[0]), 1);
}

#[test]
fn a_reset_is_what_power_on_is() {
    let mut world = World::new(DeviceOptions::new(2));
    let fresh = |world: &World| {
        let (mut config, mut table) = ([0; 256], [0; 4096]);
        world.device.read_config(0, &mut config);
        world.device.read_bar(1, 0, &mut table[..32]);
        (config.to_vec(), table.to_vec(), [0, 8].map(|at| world.read(0, at)))
    };
    let mut untouched = World::new(DeviceOptions::new(2));
    untouched.device.reset();
    world.program(2);
    world.device.write_bar(0, 0, &[0xff; 4]);
    world.device.write_config(0x3c, &[9]);
    world.device.reset();
    assert_eq!(fresh(&world), fresh(&untouched));
    assert_eq!(world.device.decode(REGISTERS), None);
}
