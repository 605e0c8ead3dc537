//! The registers of a function, as bytes with a mask of the bits that a guest can write, and what they
//! say. Written from the rules and nothing else; strict policy ([`Policy::SPEC`](msix_core::Policy)).

use crate::setup::Setup;

/// An address of an interrupt.
pub(crate) const ADDRESS: u32 = 0xfee0_0000;
/// What a guest sets in the high half of an address that is no interrupt's.
pub(crate) const HIGH: u32 = 1;

/// How a function interrupts.
pub(crate) use msix_core::Mode;

/// Bytes with the bits of them that can be written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bytes {
    pub(crate) values: Vec<u8>,
    writable: Vec<u8>,
}

impl Bytes {
    fn new(values: Vec<u8>, writable: Vec<u8>) -> Self {
        Self { values, writable }
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        for (index, byte) in (at..).zip(bytes) {
            if let (Some(value), Some(mask)) =
                (self.values.get_mut(index), self.writable.get(index))
            {
                *value = *value & !mask | byte & mask;
            }
        }
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.values[at], self.values[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }
}

/// The registers, without what changes by itself: pending bits and Interrupt Status.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Registers {
    pub(crate) command: u16,
    /// The level of an emulated device.
    pub(crate) level: bool,
    pub(crate) msix: Option<Bytes>,
    pub(crate) table: Bytes,
    pub(crate) msi: Option<Bytes>,
    wide: bool,
    masks: bool,
    pin: bool,
    pub(crate) vectors: u8,
}

impl Registers {
    /// After reset (A1, A3, A14, A17).
    pub(crate) fn new(setup: &Setup) -> Self {
        let n = setup.vectors;
        let control = u16::from(n) - 1;
        let [low, high] = control.to_le_bytes();
        let pba = if n > 128 { 16 * u32::from(n) } else { 0x800 };
        let mut msix = vec![0x11, 0, low, high, 0, 0, 0, 0];
        msix.extend(pba.to_le_bytes());
        let mut msix_writable = vec![0; 12];
        msix_writable[3] = 0xc0;
        let entry = [0; 12].into_iter().chain([1, 0, 0, 0]);
        let entry_writable = [0xff; 12].into_iter().chain([1, 0, 0xff, 0xff]);
        let shape = setup.msi;
        Self {
            command: 0,
            level: false,
            msix: setup.msix.then(|| Bytes::new(msix, msix_writable)),
            table: Bytes::new(
                entry.collect::<Vec<_>>().repeat(n.into()),
                entry_writable.collect::<Vec<_>>().repeat(n.into()),
            ),
            msi: shape.map(|shape| msi(n, shape.wide, shape.masks)),
            wide: shape.is_some_and(|shape| shape.wide),
            masks: shape.is_some_and(|shape| shape.masks),
            pin: setup.pin,
            vectors: n,
        }
    }

    pub(crate) fn bus_master(&self) -> bool {
        self.command & 4 != 0
    }

    pub(crate) fn intx_disabled(&self) -> bool {
        self.command & 0x400 != 0
    }

    pub(crate) fn msix_enabled(&self) -> bool {
        self.msix.as_ref().is_some_and(|bytes| bytes.u16(2) & 0x8000 != 0)
    }

    pub(crate) fn msi_enabled(&self) -> bool {
        self.msi.as_ref().is_some_and(|bytes| bytes.u16(2) & 1 != 0)
    }

    /// MSI-X is preferred (H18).
    pub(crate) fn mode(&self) -> Mode {
        match (self.msix_enabled(), self.msi_enabled(), self.pin) {
            (true, ..) => Mode::MsiX,
            (_, true, _) => Mode::Msi,
            (.., true) => Mode::Intx,
            _ => Mode::None,
        }
    }

    /// MSI vectors that the guest allocated (A15).
    pub(crate) fn allocated(&self) -> u8 {
        let Some(bytes) = &self.msi else { return 1 };
        let (capable, multiple) = (bytes.u16(2) >> 1 & 7, bytes.u16(2) >> 4 & 7);
        1 << multiple.min(capable)
    }

    /// The message as which an event of a device's vector goes out in a mode.
    pub(crate) fn message(&self, mode: Mode, vector: u8) -> Option<(u64, u32)> {
        match mode {
            Mode::MsiX => {
                let at = usize::from(vector) * 16;
                let low = self.table.u32(at) & !3;
                let address = u64::from(self.table.u32(at + 4)) << 32 | u64::from(low);
                Some((address, self.table.u32(at + 8)))
            }
            Mode::Msi => {
                let bytes = self.msi.as_ref()?;
                let high = if self.wide { bytes.u32(8) } else { 0 };
                let address = u64::from(high) << 32 | u64::from(bytes.u32(4));
                let data = u32::from(bytes.u16(self.data_at()));
                let low = u32::from(self.allocated()) - 1;
                Some((address, data & !low | u32::from(vector) & low))
            }
            Mode::Intx | Mode::None => None,
        }
    }

    pub(crate) fn data_at(&self) -> usize {
        if self.wide { 12 } else { 8 }
    }

    /// Where the mask bits of MSI are; the pending bits follow.
    pub(crate) fn masks_at(&self) -> Option<usize> {
        self.masks.then_some(self.data_at() + 4)
    }

    /// Whether a message of a device's vector is sent at once (A6, A11, A16).
    pub(crate) fn deliverable(&self, vector: u8) -> bool {
        let unmasked = match (self.mode(), &self.msix, &self.msi) {
            (Mode::MsiX, Some(msix), _) => {
                let entry = self.table.values[usize::from(vector) * 16 + 12];
                msix.u16(2) & 0x4000 == 0 && entry & 1 == 0
            }
            (Mode::Msi, _, Some(msi)) => {
                let masked = self.masks_at().map_or(0, |at| msi.u32(at));
                masked >> (vector % self.allocated()) & 1 == 0
            }
            _ => false,
        };
        unmasked && self.bus_master()
    }

    /// Whether the pin may be high (A10, A17).
    pub(crate) fn intx_open(&self) -> bool {
        self.mode() == Mode::Intx && !self.intx_disabled()
    }
}

fn msi(vectors: u8, wide: bool, masks: bool) -> Bytes {
    let capable = u16::from(vectors).next_power_of_two().trailing_zeros() as u16;
    let control = capable << 1 | u16::from(wide) << 7 | u16::from(masks) << 8;
    let mut values = vec![5, 0];
    values.extend(control.to_le_bytes());
    let mut writable = vec![0, 0, 0x71, 0, 0xfc, 0xff, 0xff, 0xff];
    if wide {
        writable.extend([0xff; 4]);
    }
    writable.extend([0xff; 2]);
    if masks {
        let bits = ((1_u64 << vectors.next_power_of_two()) - 1) as u32;
        writable.extend([0; 2]);
        writable.extend(bits.to_le_bytes());
        writable.extend([0; 4]);
    }
    values.resize(writable.len(), 0);
    Bytes::new(values, writable)
}
