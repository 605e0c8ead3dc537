//! One QEMU with one device.

use super::refuses;
use super::saved::exchange;
use super::traced::Traced;
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Claims, Device, FunctionReset, HostLog, HostScript, IntxLog,
    Message, QemuField, Refused, SideChannel, Snapshots, Withdrawal,
};
use msix_peers::{Player, Qemu, QemuError, QemuFunction, find_msix_field};
use std::path::PathBuf;

/// Command: memory, with or without bus master.
const COMMAND: [u16; 2] = [0b010, 0b110];
/// Length of the capability, bytes.
const CAPABILITY_LEN: usize = 12;
/// The machine itself sends this when it is reset, before any device could.
const OF_THE_MACHINE: Message = Message { address: 0xfee0_0000, data: 0 };

#[derive(Debug)]
pub(super) struct QemuDevice {
    program: Player,
    vectors: u16,
    traced: Traced,
    function: QemuFunction,
    bus_master: bool,
    messages: Vec<Message>,
    /// The stream of this machine, which QEMU writes once: it takes a machine that was migrated
    /// for one that lives on elsewhere.
    saved: Option<Saved>,
}

/// A migration stream.
#[derive(Debug)]
struct Saved {
    path: PathBuf,
    stream: Vec<u8>,
    /// Nothing was done since.
    is_current: bool,
    bus_master: bool,
}

/// An error of QEMU is no answer of a device: it ends the case, with QEMU's own last words.
fn ended<T>(traced: &mut Traced, error: QemuError) -> T {
    panic!("{}", traced.qemu.explain(error))
}

impl QemuDevice {
    pub(super) fn start(program: &Player, vectors: u16) -> Self {
        let mut traced = match Traced::start(program, vectors, None) {
            Ok(traced) => traced,
            Err(error) => panic!("{error}"),
        };
        let function = traced.set_up().unwrap_or_else(|error| ended(&mut traced, error));
        let program = program.clone();
        let (messages, bus_master, saved) = (Vec::new(), true, None);
        let mut device = Self { program, vectors, traced, function, bus_master, messages, saved };
        device.collect_after_reset();
        device
    }

    fn ask<T>(&mut self, question: impl FnOnce(&mut Traced) -> Result<T, QemuError>) -> T {
        let answer = question(&mut self.traced);
        answer.unwrap_or_else(|error| ended(&mut self.traced, error))
    }

    fn collect(&mut self) {
        let new = self.ask(Traced::messages);
        self.messages.extend(new);
    }

    fn collect_after_reset(&mut self) {
        let new = self.ask(Traced::messages);
        self.messages.extend(new.into_iter().filter(|message| *message != OF_THE_MACHINE));
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) {
        self.ask(|traced| QemuFunction::read(&mut traced.qemu, address, bytes));
    }

    /// Something is done to the machine.
    fn touch(&mut self) {
        if let Some(saved) = &mut self.saved {
            saved.is_current = false;
        }
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        self.touch();
        self.ask(|traced| QemuFunction::write(&mut traced.qemu, address, bytes));
    }

    fn field_len(&self) -> usize {
        usize::from(self.vectors) * 16 + usize::from(self.vectors).div_ceil(8)
    }

    /// The machine that loads a stream.
    fn begin_from(&self, stream: PathBuf) -> Result<Traced, QemuError> {
        let mut next = Traced::start(&self.program, self.vectors, Some(stream))?;
        let loaded = next.qemu.await_incoming();
        loaded.map_err(|error| next.qemu.explain(error)).map(|()| next)
    }

    /// The last stream of this machine; a first one if there is none.
    fn saved(&mut self) -> &Saved {
        let saved = self.saved.take().unwrap_or_else(|| {
            let (path, stream) = self.ask(|traced| {
                let path = traced.qemu.migrate()?;
                let stream = std::fs::read(&path).map_err(of_the_stream)?;
                Ok((path, stream))
            });
            Saved { path, stream, is_current: true, bus_master: self.bus_master }
        });
        self.saved.insert(saved)
    }
}

fn of_the_stream(source: std::io::Error) -> QemuError {
    QemuError::System { what: "migration stream", source }
}

/// What of an access of `len` bytes at `offset` lies in the capability, in pieces that the
/// configuration ports can access at once: aligned, up to a dword. A guest that wants other bytes
/// does the same, in this order.
fn pieces(offset: usize, len: usize) -> Vec<(usize, usize)> {
    let end = offset.saturating_add(len).min(CAPABILITY_LEN);
    let mut at = offset;
    let mut pieces = Vec::new();
    while at < end {
        let fits = |width: &usize| at.is_multiple_of(*width) && at + width <= end;
        let width = [4, 2].into_iter().find(fits).unwrap_or(1);
        pieces.push((at, width));
        at += width;
    }
    pieces
}

/// Config offset and width of a piece.
fn place(function: QemuFunction, at: usize, width: usize) -> Result<(u8, u8), QemuError> {
    let wrong = |_| QemuError::Device("the capability lies outside config space".to_owned());
    let at = u8::try_from(usize::from(function.capability) + at).map_err(wrong)?;
    Ok((at, u8::try_from(width).map_err(wrong)?))
}

impl Device for QemuDevice {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        let function = self.function;
        bytes.fill(0xff); // past the capability, which is not read
        for (at, width) in pieces(offset, bytes.len()) {
            let value = self.ask(|traced| {
                let (place, len) = place(function, at, width)?;
                function.config(&mut traced.qemu, place, len)
            });
            bytes[at - offset..][..width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.touch();
        let function = self.function;
        for (at, width) in pieces(offset, bytes.len()) {
            let mut value = [0; 8];
            value[..width].copy_from_slice(&bytes[at - offset..][..width]);
            self.ask(|traced| {
                let (place, len) = place(function, at, width)?;
                function.set_config(&mut traced.qemu, place, len, u64::from_le_bytes(value))
            });
        }
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.read(self.function.table.wrapping_add(offset), bytes);
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.write(self.function.table.wrapping_add(offset), bytes);
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.read(self.function.pba.wrapping_add(offset), bytes);
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        self.write(self.function.pba.wrapping_add(offset), bytes);
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        match u16::try_from(vector) {
            Ok(v) if v < self.vectors => {
                self.touch();
                self.ask(|traced| traced.qemu.raise(0, v));
                Ok(())
            }
            _ => Err(Refused(format!("vector {vector} has no eventfd"))),
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        self.collect();
        std::mem::take(&mut self.messages)
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        None // the device claims every vector from its creation
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        None // an eventfd cannot take an event back
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        None
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        Some(self)
    }
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        None // the doorbell device has no interrupt pin
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        None // without KVM nothing is told to a host
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        None
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        None
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        None
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        None // its own encoding is the migration stream, whose msix field is offered
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        if self.program.migrates() { Some(self) } else { None }
    }
}

impl FunctionReset for QemuDevice {
    fn reset(&mut self) {
        self.touch();
        self.collect();
        let command = COMMAND[usize::from(self.bus_master)];
        self.function = self.ask(|traced| {
            traced.qemu.reset()?;
            let function = traced.set_up()?;
            function.command(&mut traced.qemu, command)?;
            Ok(function)
        });
        self.collect_after_reset();
    }
}

impl BusMaster for QemuDevice {
    fn set_bus_master(&mut self, on: bool) {
        self.touch();
        self.bus_master = on;
        let function = self.function;
        self.ask(|traced| function.command(&mut traced.qemu, COMMAND[usize::from(on)]));
    }
}

impl QemuField for QemuDevice {
    fn save_field(&mut self) -> Vec<u8> {
        let (capability, len) = (self.function.capability, self.field_len());
        let saved = self.saved();
        assert!(saved.is_current, "QEMU migrates a machine only once, and it was changed since");
        let found = find_msix_field(&saved.stream, Qemu::slot(0), capability, len);
        self.ask(|_| found).msix
    }

    /// QEMU loads into a new machine, so this is a migration: the stream of this machine, with the
    /// control and field of the caller put in, is what the next one begins from.
    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        let (capability, len) = (self.function.capability, self.field_len());
        let saved = self.saved();
        let (path, was_master) = (saved.path.with_extension("changed"), saved.bus_master);
        let changed = exchange(&saved.stream, capability, len, control, field);
        let written = changed.and_then(|it| std::fs::write(&path, it).map_err(of_the_stream));
        self.ask(|_| written);
        let next = match self.begin_from(path) {
            Ok(next) => next,
            Err(QemuError::Ended { status, stderr }) if refuses(&status) => {
                return Err(Refused(stderr));
            }
            Err(error) => panic!("{error}"),
        };
        self.collect(); // the last ones of the machine that is left
        self.traced = next;
        self.saved = None;
        self.collect_after_reset();
        if self.bus_master != was_master {
            self.set_bus_master(self.bus_master);
        }
        Ok(())
    }

    fn resume_field(&mut self) {} // QEMU does during the load what it does (F5)
}
