//! The emulated machines: QEMU without KVM.

use msix_peers::LoneServer;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What every machine has.
const COMMON: &str = "-display none -nodefaults -no-reboot -serial stdio -initrd initramfs \
                      -monitor unix:monitor,server=on,wait=off";
/// Longest life of a machine; a boot and its tests take a third of it when this one is busy.
const LIMIT: Duration = Duration::from_secs(300);
/// How long a machine may say nothing whose init says over and over that it is alive.
const SILENCE: Duration = Duration::from_secs(60);
/// What it says.
const ALIVE: &str = "VM-ALIVE";
/// XON, which a terminal takes for itself. The interrupt of the serial port has the emulated processor look at its
/// interrupt controller again: QEMU loses such a look now and then as a guest's guest ends (2026-11-27: twice in
/// six boots, the kernel was idle for good, waiting for its timer).
const POKE: &[u8] = b"\x11";
/// Vectors of the ivshmem device.
const VECTORS: u16 = 4;
/// Vectors of the nvme device: more than the kernel has for it.
const NVME_VECTORS: u16 = 512;

/// What a machine has besides a kernel and an initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardware {
    /// An IOMMU that remaps interrupts, an ivshmem device that raises its own MSI-X, nvme, and three
    /// devices with MSI and INTx too: edu, e1000e, and a USB controller with 16 vectors of either kind.
    Devices,
    /// A processor that can run a whole Linux as its guest, and nothing else. Of two, most boots on some hosts do
    /// not survive each other.
    Processor,
    /// Arm processors that can run guests, with this interrupt controller: a GICv3 with its ITS, with an SMMU,
    /// ivshmem and edu besides; or a GICv2 with frames that make SPIs of messages.
    Arm(Gic),
}

/// An Arm interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gic {
    V3WithIts,
    V2,
}

impl Hardware {
    /// The program that emulates it.
    pub(crate) const fn qemu(self) -> &'static str {
        match self {
            Self::Devices | Self::Processor => "qemu-system-x86_64",
            Self::Arm(_) => "qemu-system-aarch64",
        }
    }

    /// Debian's package of the program.
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Devices | Self::Processor => "qemu-system-x86",
            Self::Arm(_) => "qemu-system-arm",
        }
    }

    /// Debian's name of its processor.
    pub(crate) const fn processor(self) -> &'static str {
        match self {
            Self::Devices | Self::Processor => "amd64",
            Self::Arm(_) => "arm64",
        }
    }

    fn arguments(self) -> String {
        match self {
            Self::Devices => format!(
                "-accel tcg -machine q35,kernel-irqchip=split -cpu max -m 512 \
                 -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48 \
                 -chardev socket,path=ivshmem,id=iv \
                 -device ivshmem-doorbell,chardev=iv,vectors={VECTORS},addr=5 \
                 -drive if=none,id=d,driver=null-co,size=64M -device nvme,serial=1,drive=d,addr=4,msix_qsize={NVME_VECTORS} \
                 -device edu,addr=6 -device e1000e,addr=7 -device nec-usb-xhci,addr=8,msi=on"
            ),
            Self::Processor => "-accel tcg -machine q35 -cpu EPYC,+svm,+npt -m 640".to_owned(),
            // Pointer authentication as the architecture has it would cost half of the time.
            Self::Arm(Gic::V3WithIts) => format!(
                "-accel tcg,thread=multi -machine virt,virtualization=on,gic-version=3,its=on,iommu=smmuv3 \
                 -cpu max,pauth-impdef=on -smp 2 -m 512 -chardev socket,path=ivshmem,id=iv \
                 -device ivshmem-doorbell,chardev=iv,vectors={VECTORS},addr=5 -device edu,addr=6"
            ),
            Self::Arm(Gic::V2) => {
                "-accel tcg,thread=multi -machine virt,virtualization=on,gic-version=2 \
                 -cpu cortex-a72 -smp 2 -m 512"
                    .to_owned()
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            // An emulated timer is late on a busy machine, and the kernel would give up on it.
            Self::Devices => "console=ttyS0 no_timer_check intel_iommu=on",
            Self::Processor => "console=ttyS0 no_timer_check MSIX_VM_TOY_VMM=1",
            Self::Arm(Gic::V3WithIts) => "console=ttyAMA0",
            Self::Arm(Gic::V2) => "console=ttyAMA0 MSIX_VM_GICV2=1",
        }
    }
}

/// A running machine, which ends when this goes.
pub(crate) struct Machine {
    child: Child,
    begun: Instant,
    folder: TempDir,
    listener: UnixListener,
}

/// What a machine left behind.
pub(crate) struct Console {
    /// How it ended, when it did not end by itself and well.
    pub(crate) ended: Result<(), Fault>,
    /// What the guest wrote.
    pub(crate) text: String,
    /// What QEMU wrote.
    stderr: String,
    /// Where its processors were, if it had to be ended.
    processors: String,
}

/// How a machine ended that did not power itself off.
#[derive(Debug)]
pub(crate) enum Fault {
    Exit(ExitStatus),
    /// Its time was up.
    Late,
    /// Its kernel ran no programs any more.
    Silent,
}

impl Machine {
    /// Starts it with a kernel and an initramfs.
    pub(crate) fn start(hardware: Hardware, series: &str, kernel: &Path, initramfs: &[u8]) -> Self {
        let folder = tempfile::Builder::new().prefix("msix-vm-").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("initramfs"), initramfs).expect("the folder can be written");
        let listener = UnixListener::bind(path("ivshmem")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let output = |name: &str| File::create(path(name)).expect("the folder can be written");
        let filter = std::env::var("MSIX_VM_FILTER").unwrap_or_default();
        // What the kernel does not know it hands to the init, as its environment.
        let words = format!(
            "quiet panic=-1 {} MSIX_VM_KERNEL={series} \
             \"MSIX_VM_FILTER={filter}\"",
            hardware.words()
        );
        // Nobody would wait for it if this process was killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", hardware.qemu()])
            .args(COMMON.split_whitespace())
            .args(hardware.arguments().split_whitespace())
            .arg("-kernel")
            .arg(kernel)
            .args(["-append", &words])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(output("console"))
            .stderr(output("stderr"))
            .spawn()
            .expect("QEMU starts");
        Self { child, begun: Instant::now(), folder, listener }
    }

    /// Serves it until it ends, or its time is up.
    pub(crate) fn run(mut self) -> Console {
        let ended = self.ended();
        let processors = match ended {
            Err(Fault::Late | Fault::Silent) => self.processors().unwrap_or_else(|e| e.to_string()),
            Ok(()) | Err(Fault::Exit(_)) => String::new(),
        };
        let text = lines_of(&self.read("console"), |line| line != ALIVE);
        Console { ended, text, stderr: self.read("stderr"), processors }
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Asks QEMU twice where the processors are.
    fn processors(&self) -> std::io::Result<String> {
        let mut monitor = UnixStream::connect(self.folder.path().join("monitor"))?;
        monitor.set_read_timeout(Some(Duration::from_secs(2)))?;
        monitor.write_all(b"info registers -a\ninfo registers -a\n")?;
        let mut answer = Vec::new();
        // It ends by the timeout.
        let _ = monitor.read_to_end(&mut answer);
        // Without what the monitor's editor shows, and the registers for numbers.
        let of_no_use = ["\x1b", "FPR", "XMM", "YMM"];
        let of_use = |line: &str| !of_no_use.iter().any(|part| line.contains(part));
        Ok(lines_of(&String::from_utf8_lossy(&answer), of_use))
    }

    fn ended(&mut self) -> Result<(), Fault> {
        let mut server = None;
        let (mut said, mut heard) = (0, self.begun);
        loop {
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).expect("a socket");
                // A machine that goes now tells why when it is asked for its status.
                server = server.or_else(|| {
                    let mut server = LoneServer::serve(stream, self.folder.path()).ok()?;
                    server.connect(VECTORS).ok()?;
                    Some(server)
                });
            }
            let status: Option<ExitStatus> = self.child.try_wait().expect("QEMU is a child");
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Fault::Exit(status)),
                None if self.begun.elapsed() > LIMIT => return Err(Fault::Late),
                None if heard.elapsed() > SILENCE && self.read("console").contains(ALIVE) => {
                    return Err(Fault::Silent);
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
            if let Some(stdin) = &mut self.child.stdin {
                // One that ends now needs none; and in its time fewer are written than a pipe takes unread.
                let _ = stdin.write_all(POKE);
            }
            let length =
                fs::metadata(self.folder.path().join("console")).map_or(0, |file| file.len());
            if length > said {
                (said, heard) = (length, Instant::now());
            }
        }
    }
}

fn lines_of(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| wanted(line)).fold(String::new(), |text, line| text + line + "\n")
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has mostly ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- the guest's console:\n{}", self.text.trim_end())?;
        writeln!(f, "--- QEMU:\n{}\n{}", self.stderr.trim_end(), self.processors)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "QEMU ended with {status}"),
            Self::Late => write!(f, "no end in {} s", LIMIT.as_secs()),
            Self::Silent => write!(f, "no program ran for {} s", SILENCE.as_secs()),
        }
    }
}
