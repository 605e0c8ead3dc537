//! Clients that come and go leave nothing behind. The only test of its process: it counts descriptors.

#![cfg(feature = "kvm")]

use msix_backends::kvm::Routes;
use msix_ivshmem::{Board, DeviceOptions, IvshmemDevice, Server, ServerOptions, routes_without_vm};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
struct Vmm;

impl Board for Vmm {
    fn write_memory(&self, _: u64, _: u32) {}
    fn set_intx(&self, _: bool) {}
}

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_clients_that_come_and_go_leave_no_descriptor_open() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("server");
    let mut server = Server::bind(&socket, ServerOptions::new(4, 1 << 16)).unwrap();
    let routes = routes_without_vm(Vmm).unwrap();
    let come = |server: &mut Server, routes: &Arc<Routes>| {
        let stream = UnixStream::connect(&socket).unwrap();
        server.turn(Some(Duration::from_secs(10))).unwrap();
        IvshmemDevice::doorbell(stream, DeviceOptions::new(3), routes, Vmm, None).unwrap()
    };
    let settle = |server: &mut Server| server.turn(Some(Duration::ZERO)).unwrap();

    let mut stayer = come(&mut server, &routes);
    stayer.serve().unwrap();
    let before = open();
    for cycle in 0..1000 {
        let mut device = come(&mut server, &routes);
        let id = device.id().unwrap();
        let since = Instant::now();
        while (device.connected(0), device.connected(id), stayer.connected(id)) != (3, 3, 3) {
            settle(&mut server);
            device.serve().unwrap();
            stayer.serve().unwrap();
            assert!(since.elapsed() < Duration::from_secs(20), "they do not meet");
        }
        // Half of them with MSI-X in full swing, some of them before they have read anything.
        if cycle % 2 == 0 {
            device.write_config(0x10, &0xe000_0000_u32.to_le_bytes());
            device.write_config(4, &[6, 0]);
            device.write_config(0x42, &[0, 0x80]);
            device.write_bar(1, 12, &[0; 4]);
            device.write_bar(0, 12, &(u32::from(id) << 16).to_le_bytes());
            routes.run(Some(Duration::ZERO)).unwrap();
        }
        drop(device);
        if cycle % 3 == 0 {
            drop(UnixStream::connect(&socket).unwrap());
            settle(&mut server);
        }
        // The server hears of it, tells the others, and they forget.
        let since = Instant::now();
        while server.clients() > 1 {
            server.turn(Some(Duration::from_secs(1))).unwrap();
            assert!(since.elapsed() < Duration::from_secs(20), "{} clients", server.clients());
        }
        settle(&mut server);
        stayer.serve().unwrap();
        assert_eq!(stayer.connected(id), 0);
        assert_eq!(open(), before, "cycle {cycle}");
    }
    assert_eq!(stayer.id(), Some(0));
}
