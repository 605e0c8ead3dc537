//! A machine that was started: a QEMU as a process, or a program of this process in a thread.

use super::error::QemuError;
use super::machine::{Extras, MEMORY_MIB, Player, Setup, Sockets, slot};
use super::tied_child::{self, NOT_STARTED, TiedChild};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf, absolute};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::JoinHandle;

/// One that was started. It ends with this.
#[derive(Debug)]
pub(super) enum Running {
    Process { program: PathBuf, child: TiedChild, stderr: PathBuf },
    Thread { thread: Option<JoinHandle<Result<(), String>>>, stop: Arc<AtomicBool> },
}

impl Running {
    pub(super) fn start(setup: &Setup, extras: &Extras, folder: &Path) -> Result<Self, QemuError> {
        match &setup.player {
            Player::Qemu(program) => {
                let path = folder.join("stderr");
                let stderr =
                    std::fs::File::create(&path).map_err(QemuError::system("temporary file"))?;
                let started = tied_child::command(program, folder).and_then(|mut command| {
                    command.args(arguments(setup, extras)?).stderr(stderr);
                    tied_child::spawn(command)
                });
                let child = started.map_err(|source| start_failed(program, source))?;
                Ok(Self::Process { program: program.clone(), child, stderr: path })
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
            Self::Process { program, child, stderr } => match child.child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => {
                    let stderr = end_of(stderr);
                    if status.code().is_some_and(|code| NOT_STARTED.contains(&code)) {
                        return Some(start_failed(program, io::Error::other(stderr)));
                    }
                    Some(QemuError::Ended { status: status.to_string(), stderr })
                }
                Err(error) => Some(QemuError::system("QEMU's status")(error)),
            },
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
                let _ = child.child.kill();
                let _ = child.child.wait();
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

/// The command line. QEMU runs in the folder of its sockets, so that their names need no escapes.
fn arguments(setup: &Setup, extras: &Extras) -> io::Result<Vec<OsString>> {
    let accelerator = if extras.kvm { "kvm" } else { "tcg" };
    let line = format!(
        "-accel {accelerator} -S -machine q35 -nodefaults -display none -m {MEMORY_MIB} -qtest-log none \
         -qtest unix:qtest -qmp unix:qmp"
    );
    let mut arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    for (index, vectors) in setup.vectors.iter().enumerate() {
        let slot = slot(index);
        let vectors = extras.told_vectors.unwrap_or_else(|| u32::from(*vectors));
        let device = format!(
            "ivshmem-doorbell,chardev=iv{index},vectors={vectors},master=on,addr={slot:#x}"
        );
        let chardev = format!("socket,path=iv{index},id=iv{index}");
        arguments.extend(["-chardev", &chardev, "-device", &device].map(OsString::from));
    }
    if setup.incoming.is_some() {
        arguments.extend(["-incoming", "defer"].map(OsString::from));
    }
    if let Some(trace) = &extras.trace {
        arguments.extend(["-trace", "memory_region_ops_write", "-D"].map(OsString::from));
        arguments.push(absolute(trace)?.into());
    }
    arguments.extend(extras.arguments.iter().map(OsString::from));
    Ok(arguments)
}

fn start_failed(program: &Path, source: io::Error) -> QemuError {
    QemuError::Start { program: program.display().to_string(), source }
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
