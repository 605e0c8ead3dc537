//! Sockets in, sockets out.

use super::command::{self, answer};
use super::machine::{Bus, Machine};
use super::qmp::{self, Qmp, Wish};
use crate::replay::Peer;
use msix_backends::kvm::Routes;
use msix_core::Policy;
use msix_core::policy::WhileDisabled;
use msix_ivshmem::{DeviceError, DeviceOptions, IvshmemDevice, Width, routes_without_vm};
use msix_peers::{Player, Sockets, StandIn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to be.
#[derive(Debug, Clone)]
pub struct Front {
    /// Where the harness listens for qtest.
    pub socket: PathBuf,
    /// Where it listens for QMP, if it does.
    pub qmp: Option<PathBuf>,
    /// Where the ivshmem server listens.
    pub ivshmem: PathBuf,
    /// Vectors of the device, 1 to 2048.
    pub vectors: u16,
    /// PCI slot of the device, 1 to 31.
    pub slot: u8,
    /// Whom the device agrees with.
    pub policy: Peer,
    /// A file that every message is logged to, as QEMU's trace logs it.
    pub trace: Option<PathBuf>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// A socket or file cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A line longer than any command.
    #[error("a line of more than {0} bytes")]
    Line(usize),
    /// The other side failed, or takes no answer.
    #[error("{what}: {source}")]
    Socket {
        /// Which connection.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The front in the place of a QEMU that agrees with `policy`, for [`msix_peers::Qemu`].
#[must_use]
pub fn player(policy: Peer) -> Player {
    Player::StandIn(Arc::new(Seat(policy)))
}

#[derive(Debug)]
struct Seat(Peer);

impl StandIn for Seat {
    fn name(&self) -> String {
        format!("qtest front, {:?}", self.0)
    }

    fn play(&self, sockets: &Sockets, stop: &AtomicBool) -> Result<(), String> {
        let front = Front {
            socket: sockets.qtest.clone(),
            qmp: Some(sockets.qmp.clone()),
            ivshmem: sockets.ivshmem.clone(),
            vectors: sockets.vectors,
            slot: sockets.slot,
            policy: self.0,
            trace: sockets.trace.clone(),
        };
        run(&front, stop).map_err(|error| error.to_string())
    }
}

impl Front {
    /// The device of this policy.
    fn options(&self) -> DeviceOptions {
        let mut options = DeviceOptions::new(self.vectors);
        if self.policy == Peer::Qemu {
            // H3: QEMU's ivshmem device drops an event while MSI-X is disabled.
            options.policy = Policy { while_disabled: WhileDisabled::Drop, ..Policy::QEMU };
            options.width = Width::Qemu;
        }
        options
    }
}

/// Plays the machine until the harness closes qtest, quits by QMP, or `stop` is set, which a signal
/// may do.
///
/// # Errors
/// [`FrontError`].
pub fn run(front: &Front, stop: &AtomicBool) -> Result<(), FrontError> {
    let trace = front.trace.as_ref().map(|path| {
        // Not through a link, which a neighbour may have put there.
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let opened = File::options().append(true).create(true).custom_flags(flags).open(path);
        opened.map_err(|source| FrontError::Open { path: path.clone(), source })
    });
    let trace = trace.transpose()?;
    let bus = Bus::default();
    let routes = routes_without_vm(bus.clone());
    let routes = routes.map_err(|source| FrontError::Socket { what: "epoll", source })?;
    // As QEMU: the device is there before qtest and QMP.
    let server = connect(&front.ivshmem)?;
    let device = IvshmemDevice::doorbell(server, front.options(), &routes, bus.clone(), None)?;
    let machine = Machine::new(device, bus, front.slot, front.policy, trace);
    let qtest = Lines::new("qtest", connect(&front.socket)?, command::LONGEST)?;
    let qmp = front.qmp.as_ref().map(|path| Lines::new("QMP", connect(path)?, qmp::LONGEST));
    let mut bench = Bench { machine, routes, qtest, qmp: qmp.transpose()?, state: Qmp::default() };
    if let Some(qmp) = &mut bench.qmp {
        qmp.send(&qmp::greeting().to_string())?;
    }
    while !stop.load(Ordering::Relaxed) && bench.turn()? {}
    Ok(())
}

fn connect(path: &PathBuf) -> Result<UnixStream, FrontError> {
    UnixStream::connect(path).map_err(|source| FrontError::Open { path: path.clone(), source })
}

struct Bench {
    machine: Machine,
    routes: Arc<Routes>,
    qtest: Lines,
    qmp: Option<Lines>,
    state: Qmp,
}

impl Bench {
    /// Waits for something to do, and does it; whether to go on.
    fn turn(&mut self) -> Result<bool, FrontError> {
        let [qtest, qmp] = self.wait()?;
        self.catch_up()?;
        if qtest {
            let Some(lines) = self.qtest.receive()? else { return Ok(false) };
            for line in lines {
                // A message that the device sent itself may have consequences.
                self.catch_up()?;
                let answer = answer(&mut self.machine, &line);
                self.qtest.send(&answer)?;
            }
        }
        if qmp && let Some(connection) = &mut self.qmp {
            let Some(lines) = connection.receive()? else {
                self.qmp = None; // the machine goes on without
                return Ok(true);
            };
            for line in lines {
                let (answer, wish) = self.state.answer(&line);
                connection.send(&answer.to_string())?;
                match wish {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(false),
                    Wish::Reset => {
                        self.machine.reset();
                        connection.send(&qmp::event("RESET").to_string())?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Which of qtest and QMP can be read. Waits at most half a second, so that a signal is seen.
    fn wait(&self) -> Result<[bool; 2], FrontError> {
        let events = self.routes.events();
        let mut polled = vec![PollFd::new(&self.qtest.stream, PollFlags::IN)];
        polled.push(PollFd::new(&**events, PollFlags::IN));
        polled.extend(self.qmp.iter().map(|qmp| PollFd::new(&qmp.stream, PollFlags::IN)));
        let server = self.machine.device.server();
        polled.extend(server.iter().map(|server| PollFd::new(server, PollFlags::IN)));
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
        match poll(&mut polled, Some(&limit)) {
            Err(Errno::INTR) => return Ok([false; 2]),
            Err(error) => {
                return Err(FrontError::Socket { what: "poll", source: error.into() });
            }
            Ok(_) => {}
        }
        let ready = |at: usize| polled.get(at).is_some_and(|it| !it.revents().is_empty());
        Ok([ready(0), self.qmp.is_some() && ready(2)])
    }

    /// Everything that was written to an eventfd or sent by the server by now.
    fn catch_up(&mut self) -> Result<(), FrontError> {
        self.machine.catch_up();
        let failed = |source| FrontError::Socket { what: "epoll", source };
        // As many rounds as there are vectors end it, whatever rings itself.
        for _ in 0..ROUNDS {
            if self.routes.events().run(Some(Duration::ZERO)).map_err(failed)? == 0 {
                break;
            }
            self.machine.carry_out();
        }
        Ok(())
    }
}

/// Most rounds of 256 eventfds between two commands.
const ROUNDS: usize = 16;

/// A connection of lines.
struct Lines {
    what: &'static str,
    stream: UnixStream,
    /// A line whose end has not come.
    partial: Vec<u8>,
    longest: usize,
}

impl Lines {
    fn new(what: &'static str, stream: UnixStream, longest: usize) -> Result<Self, FrontError> {
        // Who does not take an answer for so long never will.
        let limited = stream.set_write_timeout(Some(Duration::from_secs(20)));
        limited.map_err(|source| FrontError::Socket { what, source })?;
        Ok(Self { what, stream, partial: Vec::new(), longest })
    }

    /// The lines that have come to their end; `None` when no more will.
    fn receive(&mut self) -> Result<Option<Vec<String>>, FrontError> {
        let mut chunk = [0; 1 << 16];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Some(Vec::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(source) => return Err(FrontError::Socket { what: self.what, source }),
        };
        let mut lines = Vec::new();
        for piece in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > self.longest {
                return Err(FrontError::Line(self.longest));
            }
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.partial);
                lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
                self.partial.clear();
            }
        }
        Ok(Some(lines))
    }

    fn send(&mut self, line: &str) -> Result<(), FrontError> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let sent = self.stream.write_all(&bytes);
        sent.map_err(|source| FrontError::Socket { what: self.what, source })
    }
}
