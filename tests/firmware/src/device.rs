//! The embedded engine as a subject of the cases.

#![expect(unsafe_code, reason = "a device is in static memory, and given back when it is dropped")]

use crate::embedded::{Embedded, POLICY, layout};
use crate::pool::{Empty, Key, Pool};
use crate::record::Record;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Choices, Claims, Device, ExclusiveBar, FunctionReset,
    HostCall, HostLog, HostScript, IntxCall, IntxLog, Layouts, Message, NoDevice, Placement,
    QemuField, Refused, SideChannel, Snapshots, Subject, Withdrawal,
};
use msix_core::{
    BarIndex, Borrowed, Effects, Entry, Inline, Layout, Location, MAX_EFFECTS, Msix, Region,
    Storage, Vector, VectorError, Word,
};

/// Where the engine has its memory.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// Arrays inside it, for 64 vectors.
    Inline,
    /// Static arrays that it is lent.
    Static,
}

/// How a device's events reach the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// The engine sends each.
    Engine,
    /// The backend delivers those of armed vectors.
    Backend,
}

impl Path {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Backend => "backend",
        }
    }
}

/// The engine in one kind of memory, with events that take one path.
pub(crate) struct Firmware(pub(crate) Memory, pub(crate) Path);

impl Subject for Firmware {
    fn name(&self) -> String {
        let memory = match self.0 {
            Memory::Inline => "inline memory",
            Memory::Static => "static memory",
        };
        format!("firmware, {memory}, events by the {}", self.1.name())
    }

    fn choices(&self) -> Choices {
        Choices::of(&POLICY)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        let layout = layout(vectors).map_err(|why| NoDevice::Refused(why.to_string()))?;
        let no_room = || NoDevice::NotOffered("no room".into());
        match self.0 {
            Memory::Inline => {
                // SAFETY: the key is dropped with the device.
                let (room, key) = unsafe { INLINE.take() }.ok_or_else(no_room)?;
                let msix = Msix::new(layout, POLICY);
                let msix = msix.map_err(|why| NoDevice::NotOffered(why.to_string()))?;
                Ok(Placed::boxed(&mut room.embedded, msix, &mut room.record, self.1, key))
            }
            Memory::Static => {
                // SAFETY: as above.
                let (room, key) = unsafe { STATIC.take() }.ok_or_else(no_room)?;
                let (n, memory) = (usize::from(layout.vectors()), room.memory.write(Lent::new()));
                let words = &mut memory.words[..n.div_ceil(64)];
                let lent = Borrowed::new(&mut memory.entries[..n], &mut memory.claims[..n], words);
                let msix = Msix::with_storage(lent.expect("it fits"), layout, POLICY);
                let msix = msix.expect("it is for so many vectors");
                Ok(Placed::boxed(&mut room.embedded, msix, &mut room.record, self.1, key))
            }
        }
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        Some(self)
    }
}

impl Layouts for Firmware {
    fn exclusive_bar(&self, vectors: u32) -> Result<ExclusiveBar, Refused> {
        let bar = BarIndex::new(3).map_err(Refused::because)?;
        let layout = Layout::exclusive_bar(vectors, bar).map_err(Refused::because)?;
        Ok(ExclusiveBar {
            table: layout.location(Region::Table).offset,
            pba: layout.location(Region::Pba).offset,
            size: layout.min_bar_size(bar),
        })
    }

    fn check(&self, placement: &Placement) -> Result<(), Refused> {
        let at = |(bar, offset)| BarIndex::new(bar).map(|bar| Location::new(bar, offset));
        let (table, pba) = (at(placement.table), at(placement.pba));
        let table = table.map_err(Refused::because)?;
        let pba = pba.map_err(Refused::because)?;
        let layout = Layout::new(placement.vectors, table, pba, &placement.bar_sizes);
        layout.map(drop).map_err(Refused::because)
    }
}

type InlineEngine = Embedded<Inline<64, 1>, 64>;
type StaticEngine = Embedded<Borrowed<'static>, 2048>;

/// The static memory of one engine, beside [`StaticEngine`].
struct Lent {
    entries: [Entry; 2048],
    claims: [u16; 2048],
    words: [Word; 32],
}

impl Lent {
    const fn new() -> Self {
        Self { entries: [Entry::RESET; 2048], claims: [0; 2048], words: [Word::RESET; 32] }
    }
}

pub(crate) struct Room<M, E> {
    memory: MaybeUninit<M>,
    pub(crate) embedded: MaybeUninit<E>,
    pub(crate) record: Record,
}

impl<M, E> Empty for Room<M, E> {
    const EMPTY: Self = Self {
        memory: MaybeUninit::uninit(),
        embedded: MaybeUninit::uninit(),
        record: Record::new(),
    };
}

static INLINE: Pool<Room<(), InlineEngine>, 4> = Pool::new();
static STATIC: Pool<Room<Lent, StaticEngine>, 4> = Pool::new();

/// Bytes of an engine with its backend: 64 vectors inline, and 2048 in static memory.
pub(crate) const BYTES: [usize; 2] =
    [size_of::<InlineEngine>(), size_of::<StaticEngine>() + size_of::<Lent>()];

/// A device in static memory.
struct Placed<S: 'static, const N: usize> {
    embedded: &'static mut Embedded<S, N>,
    record: &'static mut Record,
    path: Path,
    _key: Key,
}

impl<S: Storage, const N: usize> Placed<S, N> {
    fn boxed(
        room: &'static mut MaybeUninit<Embedded<S, N>>,
        msix: Msix<S>,
        record: &'static mut Record,
        path: Path,
        key: Key,
    ) -> Box<dyn Device> {
        record.clear();
        let mut device =
            Self { embedded: room.write(Embedded::new(msix)), record, path, _key: key };
        device.attach();
        Box::new(device)
    }

    fn about<T>(
        &mut self,
        vector: u32,
        input: impl FnOnce(&mut Msix<S>, Vector, &mut Effects<MAX_EFFECTS>) -> Result<T, VectorError>,
    ) -> Result<(), Refused> {
        let vector = vector_of(vector)?;
        let answer = self.embedded.input(self.record, |msix, list| input(msix, vector, list));
        answer.map(drop).map_err(Refused::because)
    }
}

fn vector_of(vector: u32) -> Result<Vector, Refused> {
    let index = u16::try_from(vector);
    index.map(Vector::new).map_err(|_| Refused(format!("vector {vector} does not fit 16 bits")))
}

impl<S: Storage, const N: usize> Device for Placed<S, N> {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.embedded.input(self.record, |msix, _| msix.read_config(offset, bytes));
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.embedded.always(self.record, |msix, list| msix.write_config(offset, bytes, list));
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.embedded.input(self.record, |msix, _| _ = msix.read_table(offset, bytes));
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.embedded.always(self.record, |msix, list| msix.write_table(offset, bytes, list));
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.embedded.always(self.record, |msix, list| msix.poll_pba(offset, bytes.len(), list));
        self.embedded.input(self.record, |msix, _| _ = msix.read_pba(offset, bytes));
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        self.embedded.input(self.record, |msix, _| _ = msix.write_pba(offset, bytes));
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let vector = vector_of(vector)?;
        let taken = self.embedded.event(self.record, vector, self.path == Path::Backend);
        taken.map_err(Refused::because)
    }

    fn messages(&mut self) -> Vec<Message> {
        self.record.take_messages()
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        Some(self)
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        Some(self)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        Some(self)
    }
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        Some(self)
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        Some(self)
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        Some(self)
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        None // there is no kernel under it
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        Some(self)
    }
}

impl<S: Storage, const N: usize> Claims for Placed<S, N> {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::claim)
    }

    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::unclaim)
    }

    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        let count = self.embedded.msix().claims(vector_of(vector)?);
        count.map(u32::from).ok_or_else(|| Refused(format!("no vector {vector}")))
    }
}

impl<S: Storage, const N: usize> Withdrawal for Placed<S, N> {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::withdraw)
    }
}

impl<S: Storage, const N: usize> SideChannel for Placed<S, N> {
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused> {
        self.about(vector, |msix, vector, list| msix.set_mask(vector, masked, list))
    }

    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused> {
        self.about(vector, |msix, vector, list| msix.set_message(vector, message, list))
    }
}

impl<S: Storage, const N: usize> FunctionReset for Placed<S, N> {
    fn reset(&mut self) {
        self.embedded.reset(self.record);
    }
}

impl<S: Storage, const N: usize> BusMaster for Placed<S, N> {
    fn set_bus_master(&mut self, on: bool) {
        self.embedded.always(self.record, |msix, list| msix.set_bus_master(on, list));
    }
}

impl<S: Storage, const N: usize> IntxLog for Placed<S, N> {
    fn calls(&mut self) -> Vec<IntxCall> {
        self.record.take_intx()
    }
}

impl<S: Storage, const N: usize> HostLog for Placed<S, N> {
    fn calls(&mut self) -> Vec<HostCall> {
        self.record.take_calls()
    }
}

impl<S: Storage, const N: usize> HostScript for Placed<S, N> {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        self.record.set_refused(vector, fail);
    }

    fn signal(&mut self, vector: u16) {
        self.embedded.signal(self.record, Vector::new(vector));
    }
}

impl<S: Storage, const N: usize> Attachment for Placed<S, N> {
    fn attach(&mut self) {
        self.embedded.attach(self.record, true);
    }

    fn detach(&mut self) {
        self.embedded.attach(self.record, false);
    }
}

impl<S: Storage, const N: usize> Snapshots for Placed<S, N> {
    fn save(&mut self) -> Vec<u8> {
        self.embedded.always(self.record, Msix::prepare_save);
        let mut bytes = vec![0; self.embedded.msix().saved_len()];
        let saved = self.embedded.input(self.record, |msix, _| msix.save(&mut bytes));
        saved.expect("the buffer has the length asked for");
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.embedded.load(|msix| msix.load(bytes)).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.embedded.resume(self.record);
    }
}

impl<S: Storage, const N: usize> QemuField for Placed<S, N> {
    fn save_field(&mut self) -> Vec<u8> {
        self.embedded.always(self.record, Msix::prepare_save);
        let mut field = vec![0; self.embedded.msix().qemu_len()];
        let saved = self.embedded.input(self.record, |msix, _| msix.save_qemu(&mut field));
        saved.expect("the buffer has the length asked for");
        field
    }

    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        self.embedded.load(|msix| msix.load_qemu(control, field)).map_err(Refused::because)
    }

    fn resume_field(&mut self) {
        self.embedded.resume(self.record);
    }
}
