//! The device.

use super::access::{DOORBELL, Width};
use super::client::{Client, ClientEvent};
use super::config::{CAPABILITY, Config, Shape};
use super::descriptors::descriptor_limit;
use super::interrupt_registers::InterruptRegisters;
use super::memory::{SharedMemory, SharedMemoryError, is_bar_size};
use super::peers::Peers;
use super::platform::{Board, BoardPlatform};
use super::session::{Session, SessionError};
use super::unconnected::{ConnectError, Unconnected};
use super::wire::OutOfDescriptors;
use msix_backends::eventfd::import;
use msix_backends::kvm::{
    Doorbell, EventfdOrigin, Format, Function, FunctionSetup, GuestPin, Ioeventfds, Routes,
};
use msix_core::spec::{CAPABILITY_LEN, STATUS_INTERRUPT};
use msix_core::{BarIndex, Layout, LayoutError, Policy, Vector};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// How a doorbell device interrupts its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// MSI-X, a vector each.
    MsiX,
    /// INTx, one line for all vectors: Status and Mask are not both 0 (E1).
    Pin,
}

/// Which revision of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// 1: the device is made when the setup is complete.
    One,
    /// 0: it is there at once. BAR2 is not valid and IVPosition -1 before the setup is complete (E1).
    Zero {
        /// Bytes of BAR2; the shared memory must have as many.
        memory: u64,
    },
}

/// What device to make.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// How they reach the guest.
    pub interrupt: Interrupt,
    /// Which revision.
    pub revision: Revision,
    /// The engine's. What eventfds hold is always drained on reset and collected before MSI-X is
    /// disabled, whatever it says (E8), and table writes are not snooped.
    pub policy: Policy,
    /// Which accesses are carried out.
    pub width: Width,
    /// How messages are to be read.
    pub format: Format,
    /// Whether this is the one that migrates; `None`: if its id is 0 (E6).
    pub master: Option<bool>,
    /// How long the setup may take.
    pub patience: Duration,
    /// How many other peers to connect at most; the vectors of more are closed, and cannot be rung.
    /// `None`: those whose vectors fit in half of the descriptors that the process may have
    /// (`RLIMIT_NOFILE`), so that the server cannot take them all.
    pub most_peers: Option<usize>,
}

impl DeviceOptions {
    /// With MSI-X, revision 1, strict, 5 s for the setup, and as many peers as descriptors allow.
    #[must_use]
    pub fn new(vectors: u16) -> Self {
        Self {
            vectors,
            interrupt: Interrupt::MsiX,
            revision: Revision::One,
            policy: Policy::SPEC,
            width: Width::Strict,
            format: Format::default(),
            master: None,
            patience: Duration::from_secs(5),
            most_peers: None,
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a number of vectors that a function can have.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The server did not do its part.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The shared memory of a plain device, or the BAR2 size of a revision 0.
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
}

/// One ivshmem device. Its interrupts go their own way, through the loop of the [`Routes`]; registers,
/// peers and the server's messages are one thread's at a time.
///
/// Ids are forgotten and eventfds closed as the server says; what is connected stays so when the
/// server is gone.
pub struct IvshmemDevice<B: Board> {
    pub(super) options: DeviceOptions,
    pub(super) config: Config,
    /// With MSI-X or a pin; a plain device has neither.
    pub(super) function: Option<Function<BoardPlatform<B>>>,
    pub(super) interrupt: Arc<InterruptRegisters<B>>,
    pub(super) layout: Layout,
    pub(super) peers: Peers,
    pub(super) memory: Option<SharedMemory>,
    session: Option<Session>,
    most_peers: usize,
    unconnected: Option<Unconnected>,
    /// `None` before the server said it; a plain device's is 0.
    pub(super) id: Option<u16>,
    pub(super) rings: u64,
}

impl<B: Board> IvshmemDevice<B> {
    /// A plain device: shared memory without interrupts (E1).
    ///
    /// # Errors
    /// [`DeviceError::Memory`].
    pub fn plain(memory: OwnedFd, width: Width) -> Result<Self, DeviceError> {
        let memory = SharedMemory::new(memory)?;
        let options = DeviceOptions { width, ..DeviceOptions::new(1) };
        let layout = Layout::exclusive_bar(1, TABLE_BAR)?;
        let shape = shape(&options, 0, memory.size(), false);
        Ok(Self {
            options,
            config: Config::new(shape),
            function: None,
            interrupt: InterruptRegisters::without_pin(),
            layout,
            peers: Peers::new(None),
            memory: Some(memory),
            session: None,
            most_peers: 0,
            unconnected: None,
            id: Some(0),
            rings: 0,
        })
    }

    /// A doorbell device on a connected stream. With `vm`, rings go through KVM without an exit. A
    /// revision 1 waits here until the setup is complete.
    ///
    /// # Errors
    /// [`DeviceError`]; everything that came is then closed.
    pub fn doorbell(
        stream: UnixStream,
        options: DeviceOptions,
        routes: &Arc<Routes>,
        board: B,
        vm: Option<Box<dyn Ioeventfds>>,
    ) -> Result<Self, DeviceError> {
        let layout = Layout::exclusive_bar(u32::from(options.vectors), TABLE_BAR)?;
        let has_pin = options.interrupt == Interrupt::Pin;
        let setup = FunctionSetup {
            // QEMU reads the eventfds at once: nothing is in them when the guest resets or disables.
            policy: Policy {
                drain: true,
                poll_before_disable: true,
                snoop: false,
                ..options.policy
            },
            format: options.format,
            eventfds: EventfdOrigin::Connected,
            ..FunctionSetup::new(BoardPlatform(board.clone()))
        };
        let (function, interrupt) = if has_pin {
            let pin = Some(Box::new(BoardPlatform(board)) as Box<dyn GuestPin>);
            let function = Function::new(routes, FunctionSetup { pin, ..setup })
                .expect("no device id is needed");
            let registers = InterruptRegisters::driving(function.clone(), routes.events());
            (function, registers)
        } else {
            let function = Function::new(routes, FunctionSetup { msix: Some(layout), ..setup })
                .expect("no device id is needed");
            (function, InterruptRegisters::without_pin())
        };
        let table_bar = if has_pin { 0 } else { layout.min_bar_size(TABLE_BAR) };
        let expected = match options.revision {
            Revision::Zero { memory } if is_bar_size(memory) => memory,
            Revision::Zero { memory } => return Err(SharedMemoryError::Size(memory).into()),
            Revision::One => 16,
        };
        let most_peers = options.most_peers.unwrap_or_else(|| fitting_peers(options.vectors));
        let client = Client::new(options.vectors).with_most_peers(most_peers);
        let session = Session::new(stream, client).map_err(SessionError::from)?;
        let mut device = Self {
            options,
            config: Config::new(shape(&options, table_bar, expected, has_pin)),
            function: Some(function),
            interrupt,
            layout,
            peers: Peers::new(vm.map(Doorbell::new)),
            memory: None,
            session: Some(session),
            most_peers,
            unconnected: None,
            id: None,
            rings: 0,
        };
        device.arm();
        if options.revision == Revision::One {
            device.set_up()?;
            let memory = device.memory.as_ref().map_or(expected, SharedMemory::size);
            device.config = Config::new(shape(&options, table_bar, memory, has_pin));
        }
        device.apply_command();
        Ok(device)
    }

    /// Takes what the server has sent by now, up to a thousand messages. When that is the end of the
    /// connection the error says why, once; the device goes on with the peers it has. A vector that could
    /// not be connected is no error: see [`unconnected`](Self::unconnected).
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn serve(&mut self) -> Result<(), SessionError> {
        for _ in 0..AT_ONCE {
            if !self.take()? {
                break;
            }
        }
        Ok(())
    }

    /// The server's socket, to wait on; `None` when the connection has ended, or there is none.
    #[must_use]
    pub fn server(&self) -> Option<BorrowedFd<'_>> {
        self.session.as_ref().map(AsFd::as_fd)
    }

    /// A guest reads configuration space, `bytes` at `offset`.
    pub fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        let status = self.function.as_ref().map_or(0, |function| function.command_and_status().1);
        self.config.read(offset, bytes, status & STATUS_INTERRUPT != 0);
        if let (Some(function), Some((from, at))) =
            (self.msix_function(), in_capability(offset, bytes))
        {
            let end = bytes.len().min(from + CAPABILITY_LEN - at);
            function.read_msix(at, &mut bytes[from..end]);
        }
    }

    /// A guest writes configuration space.
    pub fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.config.write(offset, bytes);
        if let (Some(function), Some((from, at))) =
            (self.msix_function(), in_capability(offset, bytes))
        {
            function.write_msix(at, &bytes[from..]);
        }
        self.apply_command();
    }

    /// Conventional reset: registers as after power-on, nothing pending, what the device's own
    /// eventfds hold dropped (E8). Peers and memory stay.
    pub fn reset(&mut self) {
        if let Some(function) = &self.function {
            function.reset();
        }
        self.interrupt.reset();
        self.config.reset();
        self.arm();
        self.apply_command();
    }

    /// This device's id: what IVPosition says, once the server has said it.
    #[must_use]
    pub const fn id(&self) -> Option<u16> {
        self.id
    }

    /// Whether it migrates (E6).
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.options.master.unwrap_or(self.id == Some(0))
    }

    /// The shared memory; `None` before the setup is complete.
    #[must_use]
    pub const fn memory(&self) -> Option<&SharedMemory> {
        self.memory.as_ref()
    }

    /// Vectors that `peer` has connected, as far as the server has told.
    #[must_use]
    pub fn connected(&self, peer: u16) -> usize {
        self.peers.vectors(peer)
    }

    /// The last vector that came and is not connected, and how many there were.
    #[must_use]
    pub const fn unconnected(&self) -> Option<&Unconnected> {
        self.unconnected.as_ref()
    }

    /// Peers that the server has told of, this device included, lowest first.
    pub fn peers(&self) -> impl Iterator<Item = u16> + '_ {
        self.peers.ids()
    }

    /// Rings that KVM carries out without an exit: pairs of peer and vector.
    #[must_use]
    pub fn armed_rings(&self) -> usize {
        self.peers.armed()
    }

    /// Rings that came as an access, and reached somebody.
    #[must_use]
    pub const fn rings(&self) -> u64 {
        self.rings
    }

    fn set_up(&mut self) -> Result<(), SessionError> {
        let since = Instant::now();
        // One by one: what comes after the setup, its end too, is for later.
        while self.session.as_ref().is_some_and(|session| !session.client().is_set_up()) {
            if since.elapsed() > self.options.patience {
                return Err(SessionError::Silent(self.options.patience));
            }
            if !self.take()?
                && let Some(session) = &self.session
            {
                session.wait(since, self.options.patience)?;
            }
        }
        Ok(())
    }

    /// Takes one message; whether there was one.
    fn take(&mut self) -> Result<bool, SessionError> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let event = session.receive();
        let taken = match event {
            Ok(None) => return Ok(false),
            Ok(Some(event)) => self.handle(event),
            Err(error) => Err(error),
        };
        if taken.is_err() {
            self.session = None;
        }
        taken.map(|()| true)
    }

    fn handle(&mut self, event: ClientEvent<OwnedFd>) -> Result<(), SessionError> {
        match event {
            ClientEvent::Nothing | ClientEvent::Surplus { .. } => {}
            ClientEvent::Id(id) => self.id = Some(id),
            ClientEvent::Memory(descriptor) => {
                let memory = SharedMemory::new(descriptor)?;
                if let Revision::Zero { memory: expected } = self.options.revision
                    && memory.size() != expected
                {
                    return Err(SharedMemoryError::Size(memory.size()).into());
                }
                self.memory = Some(memory);
                self.apply_command();
            }
            ClientEvent::MemoryLost => return Err(OutOfDescriptors.into()),
            ClientEvent::Connected { peer, vector, descriptor } => {
                let wrong = |source| SessionError::NoEventfd { peer, vector, source };
                let eventfd = import(descriptor).map_err(wrong)?;
                if let Err(source) = self.connect(peer, vector, eventfd) {
                    self.miss(peer, ConnectError::System { vector, source });
                }
            }
            ClientEvent::Lost { peer, vector } => {
                self.peers.connect(peer, None);
                let source = OutOfDescriptors;
                self.miss(peer, ConnectError::OutOfDescriptors { vector, source });
            }
            ClientEvent::Refused { peer } => {
                self.miss(peer, ConnectError::PeerLimit(self.most_peers));
            }
            ClientEvent::Disconnected { peer } => self.peers.disconnect(peer),
        }
        Ok(())
    }

    /// Connects the next vector of `peer`. The device's own has an eventfd to be rung by, and one to ring.
    fn connect(&mut self, peer: u16, vector: u16, eventfd: EventFd) -> io::Result<()> {
        if self.id != Some(peer) {
            self.peers.connect(peer, Some(eventfd));
            return Ok(());
        }
        let ring = eventfd.try_clone();
        let connected = match self.msix_function() {
            Some(function) => function.connect(Vector::new(vector), eventfd),
            None => self.interrupt.connect(eventfd),
        };
        let (ring, failed) = match connected.and(ring) {
            Ok(ring) => (Some(ring), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.peers.connect(peer, ring);
        failed
    }

    fn miss(&mut self, peer: u16, reason: ConnectError) {
        let before = self.unconnected.as_ref().map_or(0, |unconnected| unconnected.count);
        self.unconnected = Some(Unconnected { peer, reason, count: before.saturating_add(1) });
    }

    /// The function, if the device has MSI-X.
    pub(super) fn msix_function(&self) -> Option<&Function<BoardPlatform<B>>> {
        self.function.as_ref().filter(|_| self.options.interrupt == Interrupt::MsiX)
    }

    /// The device uses all its vectors. Counts that outlived a reset are left alone (H9).
    fn arm(&self) {
        if let Some(function) = self.msix_function() {
            function.claim_all();
        }
    }

    /// Carries out what Command and BAR0 say.
    pub(super) fn apply_command(&mut self) {
        if let Some(function) = &self.function {
            function.write_command(0, &self.config.command().to_le_bytes());
        }
        // E2: not before the setup is complete.
        let registers = self.config.bar(0).filter(|_| self.memory.is_some());
        self.peers.place(registers.map(|registers| registers.start + DOORBELL));
    }
}

impl<B: Board> fmt::Debug for IvshmemDevice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IvshmemDevice")
            .field("id", &self.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// How many peers fit in half of the descriptors that the process may have.
fn fitting_peers(vectors: u16) -> usize {
    let half = usize::try_from(descriptor_limit() / 2).unwrap_or(usize::MAX);
    half / usize::from(vectors).max(1)
}

/// What of an access at `offset` lies in the capability: from which byte of it, at which offset of the
/// capability.
fn in_capability(offset: usize, bytes: &[u8]) -> Option<(usize, usize)> {
    let start = usize::from(CAPABILITY);
    let from = start.saturating_sub(offset);
    let at = offset.saturating_sub(start);
    (from < bytes.len() && at < CAPABILITY_LEN).then_some((from, at))
}

const fn shape(options: &DeviceOptions, table_bar: u64, memory: u64, has_pin: bool) -> Shape {
    Shape {
        revision: match options.revision {
            Revision::One => 1,
            Revision::Zero { .. } => 0,
        },
        table_bar,
        memory,
        has_pin,
        scratch: matches!(options.width, Width::Qemu),
    }
}

/// BAR1: table and PBA.
pub(super) const TABLE_BAR: BarIndex = match BarIndex::new(1) {
    Ok(bar) => bar,
    Err(_) => unreachable!(),
};
/// Messages that are taken before others have a turn: a server that never stops must not stop the VMM.
const AT_ONCE: usize = 1000;
