//! The guests as threads: the same devices, rung by accesses, their eventfds read by userspace.

use super::GoOn;
use super::meeting::{count_of, meet};
use super::plan::{DemoError, DemoOutcome, DemoPlan, PATIENCE, Side, percentiles};
use msix_backends::kvm::Routes;
use msix_ivshmem::{Board, DeviceOptions, IvshmemDevice, routes_without_vm};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const REGISTERS: u32 = 0xe000_0000;
const TABLE: u32 = 0xe010_0000;

/// The guest's handler: counts, and notes how far the other has counted.
#[derive(Debug, Clone, Default)]
struct Handler(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU32,
    /// An interrupt came that the guest's code has not seen.
    raised: AtomicBool,
}

impl Board for Handler {
    fn write_memory(&self, _: u64, _: u32) {
        self.0.taken.fetch_add(1, Ordering::Release);
        self.0.raised.store(true, Ordering::Release);
    }
    fn set_intx(&self, _: bool) {}
}

struct Guest {
    device: IvshmemDevice<Handler>,
    routes: Arc<Routes>,
    handler: Handler,
    index: usize,
    peer: u16,
    sent: u32,
    accounted: u32,
}

pub(super) fn run(
    plan: DemoPlan,
    socket: &Path,
    go_on: GoOn<'_>,
) -> Result<DemoOutcome, DemoError> {
    let mut guests = [Guest::new(socket, 0)?, Guest::new(socket, 1)?];
    let ids = [0, 1].map(|index: usize| guests[index].device.id().unwrap_or_default());
    for (guest, peer) in guests.iter_mut().zip([ids[1], ids[0]]) {
        guest.peer = peer;
        meet(&mut guest.device)?;
    }
    let [first, second] = guests;
    let failed = AtomicBool::new(false);
    let begun = Instant::now();
    let ended = thread::scope(|scope| {
        let answerer = scope.spawn(|| Played::new(second, plan, go_on, &failed).second());
        let caller = Played::new(first, plan, go_on, &failed).first();
        (caller, answerer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let ((first, trips), second) = match ended {
        (Ok(first), Ok(second)) => (first, second),
        // The other one only ended because this one did.
        (Err(DemoError::Interrupted), Err(error)) | (Err(error), _) | (_, Err(error)) => {
            return Err(error);
        }
    };
    Ok(DemoOutcome {
        backend: "userspace",
        without_kvm: None,
        guests: [first, second],
        seconds: begun.elapsed().as_secs_f64(),
        round_trip_ns: percentiles(trips),
    })
}

impl Guest {
    fn new(socket: &Path, index: usize) -> Result<Self, DemoError> {
        let handler = Handler::default();
        let routes = routes_without_vm(handler.clone()).map_err(DemoError::system("epoll"))?;
        let stream = UnixStream::connect(socket).map_err(DemoError::system("server"))?;
        let mut device =
            IvshmemDevice::doorbell(stream, DeviceOptions::new(1), &routes, handler.clone(), None)?;
        for (register, address) in [(0x10, REGISTERS), (0x14, TABLE)] {
            device.write_config(register, &address.to_le_bytes());
        }
        device.write_config(4, &[6, 0]);
        device.write_config(0x42, &[0, 0x80]);
        device.write_bar(1, 12, &[0; 4]);
        Ok(Self { device, routes, handler, index, peer: 0, sent: 0, accounted: 0 })
    }

    fn count(&self, index: usize) -> u32 {
        let mut bytes = [0; 4];
        self.device.read_bar(2, count_of(index), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn ring(&mut self) {
        self.sent += 1;
        self.device.write_bar(2, count_of(self.index), &self.sent.to_le_bytes());
        self.device.write_bar(0, 12, &(u32::from(self.peer) << 16).to_le_bytes());
    }

    /// Takes interrupts that are there; waits `wait` for one.
    fn take(&mut self, wait: Duration) -> Result<(), DemoError> {
        self.routes.run(Some(wait)).map_err(DemoError::system("epoll"))?;
        if self.handler.0.raised.swap(false, Ordering::AcqRel) {
            self.accounted = self.count(1 - self.index);
        }
        Ok(())
    }

    fn taken(&self) -> u32 {
        self.handler.0.taken.load(Ordering::Acquire)
    }

    fn side(&self) -> Side {
        let taken = self.taken();
        Side {
            sent: self.sent,
            taken,
            accounted: self.accounted,
            exits: 0,
            from_userspace: u64::from(taken),
        }
    }
}

/// A guest's code.
struct Played<'a> {
    guest: Guest,
    plan: DemoPlan,
    go_on: GoOn<'a>,
    /// The other one failed.
    failed: &'a AtomicBool,
}

impl<'a> Played<'a> {
    const fn new(guest: Guest, plan: DemoPlan, go_on: GoOn<'a>, failed: &'a AtomicBool) -> Self {
        Self { guest, plan, go_on, failed }
    }

    fn first(mut self) -> Result<(Side, Vec<u64>), DemoError> {
        let mut trips = Vec::new();
        let mut play = || {
            for turn in 1..=self.plan.turns {
                let start = Instant::now();
                self.guest.ring();
                self.until(|guest| guest.taken() >= turn)?;
                trips.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            self.finish()
        };
        let played = play();
        self.end(played).map(|side| (side, trips))
    }

    fn second(mut self) -> Result<Side, DemoError> {
        let mut play = || {
            for turn in 1..=self.plan.turns {
                self.until(|guest| guest.taken() >= turn)?;
                self.guest.ring();
            }
            self.finish()
        };
        let played = play();
        self.end(played)
    }

    fn finish(&mut self) -> Result<(), DemoError> {
        for _ in 0..self.plan.flood {
            self.go_on()?;
            self.guest.ring();
            self.guest.take(Duration::ZERO)?;
        }
        let total = self.plan.rings();
        self.until(|guest| guest.accounted >= total)
    }

    fn end(self, played: Result<(), DemoError>) -> Result<Side, DemoError> {
        self.failed.fetch_or(played.is_err(), Ordering::Relaxed);
        played.map(|()| self.guest.side())
    }

    fn go_on(&self) -> Result<(), DemoError> {
        // The first guest's count is the one that is shown; the second ends with it.
        let asked = self.guest.index == 0 && !(self.go_on)(self.guest.sent);
        let ended = asked || self.failed.load(Ordering::Relaxed);
        if ended { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    fn until(&mut self, done: impl Fn(&Guest) -> bool) -> Result<(), DemoError> {
        let since = Instant::now();
        while !done(&self.guest) {
            self.guest.take(Duration::from_millis(50))?;
            self.go_on()?;
            if since.elapsed() > PATIENCE {
                let mut guests = [Side::default(); 2];
                guests[self.guest.index] = self.guest.side();
                return Err(DemoError::Stuck { guests });
            }
        }
        Ok(())
    }
}
