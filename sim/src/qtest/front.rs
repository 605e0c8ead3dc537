//! Sockets in, sockets out.

use super::command::{self, answer};
use super::lines::Lines;
use super::machine::{Bus, Machine, Seated};
use super::qmp::{self, Qmp, Status, Wish};
use super::setup::{Backing, DeviceKind, Front, MachineKind, SeatedDevice};
use crate::replay::Peer;
use msix_backends::kvm::Routes;
use msix_ivshmem::{DeviceError, IvshmemDevice, routes_without_vm};
use msix_peers::{Player, Sockets, StandIn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    /// The other side failed or takes no answer, or the system failed.
    #[error("{what}: {source}")]
    System {
        /// Which connection, or what else.
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
        let kind =
            DeviceKind::Doorbell { server: sockets.ivshmem.clone(), vectors: sockets.vectors };
        let front = Front {
            qtest: sockets.qtest.clone(),
            qmp: vec![sockets.qmp.clone()],
            machine: MachineKind::Q35,
            memory: RAM,
            devices: vec![SeatedDevice { slot: sockets.slot, kind }],
            policy: self.0,
            stopped: true,
            log: None,
            trace: sockets.trace.clone(),
        };
        run(&front, stop).map_err(|error| error.to_string())
    }
}

/// Plays the machine until the harness closes qtest, quits by QMP, or `stop` is set, which a signal
/// may do.
///
/// # Errors
/// [`FrontError`].
pub fn run(front: &Front, stop: &AtomicBool) -> Result<(), FrontError> {
    // Not through a link, which a neighbour may have put there.
    let trace = opened(front.trace.as_deref(), OFlags::NOFOLLOW)?;
    let log = opened(front.log.as_deref(), OFlags::empty())?.map(|file| (file, Instant::now()));
    let bus = Bus::default();
    let routes = routes_without_vm(bus.clone());
    let routes = routes.map_err(|source| FrontError::System { what: "epoll", source })?;
    // As QEMU: the devices are there before qtest and QMP.
    let seated = |device: &SeatedDevice| {
        let made = front.device(&device.kind, &routes, &bus)?;
        Ok::<_, FrontError>(Seated::new(device.slot, made))
    };
    let devices = front.devices.iter().map(seated).collect::<Result<_, _>>()?;
    let ram = usize::try_from(front.memory).unwrap_or(usize::MAX);
    let machine = Machine::new(front.machine, ram, devices, bus, front.policy, trace);
    let qtest = Lines::new("qtest", connect(&front.qtest)?, command::LONGEST)?;
    let mut monitors = Vec::new();
    for path in &front.qmp {
        let mut lines = Lines::new("QMP", connect(path)?, qmp::LONGEST)?;
        lines.send(&qmp::greeting().to_string())?;
        monitors.push(Monitor { lines, state: Qmp::default() });
    }
    let status = if front.stopped { Status::Prelaunch } else { Status::Running };
    let mut bench = Bench { machine, routes, qtest, monitors, status, log };
    while !stop.load(Ordering::Relaxed) && bench.turn()? {}
    Ok(())
}

impl Front {
    fn device(
        &self,
        kind: &DeviceKind,
        routes: &Arc<Routes>,
        bus: &Bus,
    ) -> Result<IvshmemDevice<Bus>, FrontError> {
        match kind {
            DeviceKind::Doorbell { server, vectors } => {
                let (server, options) = (connect(server)?, self.options(*vectors));
                Ok(IvshmemDevice::doorbell(server, options, routes, bus.clone(), None)?)
            }
            DeviceKind::Plain { memory } => {
                let opened = memory.open().map_err(|source| match memory {
                    Backing::File { path, .. } => FrontError::Open { path: path.clone(), source },
                    Backing::Anonymous { .. } => FrontError::System { what: "memory", source },
                });
                Ok(IvshmemDevice::plain(opened?, self.width())?)
            }
        }
    }
}

/// A file that is written at its end.
fn opened(path: Option<&Path>, flags: OFlags) -> Result<Option<File>, FrontError> {
    let Some(path) = path else { return Ok(None) };
    let flags = flags.bits().cast_signed();
    let opened = File::options().append(true).create(true).custom_flags(flags).open(path);
    opened.map(Some).map_err(|source| FrontError::Open { path: path.to_owned(), source })
}

fn connect(path: &PathBuf) -> Result<UnixStream, FrontError> {
    UnixStream::connect(path).map_err(|source| FrontError::Open { path: path.clone(), source })
}

struct Monitor {
    lines: Lines,
    state: Qmp,
}

struct Bench {
    machine: Machine,
    routes: Arc<Routes>,
    qtest: Lines,
    monitors: Vec<Monitor>,
    status: Status,
    /// What goes over qtest, and since when.
    log: Option<(File, Instant)>,
}

impl Bench {
    /// Waits for something to do, and does it; whether to go on.
    fn turn(&mut self) -> Result<bool, FrontError> {
        let (qtest, qmp) = self.wait()?;
        self.catch_up()?;
        if qtest {
            let Some(lines) = self.qtest.receive()? else { return Ok(false) };
            for line in lines {
                // A message that the device sent itself may have consequences.
                self.catch_up()?;
                self.note('R', &line);
                let answer = answer(&mut self.machine, &line);
                self.qtest.send(&answer)?;
                self.note('S', &answer);
                for _ in 0..std::mem::take(&mut self.machine.resets) {
                    self.tell("RESET")?;
                }
            }
        }
        qmp.map_or(Ok(true), |index| self.monitored(index))
    }

    /// Serves the monitor with this index; whether to go on.
    fn monitored(&mut self, index: usize) -> Result<bool, FrontError> {
        let Some(monitor) = self.monitors.get_mut(index) else { return Ok(true) };
        let Some(lines) = monitor.lines.receive()? else {
            self.monitors.remove(index); // the machine goes on without
            return Ok(true);
        };
        for line in lines {
            let Some(monitor) = self.monitors.get_mut(index) else { break };
            let (answer, wish) = monitor.state.answer(&line, self.status);
            monitor.lines.send(&answer.to_string())?;
            match wish {
                Wish::Nothing => {}
                Wish::Quit => return Ok(false),
                Wish::Reset => {
                    self.machine.reset();
                    self.tell("RESET")?;
                }
                Wish::Become(status) if status == self.status => {}
                Wish::Become(status) => {
                    self.status = status;
                    self.tell(if status == Status::Running { "RESUME" } else { "STOP" })?;
                }
            }
        }
        Ok(true)
    }

    /// Tells every monitor of an event.
    fn tell(&mut self, event: &str) -> Result<(), FrontError> {
        let event = qmp::event(event).to_string();
        let mut ready = self.monitors.iter_mut().filter(|monitor| monitor.state.is_ready());
        ready.try_for_each(|monitor| monitor.lines.send(&event))
    }

    /// Logs a line of qtest: R for one that was received, S for one that was sent.
    fn note(&mut self, direction: char, line: &str) {
        if let Some((log, since)) = &mut self.log {
            let seconds = since.elapsed().as_secs_f64();
            if let Err(error) = writeln!(log, "[{direction} +{seconds:.6}] {line}") {
                eprintln!("-qtest-log: {error}");
                self.log = None;
            }
        }
    }

    /// Whether qtest can be read, and the first monitor that can. Waits at most half a second, so that
    /// a signal is seen.
    fn wait(&self) -> Result<(bool, Option<usize>), FrontError> {
        let mut polled = vec![PollFd::new(&self.qtest, PollFlags::IN)];
        let monitors = self.monitors.iter();
        polled.extend(monitors.map(|monitor| PollFd::new(&monitor.lines, PollFlags::IN)));
        let events = self.routes.events();
        polled.push(PollFd::new(&**events, PollFlags::IN));
        let servers = self.machine.devices.iter().filter_map(|seated| seated.device.server());
        let servers: Vec<_> = servers.collect();
        polled.extend(servers.iter().map(|server| PollFd::new(server, PollFlags::IN)));
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
        match poll(&mut polled, Some(&limit)) {
            Err(Errno::INTR) => return Ok((false, None)),
            Err(error) => {
                return Err(FrontError::System { what: "poll", source: error.into() });
            }
            Ok(_) => {}
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let qtest = ready.next().unwrap_or(false);
        Ok((qtest, ready.take(self.monitors.len()).position(|ready| ready)))
    }

    /// Everything that was written to an eventfd or sent by the server by now.
    fn catch_up(&mut self) -> Result<(), FrontError> {
        self.machine.catch_up();
        let failed = |source| FrontError::System { what: "epoll", source };
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

/// What QEMU has where this takes its place in [`msix_peers::Qemu`], bytes.
const RAM: u64 = 64 << 20;
/// Most rounds of 256 eventfds between two commands.
const ROUNDS: usize = 16;
