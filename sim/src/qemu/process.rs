//! The process, its sockets and its files.

use super::client::Client;
use super::ivshmem::Server;
use super::{PATIENCE, QemuError};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What QEMU to run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program.
    pub program: PathBuf,
    /// Vectors of each ivshmem-doorbell device; slots 4 and up, at most 24 devices.
    pub vectors: Vec<u16>,
    /// A migration stream to begin from.
    pub incoming: Option<PathBuf>,
}

/// What else its command line says.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// More arguments, after all others.
    pub arguments: Vec<String>,
    /// What every device is told its vectors are, instead of the number in [`Setup::vectors`]: to
    /// see what QEMU says to a number that no function can have.
    pub told_vectors: Option<u32>,
}

/// First PCI slot of the devices.
const FIRST_SLOT: u8 = 4;
/// Memory of the machine, MiB.
const MEMORY_MIB: u32 = 64;
/// Longest wait for the end of a process that closed its connection.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// A running QEMU, its CPUs stopped.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    qtest: Client,
    qmp: Client,
    servers: Vec<Server>,
    version: String,
    folder: TempDir,
}

impl Qemu {
    /// Starts it and connects everything.
    ///
    /// # Errors
    /// [`QemuError`]; nothing is left running.
    pub fn start(setup: &Setup) -> Result<Self, QemuError> {
        Self::start_with(setup, &Extras::default())
    }

    /// As [`start`](Self::start), with more on the command line.
    ///
    /// # Errors
    /// [`QemuError`]; nothing is left running.
    pub fn start_with(setup: &Setup, extras: &Extras) -> Result<Self, QemuError> {
        let folder = tempfile::Builder::new()
            .prefix("msix-qemu-")
            .tempdir()
            .map_err(QemuError::system("temporary folder"))?;
        let listen = |name: &str| {
            UnixListener::bind(folder.path().join(name))
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(QemuError::system("listening socket"))
        };
        let (qtest, qmp) = (listen("qtest")?, listen("qmp")?);
        let devices: Vec<UnixListener> = (0..setup.vectors.len())
            .map(|i| listen(&format!("iv{i}")))
            .collect::<Result<_, _>>()?;
        let stderr = std::fs::File::create(folder.path().join("stderr"))
            .map_err(QemuError::system("temporary file"))?;
        let mut child = Guard(Some(
            Command::new(&setup.program)
                .args(arguments(setup, extras, folder.path()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr)
                .spawn()
                .map_err(|source| QemuError::Start {
                    program: setup.program.display().to_string(),
                    source,
                })?,
        ));
        // In the order in which QEMU opens them: character devices, then what qtest and QMP need.
        let mut servers = Vec::new();
        let mut accept = |listener: &UnixListener| accept(listener, child.get(), folder.path());
        let streams: Vec<UnixStream> = devices.iter().map(&mut accept).collect::<Result<_, _>>()?;
        for (index, stream) in streams.into_iter().enumerate() {
            let place = folder.path().join(format!("memory{index}"));
            let server = std::fs::create_dir(&place).and_then(|()| Server::serve(stream, &place));
            servers.push(server.map_err(QemuError::system("ivshmem connection"))?);
        }
        for (server, vectors) in servers.iter_mut().zip(&setup.vectors) {
            server.connect(*vectors).map_err(QemuError::system("ivshmem connection"))?;
        }
        let qtest = Client::new(accept(&qtest)?)?;
        let mut qmp = Client::new(accept(&qmp)?)?;
        let greeting = qmp.qmp_message("(greeting)").and_then(|greeting| {
            qmp.qmp(&json!({"execute": "qmp_capabilities"}), |_| {}).map(|_| greeting)
        });
        let greeting = match (greeting, child.get()) {
            (Err(error), Some(child)) => return Err(explain(child, folder.path(), error)),
            (greeting, _) => greeting?,
        };
        let version = &greeting["QMP"]["version"]["qemu"];
        let version = format!("{}.{}.{}", version["major"], version["minor"], version["micro"]);
        Ok(Self { child: child.take()?, qtest, qmp, servers, version, folder })
    }

    /// Its version, `major.minor.micro`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The qtest connection.
    pub const fn qtest(&mut self) -> &mut Client {
        &mut self.qtest
    }

    /// PCI slot of device `index`.
    #[must_use]
    pub fn slot(index: usize) -> u8 {
        FIRST_SLOT + u8::try_from(index).unwrap_or(u8::MAX - FIRST_SLOT)
    }

    /// Raises an event of `vector` of device `index`; QEMU has taken it when this returns.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn raise(&self, index: usize, vector: u16) -> Result<(), QemuError> {
        match self.servers.get(index) {
            Some(server) => server.raise(vector, PATIENCE),
            None => Err(QemuError::Device(format!("there is no device {index}"))),
        }
    }

    /// What stands behind an error: a closed connection is mostly that of a process that ended,
    /// which is then told with its exit status and its error output.
    #[must_use]
    pub fn explain(&mut self, error: QemuError) -> QemuError {
        explain(&mut self.child, self.folder.path(), error)
    }

    /// Resets the machine.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn reset(&mut self) -> Result<(), QemuError> {
        // The reset happens after the answer; the event says when it is done.
        let mut done = false;
        self.qmp
            .qmp(&json!({"execute": "system_reset"}), |event| done |= event["event"] == "RESET")?;
        while !done {
            done = self.qmp.qmp_message("system_reset")?["event"] == "RESET";
        }
        Ok(())
    }

    /// Writes the migration stream of the machine to a file, which goes with this QEMU.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn migrate(&mut self) -> Result<PathBuf, QemuError> {
        let file = self.folder.path().join("stream");
        let uri = format!("exec:cat>{}", file.display());
        self.qmp.qmp(&json!({"execute": "migrate", "arguments": {"uri": uri}}), |_| {})?;
        self.migrated()?;
        Ok(file)
    }

    /// Waits until the stream this QEMU began from is loaded.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn await_incoming(&mut self) -> Result<(), QemuError> {
        self.migrated()
    }

    fn migrated(&mut self) -> Result<(), QemuError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.qmp.qmp(&json!({"execute": "query-migrate"}), |_| {})?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let got = state.to_string();
                    return Err(QemuError::Garbled { sent: "migrate".to_owned(), got });
                }
                _ if Instant::now() > deadline => {
                    return Err(QemuError::Silent { sent: "migrate".to_owned() });
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a process that may have ended already; there is nothing to do about a failure here.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Ends the process unless it is taken out.
struct Guard(Option<Child>);

impl Guard {
    fn get(&mut self) -> Option<&mut Child> {
        self.0.as_mut()
    }

    fn take(&mut self) -> Result<Child, QemuError> {
        self.0.take().ok_or_else(|| QemuError::Device("the process is gone".to_owned()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
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
        let slot = Qemu::slot(index);
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
    arguments.extend(extras.arguments.iter().cloned());
    arguments
}

fn accept(
    listener: &UnixListener,
    child: Option<&mut Child>,
    folder: &Path,
) -> Result<UnixStream, QemuError> {
    let Some(child) = child else { return Err(QemuError::Device("no process".to_owned())) };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(QemuError::system("socket"))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(QemuError::system("socket")(error)),
        }
        if let Some(status) = child.try_wait().map_err(QemuError::system("QEMU's status"))? {
            return Err(QemuError::Ended { status: status.to_string(), stderr: stderr(folder) });
        }
        if Instant::now() > deadline {
            return Err(QemuError::Silent { sent: "(start)".to_owned() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn explain(child: &mut Child, folder: &Path, error: QemuError) -> QemuError {
    if !matches!(error, QemuError::Closed { .. }) {
        return error;
    }
    // The connection goes a moment before the process.
    let deadline = Instant::now() + LAST_MOMENTS;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return QemuError::Ended { status: status.to_string(), stderr: stderr(folder) };
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => return error,
        }
    }
}

/// The end of what QEMU wrote about its troubles.
fn stderr(folder: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(folder.join("stderr")) {
        // Text that cannot be read is left out of the message.
        let _ = file.take(4096).read_to_string(&mut text);
    }
    text.trim().to_owned()
}
