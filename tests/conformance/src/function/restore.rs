//! `M18`, `L11` and `L12`: a function that is saved, and restored.

use super::super::bench::Outcome;
use super::msi::{dword, enable, log, message};
use super::{FunctionDevice, FunctionSnapshots, Stand, expect, offered};
use alloc::vec;

fn snapshots(device: &mut dyn FunctionDevice) -> Result<&mut dyn FunctionSnapshots, super::Stop> {
    offered("snapshots", device.snapshots())
}

pub(super) fn m18(stand: &Stand<'_>) -> Outcome {
    let mut device = stand.device(true)?;
    enable(device.as_mut(), log(stand.n));
    device.write_msi(16, &[0xff; 4]);
    device.fire(stand.n - 1);
    let saved = snapshots(device.as_mut())?.save();
    drop(device);
    let mut other = stand.device(true)?;
    expect("loaded", true, snapshots(other.as_mut())?.load(&saved).is_ok())?;
    snapshots(other.as_mut())?.resume();
    expect("resumed", vec![], other.messages())?;
    let bit = 1 << (stand.n - 1);
    expect("read the pending bits", bit, dword(other.as_mut(), 20))?;
    other.write_msi(16, &[0; 4]);
    expect("unmasked", vec![message(stand.n - 1)], other.messages())?;
    expect("read the pending bits", 0, dword(other.as_mut(), 20))
}

pub(super) fn l11(stand: &Stand<'_>) -> Outcome {
    let mut msi = stand.device(false)?;
    enable(msi.as_mut(), 0);
    let with_msi = snapshots(msi.as_mut())?.save();
    let mut intx = stand.device(false)?;
    intx.fire(0);
    let with_line = snapshots(intx.as_mut())?.save();

    expect("fired", true, intx.line())?;
    expect("loaded", true, snapshots(intx.as_mut())?.load(&with_msi).is_ok())?;
    intx.set_interrupt_disable(false); // another input, which changes nothing
    expect("loaded MSI over a line that is high", true, intx.line())?;
    snapshots(intx.as_mut())?.resume();
    expect("resumed", false, intx.line())?;
    intx.fire(0);
    expect("fired", vec![message(0)], intx.messages())?;

    expect("loaded", true, snapshots(msi.as_mut())?.load(&with_line).is_ok())?;
    expect("loaded a high line over MSI", false, msi.line())?;
    snapshots(msi.as_mut())?.resume();
    expect("resumed", true, msi.line())?;
    msi.satisfy();
    expect("satisfied", false, msi.line())?;
    expect("looked for messages", vec![], msi.messages())
}

pub(super) fn l12(stand: &Stand<'_>) -> Outcome {
    let mut other = stand.device(false)?;
    enable(other.as_mut(), 0);
    other.write_msi(12, &[0x60, 0]);
    let saved = snapshots(other.as_mut())?.save();
    let mut device = stand.device(false)?;
    enable(device.as_mut(), 0);
    device.fire(0);
    expect("fired", vec![message(0)], device.messages())?;
    expect("loaded", true, snapshots(device.as_mut())?.load(&saved).is_ok())?;
    device.fire(0);
    expect("loaded, fired", vec![], device.messages())?;
    snapshots(device.as_mut())?.resume();
    let loaded = msix_core::Message { data: 0x60, ..message(0) };
    expect("resumed", vec![loaded], device.messages())?;
    device.fire(0);
    expect("fired", vec![loaded], device.messages())
}
