//! A process's own nested machine, with one device behind its function.

use super::{Case, PinBy};
use crate::controllers::{Controllers, GSI, Wire, route_line};
use crate::device::Device;
use crate::nested::{Access, LINE, Nested, SATISFY};
use crate::rig::{Kind, MSI, PATIENCE, Pin, Rig, Satisfier};
use crate::tests::{text, wait};
use kvm_ioctls::Kvm;
use msix_core::Mode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_ioctls::VfioContainer;

/// What a process opens.
pub(super) struct Opened {
    kvm: Kvm,
    device: Device,
}

impl Opened {
    pub(super) fn new(case: Case) -> Result<Self, String> {
        let container = Arc::new(VfioContainer::new(None).map_err(text)?);
        let device = Device::find(case.kind.id(), &container)?.ok_or("the device is not there")?;
        Ok(Self { kvm: Kvm::new().map_err(text)?, device })
    }
}

/// How often the guest took each interrupt.
pub(super) type Counts = BTreeMap<u8, u32>;

pub(super) struct Machine<'a> {
    pub(super) rig: Rig<'a>,
    pub(super) nested: Nested,
    device: &'a Device,
}

impl<'a> Machine<'a> {
    pub(super) fn new(opened: &'a Opened, case: Case) -> Result<Self, String> {
        let nested = Nested::new(&opened.kvm, &[])?;
        route_line(&nested.vm, LINE)?;
        let pin = match case.pin {
            PinBy::Userspace => Pin::Driven(Box::new(Wire(Arc::clone(&nested.vm)))),
            PinBy::Kernel => Pin::Kernel(GSI),
            PinBy::Nobody => Pin::Absent,
        };
        let rig = Rig::on(&opened.device, case.kind, &nested.vm, pin)?;
        Ok(Self { rig, nested, device: &opened.device })
    }

    pub(super) fn controllers(&self) -> Result<Controllers, String> {
        Controllers::of(&self.nested.vm, self.nested.cpu()?)
    }

    /// Waits until an interrupt waits for the processor, which does not run.
    pub(super) fn wait_requested(&self, interrupt: u8) -> Result<(), String> {
        wait(&format!("interrupt {interrupt:#x}"), || {
            self.run_loop()?;
            Ok(self.controllers()?.requested().contains(&interrupt))
        })
    }

    /// Starts the processor.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let satisfier = Satisfier::of(self.device, self.rig.kind)?;
        let function = self.rig.function.clone();
        self.nested.start(move |access| {
            if matches!(access, Access::Out(SATISFY, _)) {
                satisfier.satisfy(); // what fails shows in the test
                function.bar_accessed();
            }
            0
        });
        Ok(())
    }

    /// Expects an interrupt once more than it was taken so far.
    pub(super) fn expect(&self, interrupt: u8, expected: &mut Counts) -> Result<(), String> {
        expected.insert(interrupt, self.nested.count(interrupt)? + 1);
        Ok(())
    }

    /// Waits until the guest took just these interrupts, and no more for a while.
    pub(super) fn took(&self, expected: &Counts, quiet: Duration) -> Result<(), String> {
        let count = |interrupt| -> Result<(u8, u32), String> {
            let taken = self.nested.count(interrupt)?;
            // On a busy machine QEMU's e1000e says a message again, before its cause is masked.
            let may_repeat = self.rig.kind == Kind::E1000e && interrupt == MSI;
            let limit = expected.get(&interrupt).filter(|_| may_repeat);
            Ok((interrupt, limit.map_or(taken, |limit| taken.min(*limit))))
        };
        let counts = || -> Result<Counts, String> {
            let all = (0x40..=LINE).map(count).collect::<Result<Counts, _>>()?;
            Ok(all.into_iter().filter(|(_, count)| *count > 0).collect())
        };
        let mut begun = Instant::now();
        let mut patience = PATIENCE;
        loop {
            self.run_loop()?;
            let is_last = begun.elapsed() >= patience;
            let got = counts()?;
            if got == *expected {
                if patience == PATIENCE {
                    (begun, patience) = (Instant::now(), quiet);
                } else if is_last {
                    return Ok(());
                }
            } else if is_last || got.iter().any(|(i, n)| *n > expected.get(i).copied().unwrap_or(0))
            {
                return Err(format!("the guest took {got:x?} and not {expected:x?} (hexadecimal)"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// No interrupt of the device is enabled but those of `mode`: of an idle index the kernel raises
    /// nothing (D5).
    pub(super) fn only_enabled(&self, mode: Mode) -> Result<(), String> {
        for (index, other) in (0..).zip([Mode::Intx, Mode::Msi, Mode::MsiX]) {
            if other != mode && self.rig.loop_back(index).is_ok() {
                return Err(format!("the device's index of {other:?} is active in {mode:?}"));
            }
        }
        Ok(())
    }

    fn run_loop(&self) -> Result<(), String> {
        self.rig.routes.run(Some(Duration::ZERO)).map(drop).map_err(text)
    }
}

impl Case {
    /// The vector of the event that is left.
    pub(super) fn vector(self) -> u16 {
        match self.mode {
            Mode::Msi if self.kind != Kind::Xhci => 0, // has one
            _ => 2,
        }
    }
}
