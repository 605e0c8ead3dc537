//! The virtual machine: vCPUs that never run, and their local APICs (C13).

use super::arrival::{Arrival, highest_target};
use kvm_bindings::kvm_lapic_state as Lapic;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use msix_backends::kvm::{Entry, Msi, Vm};
use msix_core::Message;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

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

/// The VM as its routes' owner has it. The machine makes vCPUs of the same VM.
#[derive(Debug)]
pub(super) struct Shared(Arc<VmFd>);

impl Machine {
    /// One with a vCPU.
    pub(super) fn new() -> io::Result<(Self, Shared)> {
        let failed = |what: &'static str| move |error| named(what, error);
        let kvm = Kvm::new().map_err(failed("/dev/kvm"))?;
        let vm = kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?;
        vm.create_irq_chip().map_err(failed("KVM_CREATE_IRQCHIP"))?;
        let vm = Arc::new(vm);
        let shared = Shared(Arc::clone(&vm));
        let mut machine = Self { vm, vcpus: Vec::new(), looks: 0, clears: 0 };
        machine.grow(1)?;
        Ok((machine, shared))
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
            let mut state = vcpu.get_lapic().map_err(failed)?;
            // What Linux does: the flat model, in which 8 processors have a logical id.
            set(&mut state, DFR, u32::MAX);
            set(&mut state, LDR, 1_u32.checked_shl(24 + id).unwrap_or(0));
            set(&mut state, SPIV, SOFTWARE_ENABLE | SPURIOUS);
            vcpu.set_lapic(&state).map_err(failed)?;
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
            let state = fd.get_lapic().map_err(failed)?;
            let words = IRR.map(|register| get(&state, register));
            let is_set = |&vector: &u8| words[usize::from(vector / 32)] >> (vector % 32) & 1 != 0;
            let vectors = (0..=u8::MAX).filter(is_set);
            seen.extend(vectors.map(|vector| Arrival::Interrupt { vcpu, vector }));
        }
        Ok(seen)
    }

    /// Clears what is requested of these vCPUs.
    pub(super) fn clear(&mut self, vcpus: &BTreeSet<u8>) -> io::Result<()> {
        for &vcpu in vcpus {
            let Some(fd) = self.vcpus.get(usize::from(vcpu)) else { continue };
            let failed = |error| named(&format!("KVM_GET_LAPIC of vCPU {vcpu}"), error);
            let mut state = fd.get_lapic().map_err(failed)?;
            IRR.iter().for_each(|&register| set(&mut state, register, 0));
            (self.looks, self.clears) = (self.looks + 1, self.clears + 1);
            let failed = |error| named(&format!("KVM_SET_LAPIC of vCPU {vcpu}"), error);
            fd.set_lapic(&state).map_err(failed)?;
        }
        Ok(())
    }
}

impl Vm for Shared {
    fn set_routes(&self, routes: &[Entry]) -> io::Result<()> {
        self.0.set_routes(routes)
    }

    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        self.0.assign(eventfd, gsi)
    }

    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        self.0.deassign(eventfd, gsi)
    }

    fn signal(&self, msi: Msi) -> io::Result<bool> {
        self.0.signal(msi)
    }
}

fn named(what: &str, error: kvm_ioctls::Error) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn get(state: &Lapic, register: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| state.regs[register + byte] as u8))
}

fn set(state: &mut Lapic, register: usize, value: u32) {
    for (to, from) in state.regs[register..].iter_mut().zip(value.to_le_bytes()) {
        *to = from as _;
    }
}

const LDR: usize = 0xd0;
const DFR: usize = 0xe0;
const SPIV: usize = 0xf0;
const IRR: [usize; 8] = [0x200, 0x210, 0x220, 0x230, 0x240, 0x250, 0x260, 0x270];
const SOFTWARE_ENABLE: u32 = 1 << 8;
const SPURIOUS: u32 = 0xff;
