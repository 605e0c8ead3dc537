//! QEMU's ivshmem-doorbell device and ours as peers, on our server.

#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_ivshmem::{Server, ServerOptions};
use msix_peers::QemuClient;
use msix_sim::qtest::{DeviceKind, Front, MachineKind, SeatedDevice, run};
use msix_sim::replay::Peer;
use msix_tests::peers::skipped;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BASE: u32 = 0xe000_0000;
const MEMORY: u64 = 0xe080_0000;
/// Where vector 1 of everybody sends its message.
const MESSAGE: u64 = 0x20_0000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the process, also when the test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the server's and the front's threads, also when the test fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes a connection, not for ever.
fn accepted(listener: &UnixListener) -> QemuClient {
    listener.set_nonblocking(true).expect("a listener");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a stream");
                return QemuClient::new(stream).expect("a stream with a time limit");
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody connects: {error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Places the BARs of the device in slot 4, and makes vector 1 send `data`; its id.
fn set_up(machine: &mut QemuClient, data: u32) -> u64 {
    let mut config = |register: u32, line: &str| {
        machine.command(&format!("outl 0xcf8 {:#x}", 0x8000_2000 | register)).expect("a port");
        machine.command(line).expect("a port");
    };
    config(0x10, &format!("outl 0xcfc {BASE:#x}"));
    config(0x14, &format!("outl 0xcfc {:#x}", BASE + 0x10_0000));
    config(0x18, &format!("outl 0xcfc {MEMORY:#x}"));
    config(0x04, "outw 0xcfc 6");
    config(0x40, "outb 0xcff 0x80");
    let entry = BASE + 0x10_0000 + 16;
    for (field, value) in [(0, MESSAGE as u32), (4, 0), (8, data), (12, 0)] {
        machine.command(&format!("writel {:#x} {value:#x}", entry + field)).expect("BAR1");
    }
    machine.number(&format!("readl {:#x}", BASE + 8)).expect("IVPosition")
}

/// Rings from one machine until the message of the other is there, which then forgets it. The first
/// ring may come before its machine has heard of the peer.
fn ring(from: &mut QemuClient, ring: u32, to: &mut QemuClient, data: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        from.command(&format!("writel {:#x} {ring:#x}", BASE + 12)).expect("BAR0");
        let word = to.number(&format!("readl {MESSAGE:#x}")).expect("memory");
        if word == data {
            break;
        }
        assert!(Instant::now() < deadline, "{word:#x} instead of {data:#x}");
        std::thread::sleep(Duration::from_millis(1));
    }
    to.command(&format!("writel {MESSAGE:#x} 0")).expect("RAM");
}

fn qemu(folder: &Path) -> Process {
    let path = |name: &str| folder.join(name).display().to_string();
    let line = format!(
        "-accel tcg -S -machine q35 -m 64 -nodefaults -display none -qtest-log none -chardev \
         socket,path={},id=iv -device ivshmem-doorbell,chardev=iv,vectors=3,addr=4 -qtest unix:{}",
        path("server"),
        path("qtest")
    );
    let mut command = Command::new("qemu-system-x86_64");
    Process(command.args(line.split(' ')).stdin(Stdio::null()).spawn().expect("QEMU starts"))
}

#[test]
fn qemus_device_and_ours_ring_each_other_on_our_server() {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        let remedy = "apt-get install qemu-system-x86";
        skipped("QEMU's ivshmem device as a peer", "qemu-system-x86_64", remedy);
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("server");
    let stop = Stop(Arc::default());
    let options = ServerOptions::new(2, 1 << 20);
    let mut server = Server::bind(&socket, options).expect("a server");
    let stopped = Arc::clone(&stop.0);
    std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            server.turn(Some(Duration::from_millis(10))).expect("the server works");
        }
    });
    let listen = |name: &str| UnixListener::bind(folder.path().join(name)).expect("a socket");
    let (theirs, ours) = (listen("qtest"), listen("front"));
    let process = qemu(folder.path());
    let mut theirs = accepted(&theirs);
    // More vectors than the server gives; QEMU has 3.
    let kind = DeviceKind::Doorbell { server: socket, vectors: 4 };
    let front = Front {
        qtest: folder.path().join("front"),
        qmp: Vec::new(),
        machine: MachineKind::Q35,
        memory: 64 << 20,
        devices: vec![SeatedDevice { slot: 4, kind }],
        policy: Peer::Spec,
        stopped: true,
        log: None,
        trace: None,
    };
    let stopped = Arc::clone(&stop.0);
    let thread = std::thread::spawn(move || run(&front, &stopped));
    let mut ours = accepted(&ours);

    let ids = [set_up(&mut theirs, 0x7e1), set_up(&mut ours, 0x0a5)];
    assert_eq!(ids, [0, 1]);
    theirs.command(&format!("writel {MEMORY:#x} 0x1234")).expect("BAR2");
    assert_eq!(ours.number(&format!("readl {MEMORY:#x}")).expect("BAR2"), 0x1234, "shared");
    // A vector that the server gave nobody: QEMU must not be asked to ring what it does not know.
    ours.command(&format!("writel {:#x} 2", BASE + 12)).expect("BAR0");
    for _ in 0..20 {
        ring(&mut theirs, 0x1_0001, &mut ours, 0x0a5);
        ring(&mut ours, 0x1, &mut theirs, 0x7e1);
    }
    // QEMU goes: ringing it reaches nobody, and nothing breaks.
    drop(process);
    for _ in 0..20 {
        ours.command(&format!("writel {:#x} 1", BASE + 12)).expect("BAR0");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(ours);
    thread.join().expect("no panic").expect("it ends with its harness");
}
