//! `msix ivshmem-server` and `msix qtest` as programs.

#![cfg(feature = "kvm")]

use msix_peers::QemuClient;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Ends the process, also when the test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msix"));
        let started = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(started.unwrap())
    }

    /// With soft and hard limits of its descriptors.
    fn start_limited(soft: u32, hard: u32, arguments: &[&str]) -> Self {
        let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_msix")]).args(arguments);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// How it ended; it is given a while for that.
    fn ended(&mut self) -> (bool, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut stderr = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.success(), stderr)
    }

    fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }
}

/// A server on `socket` that listens by now.
fn server(socket: &Path) -> Process {
    let path = socket.to_str().unwrap();
    let arguments = ["ivshmem-server", "--socket", path, "--vectors", "2", "--size", "1048576"];
    let mut server = Process::start(&arguments);
    assert_eq!(said(&mut server), format!("listening on {path}"));
    server
}

/// The first line of a program.
fn said(program: &mut Process) -> String {
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn refused(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_msix")).args(arguments).output().unwrap()
}

#[test]
fn a_harness_drives_the_front_on_the_server_and_ends_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut server = server(&path("server"));
    let [qtest, qmp] = ["qtest", "qmp"].map(|name| UnixListener::bind(path(name)).unwrap());
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let line = format!(
        "qtest --policy spec -S -machine q35 -nodefaults -display none -m 64 -chardev \
         socket,id=iv,path={} -device ivshmem-doorbell,chardev=iv,vectors=2,addr=7 -qtest unix:{} \
         -chardev socket,path={},id=mon -mon chardev=mon,mode=control -trace \
         memory_region_ops_write -D {} -qtest-log {}",
        text("server"),
        text("qtest"),
        text("qmp"),
        text("trace"),
        text("log"),
    );
    let mut front = Process::start(&line.split(' ').collect::<Vec<_>>());
    let mut machine = QemuClient::new(qtest.accept().unwrap().0).unwrap();
    let mut monitor = QemuClient::new(qmp.accept().unwrap().0).unwrap();
    assert!(monitor.qmp_message("greeting").unwrap()["QMP"]["version"]["qemu"].is_object());
    machine.command("outl 0xcf8 0x80003800").unwrap(); // slot 7
    assert_eq!(machine.number("inl 0xcfc").unwrap(), 0x1110_1af4);
    assert!(machine.command("readz 0").is_err(), "FAIL");
    monitor.qmp(&json!({"execute": "qmp_capabilities"}), |_| {}).unwrap();
    let status = monitor.qmp(&json!({"execute": "query-status"}), |_| {}).unwrap();
    assert_eq!(status["running"], false);
    // Its own doorbell, through the server's eventfd, to a message in RAM and in the trace.
    for line in [
        "outl 0xcf8 0x80003810",
        "outl 0xcfc 0xe0000000",
        "outl 0xcf8 0x80003814",
        "outl 0xcfc 0xe0100000",
        "outl 0xcf8 0x80003804",
        "outw 0xcfc 6",
        "outl 0xcf8 0x80003840",
        "outw 0xcfe 0x8000",
        "writeq 0xe0100000 0x200000",
        "writeq 0xe0100008 0x55",
        "writel 0xe000000c 0",
    ] {
        machine.command(line).unwrap();
    }
    assert_eq!(machine.number("readl 0x200000").unwrap(), 0x55);
    let trace = std::fs::read_to_string(path("trace")).unwrap();
    let message = "addr 0x200000 value 0x55 size 4 name 'apic-msi'\n";
    assert!(trace.ends_with(message) && trace.lines().count() == 1, "{trace}");
    let log = std::fs::read_to_string(path("log")).unwrap();
    let logged: Vec<&str> = log.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    assert_eq!(logged[..4], ["outl 0xcf8 0x80003800", "OK", "inl 0xcfc", "OK 0x11101af4"]);

    monitor.qmp(&json!({"execute": "quit"}), |_| {}).unwrap();
    assert_eq!(front.ended(), (true, String::new()));
    server.terminate();
    assert_eq!(server.ended(), (true, String::new()));
    assert!(!path("server").exists(), "the socket goes with the server");
}

#[test]
fn a_server_whose_clients_do_not_fit_raises_its_limit_or_says_so_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server").to_str().unwrap().to_owned();
    let arguments = ["ivshmem-server", "--socket", &path, "--vectors", "2048", "--size", "1048576"];
    let (ended, stderr) = Process::start_limited(512, 1024, &arguments).ended();
    let reason = "a client with 2048 vectors takes 2049 descriptors; of the 1024 that this process";
    assert!(!ended && stderr.contains(reason), "{stderr}");
    assert!(!Path::new(&path).exists());

    let mut server = Process::start_limited(512, 4096, &arguments);
    assert_eq!(said(&mut server), format!("listening on {path}"));
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut greeting = [1; 16];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, [0; 16], "version 0, id 0");
}

#[test]
fn a_server_that_was_killed_can_be_started_again_and_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    drop(server(&path));
    assert!(path.exists());
    let _server = server(&path);
    let path = path.to_str().unwrap();
    let again = refused(&["ivshmem-server", "--socket", path, "--vectors", "1", "--size", "4096"]);
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert_eq!(stderr, format!("error: {path}: a server listens there already\n"));
}

#[test]
fn a_front_ends_with_its_harness_or_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let _server = server(&path("server"));
    for by_signal in [false, true] {
        let _ = std::fs::remove_file(path("qtest"));
        let listener = UnixListener::bind(path("qtest")).unwrap();
        let [socket, iv] = ["qtest", "server"].map(|name| path(name).to_str().unwrap().to_owned());
        let (qtest, chardev) = (format!("unix:{socket}"), format!("socket,id=iv,path={iv}"));
        let device = ["-chardev", &chardev, "-device", "ivshmem-doorbell,chardev=iv"];
        let mut front = Process::start(&[&["qtest", "-qtest", &qtest], &device[..]].concat());
        let mut machine = QemuClient::new(listener.accept().unwrap().0).unwrap();
        machine.command("endianness").unwrap();
        if by_signal {
            front.terminate();
        } else {
            drop(machine);
        }
        assert_eq!(front.ended(), (true, String::new()));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let nowhere = "/nonexistent/socket";
    let socket = ["--socket", nowhere];
    for (arguments, reason) in [
        (vec!["ivshmem-server", "--vectors", "0", "--size", "4096"], "not in 1..=2048"),
        (vec!["ivshmem-server", "--vectors", "1", "--size", "5000"], "5000 bytes of shared memory"),
        (
            vec!["ivshmem-server", "--vectors", "1", "--size", "140737488355328"],
            "a power of two, from 16 to 2^46",
        ),
        (vec!["ivshmem-server", "--vectors", "1", "--size", "-1"], "unexpected argument"),
        (vec!["ivshmem-server", "--vectors", "1", "--size", "4096"], nowhere),
    ] {
        let output = refused(&[&arguments[..], &socket].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}

#[test]
fn what_the_front_cannot_be_is_refused_by_the_name_of_the_option() {
    let device = "ivshmem-doorbell,chardev=iv,vectors=3";
    let too_many = "ivshmem-doorbell,chardev=iv,vectors=2049";
    for (more, reason) in [
        (&["-device", device][..], "/nonexistent/iv"),
        (&["-device", too_many], "-device: vectors=2049: a number from 1 to 2048 expected"),
        (&["-smp", "2"], "-smp: this option of QEMU is not supported here"),
        (&["-device", "nvme,serial=1"], "-device: driver=nvme: ivshmem-doorbell or ivshmem-plain"),
    ] {
        let chardev = ["-chardev", "socket,id=iv,path=/nonexistent/iv"];
        let qtest = ["qtest", "-qtest", "unix:/nonexistent/qtest"];
        let output = refused(&[&qtest[..], &chardev, more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {stderr}");
        assert!(stderr.contains(reason), "{more:?}: {stderr}");
    }
}
