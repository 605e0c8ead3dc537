//! A machine that was started: a QEMU as a process, or a program of this process in a thread.

use super::error::QemuError;
use super::machine::{Extras, MEMORY_MIB, Player, Setup, Sockets, slot};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::JoinHandle;

/// One that was started. It ends with this.
#[derive(Debug)]
pub(super) enum Running {
    Process { child: Child, stderr: PathBuf },
    Thread { thread: Option<JoinHandle<Result<(), String>>>, stop: Arc<AtomicBool> },
}

impl Running {
    pub(super) fn start(setup: &Setup, extras: &Extras, folder: &Path) -> Result<Self, QemuError> {
        match &setup.player {
            Player::Qemu(program) => {
                let path = folder.join("stderr");
                let stderr =
                    std::fs::File::create(&path).map_err(QemuError::system("temporary file"))?;
                let child = Command::new(program)
                    .args(arguments(setup, extras, folder))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(stderr)
                    .spawn();
                let failed =
                    |source| QemuError::Start { program: program.display().to_string(), source };
                Ok(Self::Process { child: child.map_err(failed)?, stderr: path })
            }
            Player::StandIn(program) => {
                let sockets = sockets(setup, extras, folder)?;
                let stop = Arc::new(AtomicBool::new(false));
                let (program, stopped) = (Arc::clone(program), Arc::clone(&stop));
                let thread = std::thread::spawn(move || program.play(&sockets, &stopped));
                Ok(Self::Thread { thread: Some(thread), stop })
            }
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<QemuError> {
        match self {
            Self::Process { child, stderr } => {
                let status = child.try_wait().map_err(QemuError::system("QEMU's status"));
                match status {
                    Ok(status) => status.map(|status| QemuError::Ended {
                        status: status.to_string(),
                        stderr: end_of(stderr),
                    }),
                    Err(error) => Some(error),
                }
            }
            Self::Thread { thread, .. } => {
                let thread = thread.take_if(|thread| thread.is_finished())?;
                let (status, stderr) = match thread.join() {
                    Ok(Ok(())) => ("exit status: 0", String::new()),
                    Ok(Err(error)) => ("exit status: 2", error),
                    Err(_) => ("panic", String::new()), // its message was printed
                };
                Some(QemuError::Ended { status: status.to_owned(), stderr })
            }
        }
    }

    /// Ends it; there is nothing to do about a failure here.
    pub(super) fn end(&mut self) {
        match self {
            Self::Process { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Thread { thread, stop } => {
                stop.store(true, Ordering::Relaxed);
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a program that takes QEMU's place is given: it has one device and begins afresh.
fn sockets(setup: &Setup, extras: &Extras, folder: &Path) -> Result<Sockets, QemuError> {
    let refused = |what: &str| QemuError::Device(format!("what takes QEMU's place {what}"));
    let &[vectors] = setup.vectors.as_slice() else { return Err(refused("has one device")) };
    if setup.incoming.is_some() {
        return Err(refused("does not begin from a migration stream"));
    }
    let vectors = match extras.told_vectors.map_or(Ok(vectors), u16::try_from) {
        Ok(vectors) => vectors,
        // As QEMU does, which takes no such number.
        Err(error) => {
            let (status, stderr) = ("exit status: 2".to_owned(), error.to_string());
            return Err(QemuError::Ended { status, stderr });
        }
    };
    Ok(Sockets {
        qtest: folder.join("qtest"),
        qmp: folder.join("qmp"),
        ivshmem: folder.join("iv0"),
        vectors,
        slot: slot(0),
        trace: extras.trace.clone(),
    })
}

fn arguments(setup: &Setup, extras: &Extras, folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut line = String::from("-accel tcg -S -machine q35 -nodefaults -display none");
    // Writing to a String does not fail.
    let _ = write!(line, " -m {MEMORY_MIB} -qtest-log none");
    let mut arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for (index, vectors) in setup.vectors.iter().enumerate() {
        let socket = path(&format!("iv{index}"));
        arguments.extend(["-chardev".to_owned(), format!("socket,path={socket},id=iv{index}")]);
        let slot = slot(index);
        let vectors = extras.told_vectors.unwrap_or_else(|| u32::from(*vectors));
        let device = format!(
            "ivshmem-doorbell,chardev=iv{index},vectors={vectors},master=on,addr={slot:#x}"
        );
        arguments.extend(["-device".to_owned(), device]);
    }
    arguments.extend(["-qtest".to_owned(), format!("unix:{}", path("qtest"))]);
    arguments.extend(["-qmp".to_owned(), format!("unix:{}", path("qmp"))]);
    if let Some(stream) = &setup.incoming {
        arguments.extend(["-incoming".to_owned(), format!("exec:cat {}", stream.display())]);
    }
    if let Some(trace) = &extras.trace {
        let trace = trace.display().to_string();
        arguments.extend(["-trace", "memory_region_ops_write", "-D", &trace].map(str::to_owned));
    }
    arguments.extend(extras.arguments.iter().cloned());
    arguments
}

/// The end of what QEMU wrote about its troubles.
fn end_of(stderr: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(stderr) {
        // Text that cannot be read is left out of the message.
        let _ = file.take(4096).read_to_string(&mut text);
    }
    text.trim().to_owned()
}
