//! The maps of who owns what, of what this kernel's vfio-pci reports.

use super::{Test, same, text};
use crate::device::Device;
use crate::world::World;
use msix_backends::assign::{
    AssignOptions, Assigned, BarOwner, ConfigOwner, FunctionBars, KernelBar, Mappable, PageSize,
};
use msix_core::Region;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vfio_bindings::bindings::vfio::{VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::VfioRegionInfoCap;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("the maps are of what vfio-pci reports, and the kernel maps what they say", maps),
    ("the guest's bytes are the VMM's, and the device's are the kernel's", bytes),
];

fn config(device: &Device) -> Result<Vec<u8>, String> {
    let size = device.vfio().get_region_size(VFIO_PCI_CONFIG_REGION_INDEX);
    let dwords = (0..u16::try_from(size).map_err(text)?).step_by(4);
    let read = dwords.map(|at| device.config::<4>(at));
    Ok(read.collect::<Result<Vec<_>, _>>()?.concat())
}

fn kernel_bar(device: &Device, index: u32) -> KernelBar {
    let vfio = device.vfio();
    let caps = vfio.get_region_caps(index);
    let sparse = caps.iter().find_map(|cap| match cap {
        VfioRegionInfoCap::SparseMmap(sparse) => Some(&sparse.areas),
        _ => None,
    });
    let may = vfio.get_region_flags(index) & VFIO_REGION_INFO_FLAG_MMAP != 0;
    let mappable = match (may, sparse) {
        (false, _) => Mappable::Nothing,
        (true, None) => Mappable::Whole,
        (true, Some(areas)) => {
            Mappable::Areas(areas.iter().map(|a| a.offset..a.offset + a.size).collect())
        }
    };
    KernelBar { mappable, msix_mappable: caps.contains(&VfioRegionInfoCap::MsixMappable) }
}

pub(super) fn assigned(device: &Device, page: PageSize) -> Result<Assigned, String> {
    let config = config(device)?;
    let sizes = std::array::from_fn(|index| device.vfio().get_region_size(index as u32));
    let bars = FunctionBars::from_config(&config, sizes).map_err(text)?;
    let kernel = std::array::from_fn(|index| kernel_bar(device, index as u32));
    let mut options = AssignOptions::default();
    options.page = page;
    options.kernel = kernel;
    Assigned::new(&config, bars, &options).map_err(text)
}

fn maps(world: &mut World) -> Result<(), String> {
    for device in world.devices() {
        for page in PageSize::ALL {
            let function = assigned(device, page)?;
            function.check().map_err(|violation| format!("{}: {violation:?}", device.name))?;
            if let Some(Ok(layout)) = function.own_msix() {
                let at = layout.location(Region::Table);
                // D11: the kernel has the capability for the BAR of the table, and it is trapped.
                let bar = at.bar.index();
                let kernel = kernel_bar(device, bar.into());
                let small = device.vfio().get_region_size(bar.into()) < 4096;
                same("MSIX_MAPPABLE", kernel.msix_mappable || small, true)?;
                let owners: Vec<_> =
                    function.trap(at.bar, at.offset, 16).map(|run| run.owner).collect();
                same("who answers for the table", owners, vec![BarOwner::Table])?;
            }
        }
        // This machine's pages are of 4 KiB.
        let function = assigned(device, PageSize::Kib4)?;
        let mut mapped = 0;
        for (bar, range) in function.mapped() {
            let len = usize::try_from(range.end - range.start).map_err(text)?;
            let at = device.vfio().get_region_offset(bar.index().into()) + range.start;
            // SAFETY: the pages are new, only unmapped again, and nothing refers to them.
            #[expect(unsafe_code, reason = "a mapping")]
            unsafe {
                let flags = ProtFlags::READ | ProtFlags::WRITE;
                let pages = mmap(std::ptr::null_mut(), len, flags, MapFlags::SHARED, device, at);
                let pages = pages
                    .map_err(|error| format!("{} {bar:?} {range:x?}: {error}", device.name))?;
                munmap(pages, len).map_err(text)?;
            }
            mapped += len;
        }
        let msix = function.msix().map(|layout| layout.vectors());
        println!("VM-FIGURE: {}: {mapped:#x} bytes mapped, MSI-X vectors {msix:?}", device.name);
        same("the MSI-X of the capability", msix.is_some(), function.capability(0x11).is_some())?;
    }
    let maps_of = |device: &Device| -> Result<Vec<u8>, String> {
        Ok(assigned(device, PageSize::Kib4)?.mapped().map(|(bar, _)| bar.index()).collect())
    };
    same("BARs of ivshmem that are mapped", maps_of(&world.ivshmem)?, vec![2])?;
    same("BARs of edu that are mapped", maps_of(&world.edu)?, vec![0])
}

/// What the guest writes of emulated bytes need not reach the device; what the kernel itself keeps from
/// the device must be emulated.
fn bytes(world: &mut World) -> Result<(), String> {
    for device in world.devices() {
        let function = assigned(device, PageSize::Kib4)?;
        for id in [0x05, 0x11] {
            let Some(capability) = function.capability(id) else { continue };
            let at = capability.at;
            // D11: the kernel drops writes of the capability's control; so the VMM answers.
            let control = at + 2;
            same(
                "who answers for Message Control",
                function.owner(control.into()),
                ConfigOwner::Emulated,
            )?;
            let before = device.config::<2>(control)?;
            device.write_config(control, &[before[0], before[1] ^ 0x40])?;
            same("what the kernel made of the write", device.config::<2>(control)?, before)?;
        }
        for offset in (0x10..0x28).step_by(4) {
            same("who answers for a BAR", function.owner(offset), ConfigOwner::Emulated)?;
        }
        same("who answers for the ids", function.owner(0), ConfigOwner::Passed)?;
        same("who answers for Command", function.owner(4), ConfigOwner::Both)?;
    }
    Ok(())
}
