//! The process, its sockets and its files.

use super::client::QemuClient;
use super::error::{PATIENCE, QemuError};
use super::lone_server::LoneServer;
use super::machine::{self, Extras, Setup};
use super::running::Running;
use serde_json::json;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for the end of a process that closed its connection.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

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
        let listen = |name: &str| {
            UnixListener::bind(folder.path().join(name))
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(QemuError::system("listening socket"))
        };
        let (qtest, qmp) = (listen("qtest")?, listen("qmp")?);
        let devices: Vec<UnixListener> = (0..setup.vectors.len())
            .map(|i| listen(&format!("iv{i}")))
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
        Ok(Self { running, qtest, qmp, servers, version, folder })
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
        match self.servers.get(index) {
            Some(server) => server.raise(vector, PATIENCE),
            None => Err(QemuError::Device(format!("there is no device {index}"))),
        }
    }

    /// Waits until QEMU has taken what was written to the eventfd of `vector` of device `index`, for
    /// example by a doorbell.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn await_taken(&self, index: usize, vector: u16) -> Result<(), QemuError> {
        match self.servers.get(index) {
            Some(server) => server.await_taken(vector, PATIENCE),
            None => Err(QemuError::Device(format!("there is no device {index}"))),
        }
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
        self.qtest.close();
        self.running.end();
    }
}

fn accept(listener: &UnixListener, running: &mut Running) -> Result<UnixStream, QemuError> {
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
    match error.kind() {
        // It ended before it had read its setup.
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
            explain(running, QemuError::Closed { sent: "(ivshmem setup)".to_owned() })
        }
        _ => QemuError::system("ivshmem connection")(error),
    }
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
