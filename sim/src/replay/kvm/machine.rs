//! The virtual machine: vCPUs that never run, and their local APICs (K13).

use super::arrival::{Arrival, highest_target};
use crate::lapic;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use msix_core::Message;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A VM with the full in-kernel irqchip and no memory.
#[derive(Debug)]
pub(super) struct Machine {
    vm: Arc<VmFd>,
    /// By APIC id.
    vcpus: Vec<VcpuFd>,
    /// KVM_GET_LAPIC so far.
    pub(super) looks: u64,
    /// KVM_SET_LAPIC so far.
    pub(super) clears: u64,
}

impl Machine {
    /// One with a vCPU, and the VM for the owner of its routes.
    pub(super) fn new() -> io::Result<(Self, Arc<VmFd>)> {
        let failed = |what: &'static str| move |error| named(what, error);
        let kvm = Kvm::new().map_err(failed("/dev/kvm"))?;
        let vm = kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?;
        vm.create_irq_chip().map_err(failed("KVM_CREATE_IRQCHIP"))?;
        let vm = Arc::new(vm);
        let mut machine = Self { vm: Arc::clone(&vm), vcpus: Vec::new(), looks: 0, clears: 0 };
        machine.grow(1)?;
        Ok((machine, vm))
    }

    /// How many vCPUs there are: their APIC ids are the numbers below.
    pub(super) fn vcpus(&self) -> u8 {
        u8::try_from(self.vcpus.len()).unwrap_or(u8::MAX)
    }

    /// Makes the vCPUs that `message` is for.
    pub(super) fn grow_for(&mut self, message: Message) -> io::Result<()> {
        self.grow(highest_target(message).map_or(1, |id| u32::from(id) + 1))
    }

    fn grow(&mut self, vcpus: u32) -> io::Result<()> {
        while let Some(id) = u32::try_from(self.vcpus.len()).ok().filter(|&id| id < vcpus) {
            let failed = |error| named(&format!("KVM_CREATE_VCPU of vCPU {id}"), error);
            let vcpu = self.vm.create_vcpu(id.into()).map_err(failed)?;
            let failed = |error| named(&format!("the local APIC of vCPU {id}"), error);
            let index = u8::try_from(id).unwrap_or(u8::MAX);
            lapic::enable(&vcpu, index).map_err(failed)?;
            self.vcpus.push(vcpu);
        }
        Ok(())
    }

    /// The interrupts that are requested in all local APICs. KVM adds those that were posted to the
    /// processor's own APIC first.
    pub(super) fn requested(&mut self) -> io::Result<BTreeSet<Arrival>> {
        let mut seen = BTreeSet::new();
        for (vcpu, fd) in (0..=u8::MAX).zip(&self.vcpus) {
            self.looks += 1;
            let failed = |error| named(&format!("KVM_GET_LAPIC of vCPU {vcpu}"), error);
            let vectors = lapic::irr(fd).map_err(failed)?.into_iter();
            seen.extend(vectors.map(|vector| Arrival::Interrupt { vcpu, vector }));
        }
        Ok(seen)
    }

    /// Clears what is requested of these vCPUs.
    pub(super) fn clear(&mut self, vcpus: &BTreeSet<u8>) -> io::Result<()> {
        for &vcpu in vcpus {
            let Some(fd) = self.vcpus.get(usize::from(vcpu)) else { continue };
            let failed = |error| named(&format!("the local APIC of vCPU {vcpu}"), error);
            let taken = lapic::take_irr(fd).map_err(failed)?;
            self.looks += 1;
            self.clears += u64::from(!taken.is_empty());
        }
        Ok(())
    }
}

fn named(what: &str, error: kvm_ioctls::Error) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
