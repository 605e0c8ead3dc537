//! The common configuration of a virtio device with one queue and no features of its own.

use virtio_queue::{Error, Queue, QueueT as _};

/// What the driver set up.
pub(crate) struct Registers {
    /// The queue; ready when the driver says so.
    pub(crate) queue: Queue,
    /// The vectors of the configuration and of the queue; [`NO_VECTOR`] for none.
    vectors: [u16; 2],
    vector_count: u16,
    feature_words: [u32; 2],
    status: u8,
    queue_select: u16,
}

impl Registers {
    /// Makes the registers of a device with so many MSI-X vectors.
    pub(crate) fn new(vector_count: u16) -> Result<Self, Error> {
        Ok(Self {
            queue: Queue::new(QUEUE_SIZE)?,
            vectors: [NO_VECTOR; 2],
            vector_count,
            feature_words: [0; 2],
            status: 0,
            queue_select: 0,
        })
    }

    /// Resets the device, as a driver does when it writes 0 to the status.
    pub(crate) fn reset(&mut self) {
        self.queue.reset();
        self.vectors = [NO_VECTOR; 2];
        self.feature_words = [0; 2];
        (self.status, self.queue_select) = (0, 0);
    }

    /// Returns whether the driver is ready.
    pub(crate) fn is_driver_ok(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    /// Returns the vector that the driver chose for the queue.
    pub(crate) fn queue_vector(&self) -> Option<u16> {
        Some(self.vectors[1]).filter(|&vector| vector != NO_VECTOR)
    }

    /// Reads for a guest.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes();
        data.fill(0);
        data.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    }

    fn bytes(&self) -> [u8; 56] {
        let mut bytes = [0; 56];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let [offered, accepted] = self.feature_words;
        // Virtio 1.0 is all that is offered: bit 0 of word 1.
        put(0x00, &offered.to_le_bytes());
        put(0x04, &u32::from(offered == 1).to_le_bytes());
        put(0x08, &accepted.to_le_bytes());
        put(0x0c, &u32::from(accepted == 1).to_le_bytes());
        put(0x10, &self.vectors[0].to_le_bytes());
        put(0x12, &1_u16.to_le_bytes()); // queues
        put(0x14, &[self.status]);
        put(0x16, &self.queue_select.to_le_bytes());
        if self.queue_select == 0 {
            put(0x18, &self.queue.size().to_le_bytes());
            put(0x1a, &self.vectors[1].to_le_bytes());
            put(0x1c, &u16::from(self.queue.ready()).to_le_bytes());
            put(0x20, &self.queue.desc_table().to_le_bytes());
            put(0x28, &self.queue.avail_ring().to_le_bytes());
            put(0x30, &self.queue.used_ring().to_le_bytes());
        }
        bytes
    }

    /// Writes for a guest. A queue other than 0 does not exist.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut value = [0; 8];
        value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        let [low, high] = [&value[..4], &value[4..]]
            .map(|word| word.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)));
        let high = (data.len() == 8).then_some(high);
        let queue = self.queue_select == 0;
        match offset {
            0x00 => self.feature_words[0] = low,
            0x08 => self.feature_words[1] = low,
            0x10 => self.vectors[0] = self.vector(low),
            0x14 if low == 0 => self.reset(),
            0x14 => self.status = low as u8,
            0x16 => self.queue_select = low as u16,
            0x18 if queue => self.queue.set_size(low as u16),
            0x1a if queue => self.vectors[1] = self.vector(low),
            0x1c if queue => self.queue.set_ready(low == 1),
            0x20 if queue => self.queue.set_desc_table_address(Some(low), high),
            0x24 if queue => self.queue.set_desc_table_address(None, Some(low)),
            0x28 if queue => self.queue.set_avail_ring_address(Some(low), high),
            0x2c if queue => self.queue.set_avail_ring_address(None, Some(low)),
            0x30 if queue => self.queue.set_used_ring_address(Some(low), high),
            0x34 if queue => self.queue.set_used_ring_address(None, Some(low)),
            _ => {}
        }
    }

    /// Returns what the driver reads back: none for a vector that does not exist.
    fn vector(&self, wanted: u32) -> u16 {
        let vector = wanted as u16;
        if vector < self.vector_count { vector } else { NO_VECTOR }
    }
}

const QUEUE_SIZE: u16 = 64;
const NO_VECTOR: u16 = 0xffff;
/// Status: the driver is set up, and the queue may be used.
const DRIVER_OK: u8 = 4;
