//! What the log has told about a function so far. The engine always has a state; this says which
//! parts of it are the function's and which are only assumed.

/// About one function.
#[derive(Debug)]
pub(crate) struct Knowledge {
    /// MSI-X Enable and Function Mask.
    pub(crate) control: bool,
    /// Bus Master Enable, and what it is.
    pub(crate) bus_master: Option<bool>,
    vectors: Vec<VectorKnowledge>,
}

/// About one vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VectorKnowledge {
    /// Bit k: dword k of the entry.
    dwords: u8,
    /// Address or data changed since it was last unmasked: which message it sends is undefined
    /// (A9).
    pub(crate) rewritten: bool,
    /// It is pending, but the device may have dropped that without a trace: a driver that disables
    /// MSI-X or clears the entry (T4, T5) may have made the device stop using the vector, which
    /// clears its pending bit (H9).
    pub(crate) doubtful: bool,
    /// Its pending event was delivered already, against the rules.
    pub(crate) delivered: bool,
    /// Up to this line a message may come for an event that the log does not show.
    pub(crate) pending_unknown_until: u64,
}

const ALL: u8 = 0b1111;
const MESSAGE: u8 = 0b0111;
const CONTROL: u8 = 0b1000;

impl Knowledge {
    /// Nothing is known: the log began in the middle of the guest's life.
    pub(crate) fn none(vectors: u16) -> Self {
        let unknown = VectorKnowledge {
            dwords: 0,
            rewritten: false,
            doubtful: false,
            delivered: false,
            pending_unknown_until: u64::MAX,
        };
        let vectors = vec![unknown; usize::from(vectors)];
        Self { control: false, bus_master: None, vectors }
    }

    /// All is known: the function has just come out of reset (A13).
    pub(crate) fn fresh(vectors: u16) -> Self {
        let known = VectorKnowledge {
            dwords: ALL,
            rewritten: false,
            doubtful: false,
            delivered: false,
            pending_unknown_until: 0,
        };
        let vectors = vec![known; usize::from(vectors)];
        Self { control: true, bus_master: Some(false), vectors }
    }

    pub(crate) fn of(&self, vector: u16) -> Option<&VectorKnowledge> {
        self.vectors.get(usize::from(vector))
    }

    pub(crate) fn of_mut(&mut self, vector: u16) -> Option<&mut VectorKnowledge> {
        self.vectors.get_mut(usize::from(vector))
    }

    pub(crate) fn dword(&self, index: u64) -> bool {
        let vector = u16::try_from(index / 4).ok().and_then(|vector| self.of(vector));
        vector.is_some_and(|vector| vector.dwords & 1 << (index % 4) != 0)
    }

    pub(crate) fn set_dword(&mut self, index: u64, known: bool) {
        let vector = u16::try_from(index / 4).ok().and_then(|vector| self.of_mut(vector));
        let Some(vector) = vector else { return };
        let bit = 1 << (index % 4);
        vector.dwords = if known { vector.dwords | bit } else { vector.dwords & !bit };
    }

    /// Whether it is known if the vector is masked.
    pub(crate) fn mask(&self, vector: u16) -> bool {
        self.control && self.of(vector).is_some_and(|vector| vector.dwords & CONTROL != 0)
    }

    /// Whether the whole message of the vector is known.
    pub(crate) fn message(&self, vector: u16) -> bool {
        self.of(vector).is_some_and(|vector| vector.dwords & MESSAGE == MESSAGE)
    }
}
