//! MSI-X and MSI through a GICv2m frame: every event is one SPI, by KVM_IRQ_LINE and by irqfds on the routes
//! of pins. On every controller: a GICv2, a GICv3, and one with an ITS beside the frame.

use super::Test;
use crate::machine::{Chip, Machine, TRANSLATER};
use crate::rig::{Bus, IDS, Rig, VECTORS};
use crate::{Outcome, same, text, wait};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{Deferral, Format, Function, FunctionSetup, Gicv2mFrame};
use msix_core::{MsiCapability, Vector};
use std::time::Duration;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("every event is one SPI of a GICv2m frame, whoever delivers it", counts),
    ("an event of a GICv2m frame goes to another SPI, to nobody, and to memory", elsewhere),
    ("MSI by a GICv2m frame", msi),
];

/// Beside an ITS as well.
pub(super) const WITH_ITS: &[(&str, Test)] = &[("a GICv2m frame beside an ITS", beside)];

/// Never commits by itself: everything is pulsed.
const SENT: Deferral =
    Deferral { growth: 1000, quiet: Duration::from_secs(100), longest: Duration::from_secs(100) };

const FRAME: Gicv2mFrame = Gicv2mFrame { address: 0x0802_0000, first: 64, count: 32 };
/// Its register for messages.
const SETSPI: u64 = FRAME.address + 0x40;

/// Functions with these formats on a machine that runs.
fn rig(kvm: &Kvm, chip: Chip, deferral: Deferral, formats: &[Format]) -> Outcome<Rig> {
    let mut rig = Rig::of(Machine::new(kvm, chip)?, deferral, formats, |vm| vm)?;
    let accesses = rig.machine.bring_up();
    rig.start(&accesses)?;
    Ok(rig)
}

fn chip() -> Chip {
    if crate::is_v2() { Chip::V2 } else { Chip::V3 }
}

fn spi(vector: u16) -> u32 {
    FRAME.first + u32::from(vector)
}

fn counts(kvm: &Kvm) -> Outcome {
    let mut rig = rig(kvm, chip(), Deferral::default(), &[Format::gicv2m(FRAME)])?;
    for vector in 0..VECTORS {
        rig.program(0, vector, SETSPI, spi(vector))?;
        rig.notify(0, vector)?;
        rig.expect("the first event", spi(vector), [1, 0])?;
    }
    wait("all are irqfds", || Ok(rig.routes.stats().assigns == 8))?;
    let first = rig.routes.stats();
    same("failures", first.failures, 0)?;
    same("commits, at most one a vector", first.commits <= 8, true)?;
    same("some were pulsed", first.signals > 0, true)?;
    for _ in 0..5 {
        for vector in 0..VECTORS {
            rig.notify(0, vector)?;
            rig.expect("an event by an irqfd", spi(vector), [1, 0])?;
        }
    }
    same("pulses meanwhile", rig.routes.stats().signals, first.signals)?;
    rig.mask(0, 0, true)?;
    rig.notify(0, 0)?;
    rig.expect("while masked", spi(0), [0, 0])?;
    rig.mask(0, 0, false)?;
    rig.expect("at the unmask", spi(0), [1, 0])?;
    let eventfd = rig.functions[0].eventfd(Vector::new(5)).map_err(text)?;
    eventfd.write(1).map_err(text)?;
    rig.expect("by an eventfd", spi(5), [1, 0])?;
    rig.mask(0, 5, true)?;
    eventfd.write(1).map_err(text)?;
    rig.expect("by an eventfd while masked", spi(5), [0, 0])?;
    rig.mask(0, 5, false)?;
    rig.expect("by an eventfd at the unmask", spi(5), [1, 0])?;
    rig.functions[0].write_msix(2, &[0, 0]);
    rig.functions[0].write_msix(2, &[0, 0x80]);
    rig.notify(0, 6)?;
    rig.expect("after MSI-X was off", spi(6), [1, 0])?;
    same("writes to memory", rig.bus.0.lock().unwrap().len(), 0)?;
    same("failures", rig.routes.stats().failures, 0)
}

fn elsewhere(kvm: &Kvm) -> Outcome {
    for deferral in [Deferral::NONE, SENT] {
        let mut rig = rig(kvm, chip(), deferral, &[Format::gicv2m(FRAME)])?;
        rig.program(0, 1, SETSPI, spi(1))?; // one that is committed, so that the next waits
        rig.program(0, 0, SETSPI, spi(0))?;
        rig.notify(0, 0)?;
        rig.expect("before", spi(0), [1, 0])?;
        rig.set_data(0, 0, spi(9))?;
        for _ in 0..2 {
            rig.notify(0, 0)?;
            rig.expect("rewritten", spi(9), [1, 0])?;
            rig.expect("its SPI before", spi(0), [0, 0])?;
        }
        for data in [FRAME.first - 1, FRAME.first + FRAME.count, 0, 1023] {
            rig.program(0, 0, SETSPI, data)?;
            rig.notify(0, 0)?;
        }
        rig.program(0, 0, FRAME.address, 7)?;
        rig.notify(0, 0)?;
        wait("the write", || Ok(rig.bus.0.lock().unwrap().len() == 1))?;
        same("the write", rig.bus.0.lock().unwrap().last(), Some(&(FRAME.address, 7)))?;
        for interrupt in (32..128).filter(|n| ![40, 41, spi(0), spi(9)].contains(n)) {
            same("an SPI of nobody", rig.machine.taken(interrupt)?, [0, 0])?;
        }
        rig.program(0, 0, SETSPI, spi(0))?;
        rig.notify(0, 0)?;
        rig.expect("back", spi(0), [1, 0])?;
        same("failures", rig.routes.stats().failures, 0)?;
    }
    Ok(())
}

fn msi(kvm: &Kvm) -> Outcome {
    for deferral in [Deferral::NONE, SENT] {
        let mut rig = rig(kvm, chip(), deferral, &[])?;
        let setup = FunctionSetup {
            msi: Some(MsiCapability::new(4).map_err(text)?.with_64_bit_address()),
            format: Format::gicv2m(FRAME),
            ..FunctionSetup::new(Bus::default())
        };
        let function = Function::new(&rig.routes, setup).map_err(text)?;
        function.write_command(0, &[6, 0]);
        function.write_msi(4, &(SETSPI as u32).to_le_bytes());
        function.write_msi(8, &[0; 4]);
        function.write_msi(12, &(spi(4) as u16).to_le_bytes());
        function.write_msi(2, &[2 << 4 | 1, 0]); // enabled, with four vectors
        for vector in 0..4 {
            for _ in 0..3 {
                function.notify(Vector::new(vector)).map_err(text)?;
                rig.expect("MSI", spi(4 + vector), [1, 0])?;
            }
        }
        same("failures", rig.routes.stats().failures, 0)?;
    }
    Ok(())
}

fn beside(kvm: &Kvm) -> Outcome {
    let formats = [Format::gicv2m(FRAME), Format::its(TRANSLATER, IDS[0])];
    let mut rig = rig(kvm, Chip::V3WithIts, Deferral::NONE, &formats)?;
    rig.program(0, 0, SETSPI, spi(0))?;
    rig.program(1, 0, SETSPI, spi(0))?;
    rig.notify(0, 0)?;
    rig.expect("by the frame", spi(0), [1, 0])?;
    rig.notify(1, 0)?;
    wait("the write", || Ok(rig.bus.0.lock().unwrap().len() == 1))?;
    same("not the ITS's", rig.bus.0.lock().unwrap().last(), Some(&(SETSPI, spi(0))))?;
    same("failures", rig.routes.stats().failures, 0)
}
