//! An author's own MSI-X, fuzzed beside the naive model, and a property test over the same strategies. The
//! VMM here loses an event that comes while its vector is masked a second time.
//!
//! `cargo run -p msix-conformance --features fuzz --example fuzz -- [SEED] > found.msix` prints the
//! difference as a script; `msix replay found.msix` shows what the engine does with it.

use msix_conformance::fuzz::{Fuzz, fuzz};
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Choices, Claims, Device, FunctionReset, HostLog, HostScript,
    IntxLog, Layouts, Message, NoDevice, QemuField, Refused, SideChannel, Snapshots, Subject,
    TableAccess, WhileDisabled, Withdrawal,
};
use std::ops::Range;

fn main() -> Result<(), String> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse());
    let seed = seed.map_err(|error| format!("the seed: {error}"))?;
    let options = Fuzz { seed, vectors: vec![2, 65], ..Fuzz::default() };
    let fuzzed = fuzz(&ToyVmm { forgets: true }, &options)?;
    eprintln!("{} sequences, {} inputs", fuzzed.sequences, fuzzed.inputs);
    match fuzzed.finding {
        Some(finding) => print!("{finding}"),
        None => eprintln!("no difference"),
    }
    Ok(())
}

/// All that the VMM knows of MSI-X.
struct Toy {
    control: u8,
    table: Vec<u8>,
    pba: Vec<u8>,
    sent: Vec<Message>,
    forgets: bool,
}

impl Toy {
    fn settle(&mut self) {
        for (v, entry) in self.table.chunks(16).enumerate() {
            let (pending, bit) = (&mut self.pba[v / 8], 1 << (v % 8));
            if self.control & 0xc0 == 0x80 && entry[12] & 1 == 0 && *pending & bit != 0 {
                *pending &= !bit;
                let address = u64::from_le_bytes(entry[..8].try_into().expect("8 bytes"));
                let data = u32::from_le_bytes(entry[8..12].try_into().expect("4 bytes"));
                self.sent.push(Message { address, data });
            }
        }
    }

    fn capability(&self) -> [u8; 12] {
        let vectors = u16::try_from(self.table.len() / 16).expect("at most 2048 vectors");
        let [low, high] = (vectors - 1).to_le_bytes();
        [0x11, 0, low, high | self.control, 0, 0, 0, 0, 0, 0x80, 0, 0]
    }
}

/// The bytes of an access, if it is an aligned dword or QWORD inside the structure.
fn bytes(structure: &[u8], offset: u64, len: usize) -> Option<Range<usize>> {
    let aligned = matches!(len, 4 | 8) && offset.is_multiple_of(len as u64);
    let first = usize::try_from(offset).ok().filter(|_| aligned)?;
    structure.get(first..first.checked_add(len)?).map(|_| first..first + len)
}

fn read(structure: &[u8], offset: u64, into: &mut [u8]) {
    match bytes(structure, offset, into.len()) {
        Some(range) => into.copy_from_slice(&structure[range]),
        None => {
            for (at, byte) in (offset..).zip(into) {
                *byte = if at < structure.len() as u64 { 0 } else { 0xff };
            }
        }
    }
}

impl Device for Toy {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.capability()[offset..offset + bytes.len()]);
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(high) = 3_usize.checked_sub(offset).and_then(|at| bytes.get(at)) {
            self.control = high & 0xc0;
            self.settle();
        }
    }
    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        read(&self.table, offset, bytes);
    }
    fn write_table(&mut self, offset: u64, from: &[u8]) {
        let Some(range) = bytes(&self.table, offset, from.len()) else { return };
        let v = range.start / 16;
        let was_masked = self.table[16 * v + 12] & 1 != 0;
        self.table[range].copy_from_slice(from);
        if self.forgets && was_masked && self.table[16 * v + 12] & 1 != 0 && offset % 16 == 12 {
            self.pba[v / 8] &= !(1 << (v % 8)); // the defect
        }
        self.settle();
    }
    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        read(&self.pba, offset, bytes);
    }
    fn write_pba(&mut self, _offset: u64, _bytes: &[u8]) {}
    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let v = vector as usize;
        if v >= self.table.len() / 16 {
            return Err(Refused(format!("no vector {vector}")));
        }
        self.pba[v / 8] |= 1 << (v % 8);
        self.settle();
        Ok(())
    }
    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }
    fn claims(&mut self) -> Option<&mut dyn Claims> {
        None
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        None
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        None
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        None
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        None
    }
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        None
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        None
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
        None
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        None
    }
}

struct ToyVmm {
    forgets: bool,
}

impl Subject for ToyVmm {
    fn name(&self) -> String {
        "toy VMM".into()
    }
    fn choices(&self) -> Choices {
        // The others are left open: the fuzzer finds that one of the alternatives agrees.
        Choices {
            while_disabled: Some(WhileDisabled::Latch),
            table_access: Some(TableAccess::Aligned),
            ..Choices::UNKNOWN
        }
    }
    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        if !(1..=2048).contains(&vectors) {
            return Err(NoDevice::Refused(format!("{vectors} vectors")));
        }
        let n = vectors as usize;
        let mut table = vec![0; 16 * n];
        table.chunks_mut(16).for_each(|entry| entry[12] = 1);
        let (pba, sent) = (vec![0; 8 * n.div_ceil(64)], Vec::new());
        Ok(Box::new(Toy { control: 0, table, pba, sent, forgets: self.forgets }))
    }
    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_conformance::fuzz::{Exceptions, agree};
    use msix_conformance::strategy;
    use msix_explorer::script::Script;
    use proptest::prelude::*;

    #[test]
    fn the_defect_is_found_and_its_script_is_short() {
        let options = Fuzz { vectors: vec![2], ..Fuzz::default() };
        let fuzzed = fuzz(&ToyVmm { forgets: true }, &options).expect("a device");
        let finding = fuzzed.finding.expect("a difference");
        assert!(finding.operations.len() <= 5, "{finding}");
        Script::parse(&finding.to_string()).expect("a script");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        // A property test of an embedding that has another shape than the fuzzer.
        #[test]
        fn without_the_defect_the_vmm_agrees_with_the_model(
            operations in strategy::sequence(33),
        ) {
            let difference = agree(&ToyVmm { forgets: false }, 33, &operations, &Exceptions::default());
            prop_assert_eq!(difference, Ok(None));
        }
    }
}
