//! The program while it runs: signals to it, what it needs, how it ends.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program in a process group of its own. It is killed with this.
pub(crate) struct Process {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    memory: Option<JoinHandle<Memory>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Most memory it had, KiB, if it ran long enough to be seen.
    pub(crate) peak: u64,
    /// The same without the pages of its file, of which the kernel maps more or fewer at once.
    pub(crate) own_peak: u64,
}

/// KiB.
#[derive(Default)]
struct Memory {
    peak: u64,
    of_files: u64,
}

impl Process {
    pub(crate) fn msix(arguments: &[&str]) -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_msix")).args(arguments))
    }

    /// The program where no file may grow beyond 64 MiB, as on a full disk.
    pub(crate) fn with_small_files(arguments: &[&str]) -> Self {
        let script = "trap '' XFSZ; ulimit -f 131072; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_msix")]).args(arguments);
        Self::start(&mut command)
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let stdout = child.stdout.take().map(reader);
        let stderr = child.stderr.take().map(reader);
        let status = format!("/proc/{}/status", child.id());
        let memory = std::thread::spawn(move || {
            let mut last = Memory::default();
            // A process that has ended has no memory to report.
            while let Some(now) = std::fs::read_to_string(&status).ok().as_deref().and_then(memory)
            {
                last = now;
                std::thread::sleep(Duration::from_millis(2));
            }
            last
        });
        Self { child, stdout, stderr, memory: Some(memory) }
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// As Ctrl-C at a terminal does it: the whole process group is interrupted.
    pub(crate) fn interrupt_group(&self) {
        kill_process_group(self.id(), Signal::INT).unwrap();
    }

    pub(crate) fn ended(mut self) -> Ended {
        let ended = until("it ends", || self.child.try_wait().unwrap());
        let text = |reader: Option<JoinHandle<String>>| reader.unwrap().join().unwrap();
        let memory = self.memory.take().unwrap().join().unwrap();
        Ended {
            status: ended.code(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            peak: memory.peak,
            own_peak: memory.peak.saturating_sub(memory.of_files),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it leaves when it ends by itself is for a test to find.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(self.id(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn memory(status: &str) -> Option<Memory> {
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Memory { peak: number("VmHWM:")?, of_files: number("RssFile:")? })
}

fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

/// Waits for something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes in whose command line `word` occurs.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let texts = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    texts.filter(|line| line.contains(word)).collect()
}
