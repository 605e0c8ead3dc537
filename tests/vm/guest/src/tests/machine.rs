//! The machine is the one that the other tests want.

use super::{Test, same, text};
use crate::device::MSIX;
use crate::world::{NVME_VECTORS, World};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{VcpuExit, VmFd};
use vfio_bindings::bindings::vfio::{VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("the kernel is the one that was asked for", kernel),
    ("every device is in a group of its own", groups),
    ("MSI-X is resized as this kernel does it", msix),
    ("KVM and VFIO have what the backends need", backends),
    ("KVM runs a guest of its own", guest),
];

fn kernel(world: &mut World) -> Result<(), String> {
    println!("kernel {}", world.release);
    let expected = format!("{}.", world.series);
    same(&world.release, world.release.starts_with(&expected), true)
}

fn groups(world: &mut World) -> Result<(), String> {
    let nvme = world.nvme.as_ref().ok_or("no nvme")?;
    for device in [&*world.ivshmem, nvme] {
        println!("{} in group {}", device.name, device.group);
    }
    same("a shared group", world.ivshmem.group == nvme.group, false)
}

fn msix(world: &mut World) -> Result<(), String> {
    let nvme = world.nvme.as_ref().ok_or("no nvme")?;
    let resize = if world.is_noresize()? { VFIO_IRQ_INFO_NORESIZE } else { 0 };
    for (device, vectors) in [(&*world.ivshmem, 4), (nvme, NVME_VECTORS)] {
        let told = device.irq_info(MSIX)?;
        same(&format!("vectors of {}", device.name), told.count, vectors)?;
        same(&format!("flags of {}", device.name), told.flags, VFIO_IRQ_INFO_EVENTFD | resize)?;
        same("Message Control", u32::from(device.message_control()?), vectors - 1)?;
    }
    Ok(())
}

fn backends(world: &mut World) -> Result<(), String> {
    world.kvm.as_ref().map_err(Clone::clone)?;
    println!("{}", msix_backends::kvm::probe().map_err(text)?);
    let facts = msix_backends::vfio::probe().map_err(text)?;
    println!("{facts}");
    same("groups", facts.groups, 5)
}

fn guest(world: &mut World) -> Result<(), String> {
    let kvm = world.kvm.as_ref().map_err(Clone::clone)?;
    let memory: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).map_err(text)?;
    memory.write_slice(&[HLT], GuestAddress(CODE)).map_err(text)?;
    let vm: VmFd = kvm.create_vm().map_err(text)?;
    let host = memory.get_host_address(GuestAddress(0)).map_err(text)?;
    let region = kvm_userspace_memory_region {
        memory_size: 0x2000,
        userspace_addr: host.addr() as u64,
        ..Default::default()
    };
    // SAFETY: The memory is mapped for longer than the virtual machine is there, and nothing else
    // uses it.
    #[expect(unsafe_code, reason = "KVM takes an address")]
    unsafe { vm.set_user_memory_region(region) }.map_err(text)?;
    let mut cpu = vm.create_vcpu(0).map_err(text)?;
    let mut segments = cpu.get_sregs().map_err(text)?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    cpu.set_sregs(&segments).map_err(text)?;
    let mut registers = cpu.get_regs().map_err(text)?;
    registers.rip = CODE;
    registers.rflags = 2;
    cpu.set_regs(&registers).map_err(text)?;
    match cpu.run().map_err(text)? {
        VcpuExit::Hlt => Ok(()),
        other => Err(format!("{other:?} instead of a halt")),
    }
}

/// Where the guest's only instruction is.
const CODE: u64 = 0x1000;
const HLT: u8 = 0xf4;
