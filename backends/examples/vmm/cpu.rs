//! A processor, and its state after power-on.

use crate::Outcome;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_fpu,
    kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use std::io;

/// A processor.
pub(crate) struct Cpu {
    pub(crate) fd: VcpuFd,
    index: u8,
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
}

impl Cpu {
    /// Makes processor `index` of a machine. Its APIC has the same id.
    pub(crate) fn new(kvm: &Kvm, vm: &VmFd, index: u8) -> Outcome<Self> {
        let fd = vm.create_vcpu(index.into())?;
        let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let has_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        describe(&mut cpuid, index, has_deadline);
        fd.set_cpuid2(&cpuid)?;
        // What the kernel lists and has no value for is left out.
        let msr = |&index: &u32| {
            let mut one =
                Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
            (fd.get_msrs(&mut one).ok()? == 1).then(|| one.as_slice()[0])
        };
        let msrs = kvm.get_msr_index_list()?.as_slice().iter().filter_map(msr).collect();
        Ok(Self {
            index,
            regs: fd.get_regs()?,
            sregs: fd.get_sregs()?,
            fpu: fd.get_fpu()?,
            lapic: fd.get_lapic()?,
            msrs,
            fd,
        })
    }

    /// Puts it back as after power-on: the first one runs, the others wait for it to start them.
    pub(crate) fn reset(&self) -> Outcome {
        self.fd.set_sregs(&self.sregs)?;
        self.fd.set_regs(&self.regs)?;
        self.fd.set_fpu(&self.fpu)?;
        self.fd.set_lapic(&self.lapic)?;
        for &msr in &self.msrs {
            // Some cannot be written.
            let _ = self.fd.set_msrs(&Msrs::from_entries(&[msr])?);
        }
        let mp_state =
            if self.index == 0 { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_UNINITIALIZED };
        Ok(self.fd.set_mp_state(kvm_mp_state { mp_state })?)
    }

    /// Runs it until a signal interrupts it, or its next exit, which `serve` carries out.
    pub(crate) fn run(&mut self, serve: impl FnOnce(VcpuExit<'_>) -> Outcome) -> Outcome {
        match self.fd.run() {
            Ok(exit) => serve(exit),
            Err(error) => match io::Error::from(error) {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                // A processor that was not started yet has nothing to run.
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                error => Err(error.into()),
            },
        }
    }
}

/// Completes what the kernel supports: it does not say that there is a hypervisor, that its local APIC has
/// a deadline timer, and which processor this is.
fn describe(cpuid: &mut CpuId, id: u8, has_deadline: bool) {
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0x00ff_ffff | u32::from(id) << 24;
                leaf.ecx |= HYPERVISOR | if has_deadline { TSC_DEADLINE } else { 0 };
            }
            0xb | 0x1f | 0x8000_0026 => leaf.edx = id.into(),
            _ => {}
        }
    }
}

const HYPERVISOR: u32 = 1 << 31;
const TSC_DEADLINE: u32 = 1 << 24;
