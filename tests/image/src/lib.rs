//! Every public input of the engine, reachable from one entry, in an image that links only if no
//! panic is reachable: the panic handler calls a function that does not exist.
//!
//! See tests/tests/image.rs, which builds and links it.

#![no_std]

mod mem;

use core::hint::black_box;
use core::panic::PanicInfo;
use msix_core::{
    BarIndex, Effects, Inline, Layout, Location, Message, Msix, Operation, Policy, Region, Vector,
    Vectors,
};

unsafe extern "C" {
    /// Does not exist.
    safe fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_is_reachable()
}

type Engine = Msix<Inline<64, 1>>;

/// Bytes from outside; zeros when they end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn qword(&mut self) -> u64 {
        u64::from_le_bytes([0; 8].map(|_: u8| self.byte()))
    }

    fn vector(&mut self) -> Vector {
        Vector::new(self.word())
    }

    fn vectors(&mut self) -> Vectors {
        Vectors::new(self.word(), self.qword())
    }

    fn location(&mut self) -> Option<Location> {
        Some(Location::new(BarIndex::new(self.byte()).ok()?, self.qword()))
    }

    fn operation(&mut self) -> Option<Operation> {
        let offset = self.word();
        let (low, len) = (offset.to_le_bytes()[0], self.byte());
        Some(match self.byte() {
            0 => Operation::WriteConfig { offset: low, len, value: self.qword() },
            1 => Operation::ReadConfig { offset: low, len },
            2 => Operation::WriteTable { offset, len, value: self.qword() },
            3 => Operation::ReadTable { offset, len },
            4 => Operation::PollPba { offset, len },
            5 => Operation::ReadPba { offset, len },
            6 => Operation::WritePba { offset, len },
            7 => Operation::Notify(self.vector()),
            8 => Operation::Withdraw(self.vector()),
            9 => Operation::Use(self.vector()),
            10 => Operation::Unuse(self.vector()),
            11 => Operation::UnuseAll,
            12 => Operation::SetMask(self.vector(), len & 1 != 0),
            13 => {
                let [b0, b1, b2, b3] = [0; 4].map(|_: u8| self.byte());
                let data = u32::from_le_bytes([b0, b1, b2, b3]);
                Operation::SetMessage(self.vector(), Message { address: self.qword(), data })
            }
            14 => Operation::Attach,
            15 => Operation::Detach,
            16 => Operation::Failed(self.vectors()),
            17 => Operation::Polled(self.vectors()),
            18 => Operation::SetBusMaster(len & 1 != 0),
            19 => Operation::Reset,
            20 => Operation::PrepareSave,
            21 => Operation::SaveAndLoad,
            22 => Operation::SaveAndLoadQemu,
            23 => Operation::Resume,
            _ => return None,
        })
    }
}

/// Makes an engine for a hostile layout and policy choice in `place`; whether one was made.
#[unsafe(no_mangle)]
pub extern "C" fn msix_new(place: &mut Option<Engine>, bytes: &[u8; 64]) -> bool {
    let mut input = Input(bytes);
    let policy = if input.byte() & 1 == 0 { Policy::SPEC } else { Policy::QEMU };
    let sizes = [0; 6].map(|_: u64| input.qword());
    let vectors = u32::from(input.word());
    let layout = match (input.byte() % 4, input.location(), input.location()) {
        (0, Some(place), _) => Layout::exclusive_bar(vectors, place.bar),
        (1, Some(place), _) => Layout::after(vectors, place.bar, place.offset),
        (2, Some(table), Some(pba)) => Layout::new(vectors, table, pba, &sizes),
        _ => match bytes.first_chunk() {
            Some(capability) => Layout::from_capability(capability, &sizes),
            None => return false,
        },
    };
    *place = layout.ok().and_then(|layout| Msix::new(layout, policy).ok());
    place.is_some()
}

/// Gives one input to an engine, asks it everything, and takes the effects.
///
/// # Safety
/// `bytes` and `scratch` point to `len` and `scratch_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_input(
    msix: &mut Engine,
    fx: &mut Effects<5>,
    bytes: *const u8,
    len: usize,
    scratch: *mut u8,
    scratch_len: usize,
) -> u64 {
    // SAFETY: the caller's promise.
    let (bytes, scratch) = unsafe {
        (
            core::slice::from_raw_parts(bytes, len),
            core::slice::from_raw_parts_mut(scratch, scratch_len),
        )
    };
    #[cfg(feature = "seeded-panic")]
    black_box(bytes[len / 2]);
    let mut input = Input(bytes);
    if let Some(operation) = input.operation() {
        black_box(operation.apply(msix, scratch, fx));
    }
    black_box((msix.load(input.0).is_ok(), msix.load_qemu(input.word(), input.0).is_ok()));
    while let Some(effect) = fx.take() {
        for vector in effect.vectors().iter() {
            black_box((msix.message(vector), effect.vectors().contains(vector)));
        }
    }
    queries(msix, input.vector(), input.qword())
}

fn queries(msix: &mut Engine, vector: Vector, offset: u64) -> u64 {
    msix.set_next_capability(offset.to_le_bytes()[0]);
    black_box((msix.is_masked(vector), msix.is_pending(vector), msix.is_live(vector)));
    black_box((msix.is_fallback(vector), msix.is_deliverable(vector), msix.use_count(vector)));
    black_box((msix.live().next(), msix.pending().next(), msix.check(), msix.capability()));
    black_box((msix.is_attached(), msix.is_loading(), msix.control(), msix.bus_master()));
    let layout = msix.layout();
    for region in [Region::Table, Region::Pba] {
        let location = layout.location(region);
        black_box((layout.len(region), layout.min_bar_size(location.bar)));
        black_box(layout.locate(location.bar, offset));
    }
    msix.counters().dropped()
}
