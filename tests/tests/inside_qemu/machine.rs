//! A machine with disks and a network of several vectors, which can move to another QEMU.

use crate::figures::Figures;
use msix_peers::QemuClient;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for any one thing: a boot takes a tenth of it on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of a disk: more than the guest writes.
const DISK: u64 = 16 << 20;
/// Longest stop of the guest that a migration aims at, in milliseconds.
const DOWNTIME: u32 = 1000;

/// What a guest runs.
pub(crate) struct Software {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: Vec<u8>,
}

/// The disks of a guest, which stay when it moves, and a place for the sockets.
pub(crate) struct Disks {
    names: Vec<&'static str>,
    folder: TempDir,
}

impl Disks {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("msix-qemu-").tempdir().expect("a folder");
        for name in names {
            let file = File::create(folder.path().join(name)).expect("the folder can be written");
            file.set_len(DISK).expect("the folder can be written");
        }
        Self { names: names.to_vec(), folder }
    }

    /// Their names in the guest.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }
}

/// A QEMU with the guest on it. It ends with this.
pub(crate) struct Machine {
    child: Child,
    qmp: QemuClient,
    /// What the guest wrote on the QEMUs before this one.
    before: String,
    console: PathBuf,
    stderr: PathBuf,
    /// Its number among those of the same disks.
    number: u32,
}

impl Machine {
    /// Starts a guest, or a QEMU that waits for one that moves there.
    pub(crate) fn start(
        qemu: &Path,
        disks: &Disks,
        software: &Software,
        moved: Option<(u32, String)>,
    ) -> Self {
        let folder = disks.folder.path();
        let incoming = moved.is_some();
        let (number, before) = moved.unwrap_or_default();
        let path = |name: &str| folder.join(format!("{name}{number}"));
        fs::write(folder.join("initramfs"), &software.initramfs)
            .expect("the folder can be written");
        let listener = UnixListener::bind(path("qmp")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let output = |name: &str| File::create(path(name)).expect("the folder can be written");
        let mut line = format!(
            "-accel tcg -machine q35 -cpu max -smp 2 -m 256 -display none -nodefaults -no-reboot \
             -chardev stdio,id=console,signal=off -serial chardev:console -qmp unix:qmp{number} \
             -netdev hubport,id=n0,hubid=0 -netdev hubport,id=n1,hubid=0 \
             -device virtio-net-pci,netdev=n0,addr=4 -device e1000e,netdev=n1,addr=5 \
             -device qemu-xhci,id=usb,addr=6 -initrd initramfs"
        );
        for disk in &disks.names {
            let device = match *disk {
                "vda" => "virtio-blk-pci,addr=7,drive=vda",
                "sda" => "usb-storage,bus=usb.0,drive=sda",
                _ => "nvme,addr=8,serial=1,drive=nvme0n1",
            };
            line += &format!(" -drive if=none,id={disk},file={disk},format=raw -device {device}");
        }
        if incoming {
            line += " -incoming defer";
        }
        // An emulated timer is late on a busy machine, and the kernel would give up on it.
        let words = format!(
            "console=ttyS0 no_timer_check quiet panic=-1 MSIX_VM_KERNEL=6.1 MSIX_VM_LOAD={}",
            disks.names.join(",")
        );
        // Nobody would wait for it if this process was killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(qemu)
            .args(line.split_whitespace())
            .arg("-kernel")
            .arg(&software.kernel)
            .args(["-append", &words])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output("console"))
            .stderr(output("stderr"))
            .spawn()
            .expect("setpriv starts");
        let mut child = EndOnPanic(Some(child));
        let stream = within("QEMU to connect", || match child.0.as_mut()?.try_wait() {
            Ok(None) => listener.accept().ok(),
            ended => {
                let said = fs::read_to_string(path("stderr")).unwrap_or_default();
                panic!("{} ended: {ended:?}: {said}", qemu.display());
            }
        });
        stream.0.set_nonblocking(false).expect("a socket");
        let mut qmp = QemuClient::new(stream.0).expect("a socket");
        qmp.qmp_message("(greeting)").expect("QEMU greets");
        let child = child.0.take().expect("it was not taken");
        let (console, stderr) = (path("console"), path("stderr"));
        let mut machine = Self { child, qmp, before, console, stderr, number };
        machine.command("qmp_capabilities", &json!({}));
        machine
    }

    /// Moves the guest to another QEMU while it works, and ends this one.
    pub(crate) fn migrate(mut self, qemu: &Path, disks: &Disks, software: &Software) -> Self {
        let moved = Some((self.number + 1, String::new()));
        let mut next = Self::start(qemu, disks, software, moved);
        let uri = format!("unix:moves{}", next.number);
        next.command("migrate-incoming", &json!({"uri": uri}));
        let wishes = json!({"max-bandwidth": u64::from(u32::MAX), "downtime-limit": DOWNTIME});
        self.command("migrate-set-parameters", &wishes);
        self.command("migrate", &json!({"uri": uri}));
        within("the end of a migration", || {
            let state = self.command("query-migrate", &json!({}));
            match state["status"].as_str() {
                Some("completed") => Some(()),
                Some("failed" | "cancelled") => panic!("{state}\n{}{}", self.said(), next.said()),
                _ => None,
            }
        });
        next.before = self.text();
        drop(self);
        within("the guest to go on", || {
            (next.command("query-status", &json!({}))["status"] == "running").then_some(())
        });
        let before = Figures::last(&next.before).expect("it had worked");
        next.await_progress(&before);
        next
    }

    /// Waits until everything in the guest went on since then.
    pub(crate) fn await_progress(&mut self, before: &Figures) {
        within_or(
            "progress",
            || self.said(),
            || {
                let text = self.text();
                assert!(!text.contains("VM-DONE"), "the guest ended:\n{text}");
                Figures::last(&text).filter(|now| now.all_beyond(before)).map(|_| ())
            },
        );
    }

    /// Has the guest stop its load and say what came of it. Returns all that it wrote.
    pub(crate) fn finish(mut self) -> String {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(b"stop\n").expect("QEMU reads");
        within_or(
            "the guest's end",
            || self.said(),
            || self.text().contains("VM-DONE").then_some(()),
        );
        let text = self.text();
        text.lines()
            .filter(|line| !line.contains("VM-PROGRESS"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// All that the guest wrote so far, on this QEMU and the ones before.
    fn text(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        format!("{}{}", self.before, String::from_utf8_lossy(&bytes)).replace('\r', "")
    }

    /// What there is to say about a failure.
    fn said(&self) -> String {
        let stderr = fs::read_to_string(&self.stderr).unwrap_or_default();
        format!("--- the guest's console:\n{}\n--- QEMU:\n{stderr}", self.text())
    }

    fn command(&mut self, name: &str, arguments: &Value) -> Value {
        let command = json!({"execute": name, "arguments": arguments});
        let answer = self.qmp.qmp(&command, |_| {});
        answer.unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.said()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A child that is not a machine yet.
struct EndOnPanic(Option<Child>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = (child.kill(), child.wait());
}

fn within<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within_or(what, String::new, look)
}

/// Waits until `look` finds something; `said` is for the message when it does not.
fn within_or<T>(what: &str, said: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "no {what} in {} s\n{}", PATIENCE.as_secs(), said());
        std::thread::sleep(Duration::from_millis(20));
    }
}
