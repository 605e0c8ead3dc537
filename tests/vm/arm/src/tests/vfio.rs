//! Devices behind an SMMU, given away by VFIO: their interrupts are LPIs of the guest, and an SPI.

use super::Test;
use crate::device::{Device, Ivshmem};
use crate::guest::LEVEL;
use crate::machine::TRANSLATER;
use crate::rig::{Bus, IDS, Rig, Spi};
use crate::{Outcome, same, text, wait};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{
    AssignedLine, Deferral, DeviceControl, Format, Function, FunctionSetup, PassedThrough,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, LineIrqs, VectorIrqs, WhileMasked};
use msix_core::{BarIndex, Layout, MsiCapability};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vfio_ioctls::VfioContainer;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("every MSI-X event of a device behind an SMMU is one LPI", msix),
    ("the line of such a device is an SPI, and its MSI an LPI", line_and_msi),
];

/// A device whose BARs no guest reaches, and that goes on as it is when the function is reset.
struct Left;

impl DeviceControl for Left {
    fn set_mappings(&mut self, _: bool) {}
    fn reset_device(&mut self) {}
}

fn open(id: (u16, u16)) -> Outcome<Device> {
    let container = Arc::new(VfioContainer::new(None).map_err(text)?);
    Device::find(id, &container)?.ok_or_else(|| "the machine does not have the device".to_owned())
}

fn owned(device: &Device) -> Outcome<OwnedFd> {
    device.as_fd().try_clone_to_owned().map_err(text)
}

/// A function of the second device's id with this behind it, its bus master on.
fn function(
    rig: &Rig,
    device: PassedThrough,
    parts: impl FnOnce(&mut FunctionSetup<Bus>),
) -> Outcome<Function<Bus>> {
    let mut setup = FunctionSetup {
        format: Format::its(TRANSLATER, IDS[1]),
        device: Some(device),
        ..FunctionSetup::new(Bus::default())
    };
    parts(&mut setup);
    let function = Function::new(&rig.routes, setup).map_err(text)?;
    function.write_command(0, &[6, 0]);
    Ok(function)
}

fn msix(kvm: &Kvm) -> Outcome {
    const VECTORS: u16 = 4;
    let device = Ivshmem::new(open((0x1af4, 0x1110))?);
    for while_masked in [WhileMasked::Eventfd, WhileMasked::Physical] {
        let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
        let irqs = VectorIrqs::msix(owned(&device)?);
        let index = irqs.index().map_err(text)?;
        let behind = DeviceMsix::new(irqs, index, while_masked);
        let behind =
            PassedThrough { msix: Some(Box::new(behind)), ..PassedThrough::new(Box::new(Left)) };
        let bar = BarIndex::new(0).map_err(text)?;
        let layout = Layout::exclusive_bar(VECTORS.into(), bar).map_err(text)?;
        let function = function(&rig, behind, |setup| setup.msix = Some(layout))?;
        let mask = |vector: u64, masked: bool| {
            function.write_table(16 * vector + 12, &u32::from(masked).to_le_bytes());
        };
        let program = |vector: u64, event: u32| {
            function.write_table(16 * vector, &TRANSLATER.to_le_bytes());
            function.write_table(16 * vector + 8, &event.to_le_bytes());
        };
        for vector in 0..VECTORS {
            program(vector.into(), vector.into());
        }
        function.write_msix(2, &[0, 0x80]);
        // Sparse, then growth, before and behind.
        for vector in [2, 3, 0, 1_u16] {
            mask(vector.into(), false);
            for _ in 0..5 {
                for ring in [vector, 2] {
                    device.ring(ring)?;
                    rig.expect("a ring", 8208 + u32::from(ring), [1, 0])?;
                }
            }
        }
        // The guest moves one.
        mask(1, true);
        program(1, 7);
        mask(1, false);
        device.ring(1)?;
        rig.expect("the moved vector", 8215, [1, 0])?;
        rig.expect("where it was", 8209, [0, 0])?;
        mask(0, true);
        device.ring(0)?;
        wait("it pends", || {
            let mut pba = [0; 8];
            function.read_pba(0, &mut pba);
            let pending = match while_masked {
                WhileMasked::Physical => device.pba()?,
                _ => u64::from_le_bytes(pba),
            };
            Ok(pending == 1)
        })?;
        rig.expect("while masked", 8208, [0, 0])?;
        mask(0, false);
        rig.expect("at the unmask", 8208, [1, 0])?;
        let stats = rig.routes.stats();
        // The look at the function's PBA took the event out of the eventfd.
        let sent = u64::from(while_masked == WhileMasked::Eventfd);
        same("failures, and messages sent", (stats.failures, stats.signals), (0, sent))?;
    }
    Ok(())
}

/// The device interrupts when this is written, until that is.
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;

fn line_and_msi(kvm: &Kvm) -> Outcome {
    let device = Arc::new(open((0x1234, 0x11e8))?);
    let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
    let vm = Arc::clone(&rig.machine.vm);
    let irqs = VectorIrqs::msi(owned(&device)?);
    let count = u16::try_from(irqs.index().map_err(text)?.count).map_err(text)?;
    let line = AssignedLine::new(Box::new(LineIrqs::new(owned(&device)?))).map_err(text)?;
    let behind = PassedThrough {
        msi: Some(Box::new(DeviceMsi::new(irqs, count))),
        line: Some(line.resampled_by(Box::new(Arc::clone(&vm)), LEVEL - 32)),
        quiet: Duration::from_millis(50),
        ..PassedThrough::new(Box::new(Left))
    };
    let msi = MsiCapability::new(1).map_err(text)?.with_64_bit_address();
    let function = function(&rig, behind, |setup| {
        setup.msi = Some(msi);
        setup.pin = Some(Box::new(Spi(vm)));
    })?;
    let raise = || device.write(0, RAISE, &1_u32.to_le_bytes());
    let its = Arc::clone(&device);
    let satisfy = move || its.write(0, ACKNOWLEDGE, &1_u32.to_le_bytes()).expect("a register");
    let satisfied = satisfy.clone();
    rig.level.set(Box::new(move |_| satisfied())).map_err(|_| "set before")?;
    satisfy(); // of what the last user left
    let line = |rig: &mut Rig, times: u32| {
        (0..times).try_for_each(|_| {
            raise()?;
            rig.expect("the line", LEVEL, [1, 0])
        })
    };
    line(&mut rig, 5)?;
    function.write_msi(4, &TRANSLATER.to_le_bytes());
    function.write_msi(12, &[5, 0]);
    function.write_msi(2, &[1, 0]);
    for _ in 0..5 {
        raise()?;
        rig.expect("MSI", 8213, [1, 0])?;
        satisfy();
    }
    rig.expect("the line meanwhile", LEVEL, [0, 0])?;
    function.write_msi(2, &[0, 0]);
    line(&mut rig, 3)?;
    let stats = rig.routes.stats();
    same("failures, and messages sent by userspace", (stats.failures, stats.signals), (0, 0))
}
