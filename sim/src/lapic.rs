//! The registers of an in-kernel local APIC, as KVM saves and restores them (K13).

use kvm_bindings::kvm_lapic_state as State;
use kvm_ioctls::{Error, VcpuFd};

/// Enables the local APIC of the vCPU with index `index`, and gives it a logical destination as Linux
/// does: the flat model, in which 8 processors have one.
///
/// # Errors
/// KVM_GET_LAPIC's and KVM_SET_LAPIC's.
pub fn enable(vcpu: &VcpuFd, index: u8) -> Result<(), Error> {
    let mut state = vcpu.get_lapic()?;
    set(&mut state, DFR, u32::MAX);
    set(&mut state, LDR, 1_u32.checked_shl(24 + u32::from(index)).unwrap_or(0));
    set(&mut state, SPIV, SOFTWARE_ENABLE | SPURIOUS);
    vcpu.set_lapic(&state)
}

/// The requested interrupt vectors. KVM adds those posted to the processor's own APIC first.
///
/// # Errors
/// KVM_GET_LAPIC's.
pub fn irr(vcpu: &VcpuFd) -> Result<Vec<u8>, Error> {
    Ok(requested(&vcpu.get_lapic()?))
}

/// [`irr`], which it clears. What arrives meanwhile is lost: nobody may be sending.
///
/// # Errors
/// KVM_GET_LAPIC's and KVM_SET_LAPIC's.
pub fn take_irr(vcpu: &VcpuFd) -> Result<Vec<u8>, Error> {
    let mut state = vcpu.get_lapic()?;
    let vectors = requested(&state);
    if !vectors.is_empty() {
        for register in IRR {
            set(&mut state, register, 0);
        }
        vcpu.set_lapic(&state)?;
    }
    Ok(vectors)
}

fn requested(state: &State) -> Vec<u8> {
    let words = IRR.map(|register| get(state, register));
    (0..=u8::MAX).filter(|v| words[usize::from(v / 32)] >> (v % 32) & 1 != 0).collect()
}

fn get(state: &State, register: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| state.regs[register + i] as u8))
}

fn set(state: &mut State, register: usize, value: u32) {
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
