//! A function and its ITS, saved and restored into a new VM.

use super::Test;
use crate::machine::{
    Access, Chip, DISTRIBUTOR, ITS, Machine, REDISTRIBUTORS, TRANSLATER, control, get, set,
};
use crate::rig::{IDS, Rig};
use crate::{Outcome, same};
use kvm_bindings::{
    KVM_DEV_ARM_ITS_RESTORE_TABLES, KVM_DEV_ARM_ITS_SAVE_TABLES, KVM_DEV_ARM_VGIC_GRP_ITS_REGS,
    KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES,
};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{Deferral, Format};

pub(super) const TESTS: &[(&str, Test)] =
    &[("a function and its ITS are restored into a new VM", restored)];

/// GITS_CBASER, CREADR, CWRITER, BASER0 and BASER1, in the order in which they are restored. GITS_CTLR
/// follows the tables.
const REGISTERS: [u64; 5] = [0x80, 0x90, 0x88, 0x100, 0x108];
const CONTROL: u64 = 0;

fn restored(kvm: &Kvm) -> Outcome {
    let group = KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
    let mut rig = Rig::with_its(kvm, Deferral::NONE)?;
    for vector in 0..3 {
        rig.program(0, vector, TRANSLATER, vector.into())?;
        rig.notify(0, vector)?;
        rig.expect("before", 8192 + u32::from(vector), [1, 0])?;
    }
    rig.mask(0, 1, true)?;
    rig.notify(0, 1)?;
    rig.machine.stop()?;
    rig.notify(0, 2)?; // it pends in the ITS
    let functions = rig.functions[0].save();
    let its = rig.machine.its.as_ref().ok_or("no ITS")?;
    control(its, KVM_DEV_ARM_ITS_SAVE_TABLES)?;
    control(&rig.machine.gic, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES)?;
    let registers = REGISTERS.map(|register| get(its, group, register));
    let on = get(its, group, CONTROL)?;
    let (memory, seen) = (rig.machine.memory.clone(), std::mem::take(&mut rig.seen));
    drop(rig);

    let machine = Machine::with_memory(kvm, Chip::V3WithIts, memory)?;
    let formats = IDS.map(|id| Format::its(TRANSLATER, id));
    let mut rig = Rig::of(machine, Deferral::NONE, &formats, |vm| vm)?;
    rig.seen = seen;
    // Distributor and redistributors, as a guest does at its own resume. What pends in memory stays.
    let accesses: Vec<Access> = rig.machine.bring_up();
    let is_its = |access: &Access| matches!(*access, Access::Write(at, _) | Access::Write64(at, _) if (ITS..REDISTRIBUTORS).contains(&at));
    let stays = |access: Access| match access {
        Access::Write64(at, value) if at > DISTRIBUTOR => Access::Write64(at, value & !(1 << 62)),
        other => other,
    };
    let accesses: Vec<Access> =
        accesses.into_iter().filter(|access| !is_its(access)).map(stays).collect();
    rig.start(&accesses)?;
    rig.machine.stop()?;
    let its = rig.machine.its.as_ref().ok_or("no ITS")?;
    for (register, value) in REGISTERS.into_iter().zip(registers) {
        set(its, group, register, Some(&value?))?;
    }
    control(its, KVM_DEV_ARM_ITS_RESTORE_TABLES)?;
    set(its, group, CONTROL, Some(&on))?;
    rig.functions[0].load(&functions).map_err(crate::text)?;
    rig.functions[0].resume();
    rig.start(&[])?;
    rig.expect("what pended in the ITS", 8194, [1, 0])?;
    rig.expect("what is masked", 8193, [0, 0])?;
    rig.mask(0, 1, false)?;
    rig.expect("what was pending in the function", 8193, [1, 0])?;
    for vector in 0..3 {
        rig.notify(0, vector)?;
        rig.expect("afterwards", 8192 + u32::from(vector), [1, 0])?;
    }
    same("failures", rig.routes.stats().failures, 0)
}
