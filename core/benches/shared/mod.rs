//! What is measured, on the engine and on the floor alike. Used by the criterion benchmark and by
//! the program whose instructions are counted.

use msix_core::{
    BarIndex, Effect, EffectSink, Inline, Layout, Msix, Policy, Storage, Vector, Vectors,
};
use twox_hash::XxHash64;

/// A sink that only counts, as the floor does.
#[derive(Debug, Default)]
pub(crate) struct Count {
    effects: u64,
}

impl EffectSink for Count {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, _: Effect) {
        self.effects += 1;
    }
}

/// What both sides can do.
pub(crate) trait Subject {
    fn notify(&mut self, vector: u16);
    fn write_table(&mut self, offset: u64, value: u32);
    fn read_table(&mut self, offset: u64) -> u32;
    fn write_control(&mut self, high: u8);
    fn read_pba(&mut self, offset: u64) -> u64;
    fn pend_all(&mut self);
    fn saved_len(&self) -> usize;
    fn save(&mut self, bytes: &mut [u8]);
    /// Loads what `save` wrote, or that as a snapshot of version 1.
    fn load(&mut self, bytes: &[u8], version: u8);
}

/// The engine, inline storage, every vector used once, a backend attached.
#[derive(Debug)]
pub(crate) struct Engine<S> {
    msix: Msix<S>,
    sink: Count,
}

impl<const N: usize, const W: usize> Engine<Inline<N, W>> {
    pub(crate) fn new() -> Self {
        let vectors = u16::try_from(N).unwrap();
        let layout = Layout::exclusive_bar(u32::from(vectors), BarIndex::new(1).unwrap()).unwrap();
        let mut msix = Msix::new(layout, Policy::SPEC).unwrap();
        let mut sink = Count::default();
        for index in 0..vectors {
            msix.claim(Vector::new(index), &mut sink).unwrap();
        }
        msix.attach(&mut sink).unwrap();
        Self { msix, sink }
    }
}

impl<S: Storage> Subject for Engine<S> {
    fn notify(&mut self, vector: u16) {
        self.msix.notify(Vector::new(vector), &mut self.sink).unwrap();
    }

    fn write_table(&mut self, offset: u64, value: u32) {
        self.msix.write_table(offset, &value.to_le_bytes(), &mut self.sink).unwrap();
    }

    fn read_table(&mut self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.msix.read_table(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write_control(&mut self, high: u8) {
        self.msix.write_config(3, &[high], &mut self.sink).unwrap();
    }

    fn read_pba(&mut self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.msix.read_pba(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn pend_all(&mut self) {
        for word in 0..self.msix.vectors().div_ceil(64) {
            self.msix.report_held(Vectors::new(word, u64::MAX), &mut self.sink).unwrap();
        }
    }

    fn saved_len(&self) -> usize {
        self.msix.saved_len()
    }

    fn save(&mut self, bytes: &mut [u8]) {
        self.msix.save(bytes).unwrap();
    }

    fn load(&mut self, bytes: &[u8], _: u8) {
        self.msix.load(bytes).unwrap();
    }
}

/// The practical limit: entries and bitmaps with no checks but its bounds, no policy, no use
/// counts, a host that is a counter.
#[derive(Debug)]
pub(crate) struct Floor<const N: usize, const W: usize> {
    entries: [[u32; 4]; N],
    pending: [u64; W],
    masked: [u64; W],
    enabled: bool,
    function_masked: bool,
    told: u64,
    copy: Vec<u8>,
}

impl<const N: usize, const W: usize> Floor<N, W> {
    pub(crate) fn new() -> Self {
        Self {
            entries: [[0, 0, 0, 1]; N],
            pending: [0; W],
            masked: [u64::MAX; W],
            enabled: false,
            function_masked: false,
            told: 0,
            copy: vec![0; 18 * N + 8 * W + 16],
        }
    }
}

impl<const N: usize, const W: usize> Subject for Floor<N, W> {
    fn notify(&mut self, vector: u16) {
        let (word, bit) = (usize::from(vector) / 64, 1 << (vector % 64));
        if !self.enabled || self.function_masked || self.masked[word] & bit != 0 {
            self.pending[word] |= bit;
        } else {
            self.told += 1;
        }
    }

    fn write_table(&mut self, offset: u64, value: u32) {
        let (index, field) = (usize::try_from(offset / 16).unwrap(), offset % 16 / 4);
        let entry = &mut self.entries[index];
        entry[usize::try_from(field).unwrap()] = value;
        if field == 3 {
            let (word, bit) = (index / 64, 1 << (index % 64));
            let was = self.masked[word] & bit != 0;
            if value & 1 != 0 {
                self.masked[word] |= bit;
            } else {
                self.masked[word] &= !bit;
            }
            if was != (value & 1 != 0) && self.enabled && !self.function_masked {
                self.told += 1;
                if was && self.pending[word] & bit != 0 {
                    self.pending[word] &= !bit;
                    self.told += 1;
                }
            }
        }
    }

    fn read_table(&mut self, offset: u64) -> u32 {
        let index = usize::try_from(offset / 16).unwrap();
        self.entries[index][usize::try_from(offset % 16 / 4).unwrap()]
    }

    fn write_control(&mut self, high: u8) {
        let was = self.enabled && !self.function_masked;
        self.enabled = high & 0x80 != 0;
        self.function_masked = high & 0x40 != 0;
        let now = self.enabled && !self.function_masked;
        if was != now {
            for (masked, pending) in self.masked.iter().zip(&mut self.pending) {
                self.told += u64::from(!masked != 0);
                if now {
                    let mut ready = *pending & !masked;
                    *pending &= masked;
                    while ready != 0 {
                        ready &= ready - 1;
                        self.told += 1;
                    }
                }
            }
        }
    }

    fn read_pba(&mut self, offset: u64) -> u64 {
        self.pending[usize::try_from(offset / 8).unwrap()]
    }

    fn pend_all(&mut self) {
        self.pending.fill(u64::MAX);
    }

    fn saved_len(&self) -> usize {
        self.copy.len()
    }

    /// Copying and checking the same number of bytes.
    fn save(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.copy);
        self.told += XxHash64::oneshot(0, bytes);
    }

    fn load(&mut self, bytes: &[u8], version: u8) {
        self.told += match version {
            1 => u64::from(CRC.checksum(bytes)),
            _ => XxHash64::oneshot(0, bytes),
        };
        self.copy.copy_from_slice(bytes);
    }
}

/// The checksum of the engine's snapshots of version 1.
const CRC: crc::Crc<u32, crc::Table<1>> =
    crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);

const ENABLED: u8 = 0x80;
const FUNCTION_MASKED: u8 = 0xc0;

/// Makes what `save` wrote a snapshot of version 1.
fn seal_as_version_1(bytes: &mut [u8]) {
    bytes[4] = 1;
    let (covered, checksum) = bytes.split_last_chunk_mut().unwrap();
    *checksum = CRC.checksum(covered).to_le_bytes();
}

/// Three writes of a message, and the read that flushes them, as Linux does.
fn program<T: Subject>(subject: &mut T, entry: u64, data: u32) {
    subject.write_table(entry, 0xfee0_0000);
    subject.write_table(entry + 4, 0);
    subject.write_table(entry + 8, data);
    std::hint::black_box(subject.read_table(entry + 8));
}

/// Makes a step through a call, as a VMM does that has the number of an access from its guest: neither side
/// is compiled into the loop around it.
#[inline(never)]
pub(crate) fn measured<T>(subject: &mut T, step: &mut dyn FnMut(&mut T)) {
    step(subject);
}

/// Runs `scenario` `times` times on `subject`, each measured step through `measure`.
///
/// Returns false when there is no scenario of that name.
pub(crate) fn run<T: Subject>(
    scenario: &str,
    subject: &mut T,
    vectors: u16,
    times: u16,
    measure: &mut impl FnMut(&mut T, &mut dyn FnMut(&mut T)),
) -> bool {
    subject.write_control(ENABLED);
    let masked = ["notify-masked", "notify-masked-64", "address", "bring-up"].contains(&scenario);
    for vector in 0..vectors {
        subject.write_table(u64::from(vector) * 16 + 12, u32::from(masked));
    }
    let mut bytes = vec![0; subject.saved_len()];
    for round in 0..times {
        let vector = round % vectors;
        let entry = u64::from(vector) * 16;
        match scenario {
            "notify-unmasked" | "notify-masked" | "notify-masked-64" => {
                measure(subject, &mut |s| s.notify(vector))
            }
            "address" => {
                measure(subject, &mut |s| s.write_table(entry, 0xfee0_0000 + u32::from(round)));
            }
            "mask-unmask" => measure(subject, &mut |s| {
                s.write_table(entry + 12, 1);
                s.write_table(entry + 12, 0);
            }),
            "table-read" => measure(subject, &mut |s| {
                std::hint::black_box(s.read_table(entry + 8));
            }),
            // T1 and T2 of one vector.
            "bring-up" => measure(subject, &mut |s| {
                std::hint::black_box(s.read_table(entry + 12));
                program(s, entry, 0xef);
                s.write_table(entry + 12, 1);
                program(s, entry, 0x20);
                program(s, entry, 0x20);
                s.write_table(entry + 12, 0);
            }),
            // T3.
            "affinity" => measure(subject, &mut |s| {
                s.write_table(entry + 12, 1);
                std::hint::black_box(s.read_table(0));
                program(s, entry, 0x30 + u32::from(round));
                program(s, entry, 0x31 + u32::from(round));
                s.write_table(entry + 12, 0);
            }),
            "function-mask" | "function-mask-pending" => {
                measure(subject, &mut |s| s.write_control(FUNCTION_MASKED));
                if scenario == "function-mask-pending" {
                    subject.pend_all();
                }
                measure(subject, &mut |s| s.write_control(ENABLED));
            }
            "pba" => {
                let offset = u64::from(vector / 64) * 8;
                measure(subject, &mut |s| {
                    std::hint::black_box(s.read_pba(offset));
                });
            }
            "save" => measure(subject, &mut |s| s.save(&mut bytes)),
            "load" => {
                subject.save(&mut bytes);
                measure(subject, &mut |s| s.load(&bytes, 2));
            }
            "load-version-1" => {
                subject.save(&mut bytes);
                seal_as_version_1(&mut bytes);
                measure(subject, &mut |s| s.load(&bytes, 1));
            }
            _ => return false,
        }
    }
    true
}

/// The scenarios, with the vectors of the function they run on.
pub(crate) const SCENARIOS: [(&str, u16); 14] = [
    ("notify-unmasked", 64),
    ("notify-masked", 2048),
    ("address", 64),
    ("notify-masked-64", 64),
    ("mask-unmask", 64),
    ("table-read", 64),
    ("bring-up", 64),
    ("affinity", 64),
    ("function-mask", 2048),
    ("function-mask-pending", 2048),
    ("pba", 2048),
    ("save", 2048),
    ("load", 2048),
    ("load-version-1", 2048),
];
