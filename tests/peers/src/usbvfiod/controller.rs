//! As much of a driver of usbvfiod's USB controller as raises events: a No-Op on the command ring is
//! completed by an event on the event ring, and that by an interrupt.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The rings, in memory that the server maps, and the eventfd that it writes.
pub(super) struct Controller {
    memory: File,
    eventfd: EventFd,
    /// Commands given, from the first one on.
    given: u64,
    /// Events taken from the event ring.
    taken: u64,
}

/// Where the memory is for the device, and its size: both rings and the table of the one segment of events.
const MEMORY: u64 = 0x10_0000;
const SEGMENTS: u64 = MEMORY;
const COMMANDS: u64 = MEMORY + 0x1_0000;
const EVENTS: u64 = MEMORY + 0x2_0000;
const SIZE: u64 = 0x3_0000;
/// Entries of each ring. They are not used twice: no device is asked for so many events.
const ENTRIES: u64 = 4096;
/// Bytes of an entry.
const ENTRY: u64 = 16;

/// The registers, in BAR 0: those of a controller say where they are, and usbvfiod's never change.
const USBCMD: u64 = 0x40;
const CRCR: u64 = 0x58;
const IMAN: u64 = 0x3020;
const ERSTSZ: u64 = 0x3028;
const ERSTBA: u64 = 0x3030;
const ERDP: u64 = 0x3038;
const DOORBELL: u64 = 0x2000;

/// Run, and Interrupter Enable.
const RUN: u32 = 1 | 1 << 2;
/// The type of a No-Op, and the cycle bit.
const NO_OP: u32 = 23 << 10 | CYCLE;
const CYCLE: u32 = 1;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the ring of events may take to be there, before it is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

impl Controller {
    /// Gives the controller its rings, and runs it with an eventfd.
    pub(super) fn start(client: &mut Client) -> Result<Self, String> {
        let memory = tempfile::tempfile().map_err(|why| why.to_string())?;
        memory.set_len(SIZE).map_err(|why| why.to_string())?;
        let eventfd = EventFd::new(EFD_NONBLOCK).map_err(|why| why.to_string())?;
        client
            .dma_map(0, MEMORY, SIZE, memory.as_raw_fd())
            .map_err(|why| format!("the memory: {why}"))?;
        let mut controller = Self { memory, eventfd, given: 0, taken: 0 };
        controller.connect(client)?;
        let segment = [EVENTS.to_le_bytes(), ENTRIES.to_le_bytes()].concat();
        controller.put(SEGMENTS, &segment)?;
        write(client, CRCR, COMMANDS as u32 | CYCLE)?;
        write(client, IMAN, 2)?;
        write(client, USBCMD, RUN)?;
        // A server that has just begun may miss the write to ERSTBA, and drops events until there is a ring.
        let begin = Instant::now();
        loop {
            write(client, ERSTSZ, 1)?;
            write(client, ERDP, EVENTS as u32)?;
            write(client, ERSTBA, SEGMENTS as u32)?;
            controller.command(client)?;
            if controller.event(AGAIN)? {
                break;
            }
            if begin.elapsed() > PATIENCE {
                return Err("the controller completes no command".into());
            }
        }
        controller.done(client)?;
        controller.interrupts()?;
        Ok(controller)
    }

    /// Connects the eventfd to the vector.
    pub(super) fn connect(&self, client: &mut Client) -> Result<(), String> {
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
        let fds = [self.eventfd.as_raw_fd()];
        let set = client.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, 1, &fds);
        set.map_err(|why| format!("the eventfd: {why}"))
    }

    /// Takes all eventfds from the device.
    pub(super) fn disconnect(&self, client: &mut Client) -> Result<(), String> {
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
        let set = client.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, 0, &[]);
        set.map_err(|why| format!("no eventfd: {why}"))
    }

    /// Makes the controller complete a command. When this returns, its event is in the ring.
    pub(super) fn raise(&mut self, client: &mut Client) -> Result<(), String> {
        self.command(client)?;
        if !self.event(PATIENCE)? {
            return Err("a command was not completed".into());
        }
        self.done(client)
    }

    /// Waits for an interrupt; returns what the eventfd counted.
    pub(super) fn interrupts(&self) -> Result<u64, String> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Ok(count) = self.eventfd.read() {
                return Ok(count);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Err("an event without an interrupt".into())
    }

    fn command(&mut self, client: &mut Client) -> Result<(), String> {
        // The entry behind it stays 0, which ends the ring.
        if self.given == ENTRIES - 1 {
            return Err("the rings are full".into());
        }
        let mut entry = [0; ENTRY as usize];
        entry[12..].copy_from_slice(&NO_OP.to_le_bytes());
        self.put(COMMANDS + ENTRY * self.given, &entry)?;
        self.given += 1;
        write(client, DOORBELL, 0)
    }

    /// Whether the next event comes in time.
    fn event(&mut self, patience: Duration) -> Result<bool, String> {
        let control = EVENTS - MEMORY + ENTRY * self.taken + 12;
        let begin = Instant::now();
        loop {
            let mut bytes = [0; 4];
            self.memory.read_exact_at(&mut bytes, control).map_err(|why| why.to_string())?;
            if u32::from_le_bytes(bytes) & CYCLE != 0 {
                self.taken += 1;
                return Ok(true);
            }
            if begin.elapsed() > patience {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Tells the controller that its events were taken.
    fn done(&self, client: &mut Client) -> Result<(), String> {
        write(client, ERDP, (EVENTS + ENTRY * self.taken) as u32)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), String> {
        self.memory.write_all_at(bytes, at - MEMORY).map_err(|why| why.to_string())
    }
}

fn write(client: &mut Client, register: u64, value: u32) -> Result<(), String> {
    client
        .region_write(0, register, &value.to_le_bytes())
        .map_err(|why| format!("register {register:#x}: {why}"))
}
