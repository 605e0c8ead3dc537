//! Snapshots that other engines saved.

use super::alphabet::OTHER;
use super::registers::{EntryRegisters, MAX_EXPLORED, Registers};
use msix_core::operation::Operation;
use msix_core::{Effects, LoadError, Msix, Storage, Vector};

/// A snapshot that another engine saved.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// For people.
    pub(crate) name: &'static str,
    /// Message Control, when the encoding is QEMU's.
    control: Option<u16>,
    bytes: Vec<u8>,
    /// What the registers are after it; claims only in the native encoding.
    registers: Registers,
}

impl Snapshot {
    pub(crate) fn load<S: Storage>(&self, msix: &mut Msix<S>) -> Result<(), LoadError> {
        match self.control {
            None => msix.load(&self.bytes),
            Some(control) => msix.load_qemu(control, &self.bytes),
        }
    }

    /// Returns what the registers `old` of `explored` vectors are after it.
    pub(crate) fn after(&self, old: &Registers, explored: usize) -> Registers {
        let mut new = self.registers;
        for (entry, old) in new.entries.iter_mut().zip(old.entries) {
            entry.pending = old.pending;
            entry.claims = if self.control.is_none() { entry.claims } else { old.claims };
        }
        new.entries.iter_mut().skip(explored).for_each(|entry| *entry = EntryRegisters::default());
        new
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What other engines may have saved: nothing, and everything pending on enabled, unmasked
/// vectors, which is the only way for a vector without a claim to be pending.
pub(crate) fn snapshots<S: Storage + Clone>(msix: &Msix<S>, at: &[Vector]) -> Vec<Snapshot> {
    let mut fresh = Registers::default();
    fresh.entries.iter_mut().for_each(|entry| entry.control = 1);
    let busy = Registers {
        enabled: true,
        function_masked: false,
        entries: [EntryRegisters {
            address: OTHER.address,
            data: OTHER.data,
            control: 0,
            pending: true,
            claims: 1,
        }; MAX_EXPLORED],
    };
    let mut other = msix.clone();
    let mut fx = Effects::<8>::new();
    let bytes = saved(&other);
    let mut list =
        vec![Snapshot { name: "a fresh engine", control: None, bytes, registers: fresh }];
    // While it loads, nothing is deliverable, so everything can be pending.
    let mut script = vec![Operation::SaveAndLoad];
    script.push(Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 });
    for v in at {
        script.extend([
            Operation::SetMessage(*v, OTHER),
            Operation::Claim(*v),
            Operation::Notify(*v),
        ]);
    }
    for operation in script {
        operation.apply(&mut other, &mut [0; 1280], &mut fx);
        while fx.take().is_some() {}
    }
    let name = "all vectors enabled, unmasked, claimed and pending";
    list.push(Snapshot { name, control: None, bytes: saved(&other), registers: busy });
    let mut bytes = vec![0; other.qemu_len()];
    let _ = other.save_qemu(&mut bytes);
    let control = Some(other.control());
    let name = "all vectors enabled, unmasked and pending, claims not saved";
    list.push(Snapshot { name, control, bytes, registers: busy });
    list
}

fn saved<S: Storage>(msix: &Msix<S>) -> Vec<u8> {
    let mut bytes = vec![0; msix.saved_len()];
    let _ = msix.save(&mut bytes);
    bytes
}
