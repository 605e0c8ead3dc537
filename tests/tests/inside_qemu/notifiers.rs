//! Vector notifiers, which QEMU's devices have where KVM delivers: who takes an event from its eventfd, and
//! what the guest reads in the PBA.

use msix_peers::{Extras, Qemu, QemuFunction, Setup};
use std::path::Path;
use std::time::Duration;

/// Longer than KVM takes for an event.
const PATIENCE: Duration = Duration::from_millis(300);
/// Enable, and Function Mask, in the high byte of Message Control.
const ENABLE: u64 = 0x80;
const FUNCTION_MASK: u64 = 0x40;

/// What is done, the vector that is raised then, whether KVM takes the event, and the PBA afterwards.
type Step = (&'static str, fn(&mut Device<'_>), u16, bool, u64);

/// An event that KVM does not take waits in its eventfd until a read of the PBA polls it.
const STEPS: [Step; 8] = [
    ("0 is unmasked", |device| device.mask(0, false), 0, true, 0b00),
    ("1 stays masked", |_| {}, 1, false, 0b10),
    ("0 is masked", |device| device.mask(0, true), 0, false, 0b11),
    ("0 is unmasked again", |device| device.mask(0, false), 0, true, 0b10),
    ("the function is masked", |device| device.control(ENABLE | FUNCTION_MASK), 0, false, 0b11),
    ("the function is unmasked", |device| device.control(ENABLE), 0, true, 0b10),
    ("1 is unmasked", |device| device.mask(1, false), 1, true, 0b00),
    ("0 is rewritten", |device| device.program(0, 0x51), 0, true, 0b00),
];

/// Drives an ivshmem device of a QEMU through all steps.
pub(crate) fn judge(program: &Path) {
    let setup = Setup { player: program.to_owned().into(), vectors: vec![2], incoming: None };
    let extras = Extras { kvm: true, ..Extras::default() };
    let mut qemu = Qemu::start_with(&setup, &extras).expect("QEMU starts");
    let function = QemuFunction::set_up(&mut qemu, 0).expect("the device is there");
    let mut device = Device { qemu: &mut qemu, function };
    device.program(0, 0x41);
    device.program(1, 0x42);
    device.control(ENABLE);
    for (what, act, vector, by_kvm, pba) in STEPS {
        act(&mut device);
        let taken = device.qemu.raise_within(0, vector, PATIENCE).expect("an eventfd");
        let seen = (taken, device.pba());
        assert_eq!(seen, (by_kvm, pba), "{}: {what}", program.display());
        device.qemu.await_taken(0, vector).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

struct Device<'a> {
    qemu: &'a mut Qemu,
    function: QemuFunction,
}

impl Device<'_> {
    fn write(&mut self, offset: u64, value: u32) {
        let address = self.function.table + offset;
        QemuFunction::write(self.qemu, address, &value.to_le_bytes()).expect("QEMU answers");
    }

    fn program(&mut self, vector: u64, data: u32) {
        self.write(16 * vector, 0xfee0_0000);
        self.write(16 * vector + 8, data);
    }

    fn mask(&mut self, vector: u64, masked: bool) {
        self.write(16 * vector + 12, masked.into());
    }

    fn control(&mut self, byte: u64) {
        let offset = self.function.capability + 3;
        self.function.set_config(self.qemu, offset, 1, byte).expect("QEMU answers");
    }

    fn pba(&mut self) -> u64 {
        let mut bytes = [0; 8];
        QemuFunction::read(self.qemu, self.function.pba, &mut bytes).expect("QEMU answers");
        u64::from_le_bytes(bytes)
    }
}
