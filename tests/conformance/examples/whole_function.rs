//! A VMM's function with MSI and an interrupt pin, its adapter, and a run of the cases for whole
//! functions. It uses nothing of `msix-core` but the names that the suite re-exports.

use msix_conformance::{
    FunctionDevice, FunctionReset, FunctionSubject, Message, Mode, MsixBeside, NoDevice,
    PhysicalLine, Report, Withdrawal, run_function,
};

fn main() {
    println!("{}", report());
}

fn report() -> Report {
    run_function(&ToyVmm)
}

/// The VMM's own code: a device with a level, and the MSI capability of its function.
struct Toy {
    vectors: u16,
    masks: bool,
    /// The capability: control at 2, address at 4, data at 12, masks at 16.
    registers: [u8; 20],
    pending: u32,
    bus_master: bool,
    interrupt_disable: bool,
    level: bool,
    sent: Vec<Message>,
}

impl Toy {
    fn new(vectors: u16, masks: bool) -> Self {
        let mut registers = [0; 20];
        registers[0] = 5;
        registers[2] = 0x80 | (vectors.ilog2() as u8) << 1; // a 64-bit address
        registers[3] = u8::from(masks);
        Self {
            vectors,
            masks,
            registers,
            pending: 0,
            bus_master: true,
            interrupt_disable: false,
            level: false,
            sent: Vec::new(),
        }
    }

    fn enabled(&self) -> bool {
        self.registers[2] & 1 != 0
    }

    fn dword(&self, offset: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.registers[offset + byte]))
    }

    /// How many vectors the guest allocated, of those there are.
    fn allocated(&self) -> u16 {
        (1 << (self.registers[2] >> 4 & 7)).min(self.vectors)
    }

    /// The bits of a byte of the capability that the guest may write.
    fn writable(&self, offset: usize) -> u8 {
        match offset {
            2 => 0x71,
            4 => 0xfc,
            5..14 => 0xff,
            16..20 if self.masks => {
                let all = (1_u64 << self.vectors) - 1;
                all.to_le_bytes()[offset - 16]
            }
            _ => 0,
        }
    }

    /// Sends what is pending and may be sent.
    fn settle(&mut self) {
        if !self.enabled() || !self.bus_master {
            return;
        }
        for vector in 0..u32::from(self.vectors) {
            if self.pending & !self.dword(16) & 1 << vector != 0 {
                self.pending &= !(1 << vector);
                let address = u64::from(self.dword(8)) << 32 | u64::from(self.dword(4));
                let low = u32::from(self.allocated()) - 1;
                let data = self.dword(12) & 0xffff & !low | vector;
                self.sent.push(Message { address, data });
            }
        }
    }
}

// The adapter. In a real one, each of these calls into the product.
impl FunctionDevice for Toy {
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]) {
        let pending = self.pending.to_le_bytes();
        let all: Vec<u8> = self.registers.into_iter().chain(pending).collect();
        bytes.copy_from_slice(&all[offset..offset + bytes.len()]);
    }
    fn write_msi(&mut self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..self.registers.len()).zip(bytes) {
            let mask = self.writable(at);
            self.registers[at] = self.registers[at] & !mask | byte & mask;
        }
        self.settle();
    }
    fn set_bus_master(&mut self, on: bool) {
        self.bus_master = on;
        self.settle();
    }
    fn set_interrupt_disable(&mut self, on: bool) {
        self.interrupt_disable = on;
    }
    fn interrupt_status(&mut self) -> bool {
        self.level && !self.enabled()
    }
    fn fire(&mut self, vector: u16) {
        if self.enabled() {
            self.pending |= 1 << (vector % self.allocated());
            self.settle();
        } else {
            self.level = true;
        }
    }
    fn satisfy(&mut self) {
        self.level = false;
    }
    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }
    fn line(&mut self) -> bool {
        self.level && !self.enabled() && !self.interrupt_disable
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    // It has nothing else to show.
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        None
    }
    fn msix(&mut self) -> Option<&mut dyn MsixBeside> {
        None
    }
    fn physical(&mut self) -> Option<&mut dyn PhysicalLine> {
        None
    }
    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>> {
        None
    }
}

impl FunctionReset for Toy {
    fn reset(&mut self) {
        *self = Self { bus_master: self.bus_master, ..Self::new(self.vectors, self.masks) };
    }
}

struct ToyVmm;

impl FunctionSubject for ToyVmm {
    fn name(&self) -> String {
        "toy VMM".into()
    }
    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        Ok(Box::new(Toy::new(vectors, masks)))
    }
}

#[test]
fn it_passes_all_that_it_shows() {
    let report = report();
    let unseen = ["M11", "M18", "L08", "L09", "L10", "L11", "L12"];
    assert_eq!(report.counts(), (30 - unseen.len(), 0, unseen.len()), "{report}");
}
