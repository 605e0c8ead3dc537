//! The process, its sockets and its files.

use super::client::QemuClient;
use super::error::{PATIENCE, QemuError};
use super::lone_server::LoneServer;
use super::machine::{self, Extras, Setup};
use super::running::Running;
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for the end of a process that closed its connection.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// Longest migration stream that is kept, bytes: several times the machine's memory.
const LONGEST_STREAM: u64 = 1 << 28;

/// A running QEMU, its CPUs stopped.
#[derive(Debug)]
pub struct Qemu {
    running: Running,
    qtest: QemuClient,
    qmp: QemuClient,
    servers: Vec<LoneServer>,
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

    /// Starts it as [`start`](Self::start) does, with more on the command line.
    ///
    /// # Errors
    /// [`QemuError`]; nothing is left running.
    pub fn start_with(setup: &Setup, extras: &Extras) -> Result<Self, QemuError> {
        let folder = tempfile::Builder::new()
            .prefix("msix-qemu-")
            .tempdir()
            .map_err(QemuError::system("temporary folder"))?;
        let (qtest, qmp) = (listen(&folder, "qtest")?, listen(&folder, "qmp")?);
        let devices: Vec<UnixListener> = (0..setup.vectors.len())
            .map(|i| listen(&folder, &format!("iv{i}")))
            .collect::<Result<_, _>>()?;
        let mut running = Running::start(setup, extras, folder.path())?;
        // In the order in which QEMU opens them: character devices, then what qtest and QMP need.
        let mut servers = Vec::new();
        let accepted = devices.iter().map(|listener| accept(listener, &mut running));
        let streams: Vec<UnixStream> = accepted.collect::<Result<_, _>>()?;
        for (index, stream) in streams.into_iter().enumerate() {
            let place = folder.path().join(format!("memory{index}"));
            let server =
                std::fs::create_dir(&place).and_then(|()| LoneServer::serve(stream, &place));
            servers.push(server.map_err(|error| unserved(&mut running, error))?);
        }
        for (server, vectors) in servers.iter_mut().zip(&setup.vectors) {
            server.connect(*vectors).map_err(|error| unserved(&mut running, error))?;
        }
        let qtest = QemuClient::new(accept(&qtest, &mut running)?)?;
        let mut qmp = QemuClient::new(accept(&qmp, &mut running)?)?;
        let greeting = qmp.qmp_message("(greeting)").and_then(|greeting| {
            qmp.qmp(&json!({"execute": "qmp_capabilities"}), |_| {}).map(|_| greeting)
        });
        let greeting = greeting.map_err(|error| explain(&mut running, error))?;
        let version = &greeting["QMP"]["version"]["qemu"];
        let version = format!("{}.{}.{}", version["major"], version["minor"], version["micro"]);
        let mut qemu = Self { running, qtest, qmp, servers, version, folder };
        if let Some(stream) = &setup.incoming {
            qemu.load(stream).map_err(|error| qemu.explain(error))?;
        }
        Ok(qemu)
    }

    /// Returns its version, `major.minor.micro`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the qtest connection.
    pub const fn qtest(&mut self) -> &mut QemuClient {
        &mut self.qtest
    }

    /// Returns the PCI slot of device `index`.
    #[must_use]
    pub fn slot(index: usize) -> u8 {
        machine::slot(index)
    }

    /// Raises an event of `vector` of device `index`; QEMU has taken it when this returns.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn raise(&self, index: usize, vector: u16) -> Result<(), QemuError> {
        self.raise_all(&[(index, vector)])
    }

    /// Raises events, each of a device and a vector; QEMU has taken all when this returns. It takes those of
    /// different vectors in any order, and those of one vector together.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn raise_all(&self, events: &[(usize, u16)]) -> Result<(), QemuError> {
        for (index, vector) in events {
            self.server(*index)?.ring(*vector)?;
        }
        for (index, vector) in events {
            self.server(*index)?.await_taken(*vector, PATIENCE)?;
        }
        Ok(())
    }

    fn server(&self, index: usize) -> Result<&LoneServer, QemuError> {
        let none = || QemuError::Device(format!("there is no device {index}"));
        self.servers.get(index).ok_or_else(none)
    }

    /// Raises an event of `vector` of device `index`, and waits until somebody has taken it, but not longer
    /// than `patience`. Returns whether somebody has.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn raise_within(
        &self,
        index: usize,
        vector: u16,
        patience: Duration,
    ) -> Result<bool, QemuError> {
        let server = self.server(index)?;
        server.ring(vector)?;
        match server.await_taken(vector, patience) {
            Ok(()) => Ok(true),
            Err(QemuError::Silent { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until QEMU has taken what was written to the eventfd of `vector` of device `index`, for
    /// example by a doorbell.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn await_taken(&self, index: usize, vector: u16) -> Result<(), QemuError> {
        self.server(index)?.await_taken(vector, PATIENCE)
    }

    /// Returns the cause of an error. A closed connection mostly means that the process ended: its exit
    /// status and error output are then in the answer.
    #[must_use]
    pub fn explain(&mut self, error: QemuError) -> QemuError {
        explain(&mut self.running, error)
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
        let listener = listen(&self.folder, "outgoing")?;
        self.migration("migrate", "outgoing")?;
        let stream = accept(&listener, &mut self.running)?;
        let path = self.folder.path().join("stream");
        let copied = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| {
            std::io::copy(&mut stream.take(LONGEST_STREAM), &mut File::create(&path)?)
        });
        copied.map_err(QemuError::system("migration stream"))?;
        self.migrated()?;
        Ok(path)
    }

    /// Begins from a stream. What QEMU thinks of it, [`await_incoming`](Self::await_incoming) says.
    fn load(&mut self, stream: &Path) -> Result<(), QemuError> {
        self.migration("migrate-incoming", "incoming")?;
        let sent = UnixStream::connect(self.folder.path().join("incoming")).and_then(|mut to| {
            to.set_write_timeout(Some(PATIENCE))?;
            std::io::copy(&mut File::open(stream)?, &mut to)
        });
        match sent {
            // It has seen enough, and ends or says so.
            Err(error) if is_closed(&error) => Ok(()),
            sent => sent.map(drop).map_err(QemuError::system("migration stream")),
        }
    }

    fn migration(&mut self, command: &str, socket: &str) -> Result<(), QemuError> {
        let command = json!({"execute": command, "arguments": {"uri": format!("unix:{socket}")}});
        self.qmp.qmp(&command, |_| {}).map(drop)
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
        self.qtest.close();
        self.running.end();
    }
}

/// A new socket in `folder`.
fn listen(folder: &TempDir, name: &str) -> Result<UnixListener, QemuError> {
    let path = folder.path().join(name);
    let _ = std::fs::remove_file(&path); // of an earlier migration
    UnixListener::bind(path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(QemuError::system("listening socket"))
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn accept(listener: &UnixListener, running: &mut Running) -> Result<UnixStream, QemuError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(QemuError::system("socket"))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(QemuError::system("socket")(error)),
        }
        if let Some(ended) = running.ended() {
            return Err(ended);
        }
        if Instant::now() > deadline {
            return Err(QemuError::Silent { sent: "(start)".to_owned() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn unserved(running: &mut Running, error: std::io::Error) -> QemuError {
    if is_closed(&error) {
        // It ended before it had read its setup.
        return explain(running, QemuError::Closed { sent: "(ivshmem setup)".to_owned() });
    }
    QemuError::system("ivshmem connection")(error)
}

fn explain(running: &mut Running, error: QemuError) -> QemuError {
    if !matches!(error, QemuError::Closed { .. }) {
        return error;
    }
    // The connection goes a moment before the process.
    let deadline = Instant::now() + LAST_MOMENTS;
    loop {
        match running.ended() {
            Some(ended) => return ended,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            None => return error,
        }
    }
}
