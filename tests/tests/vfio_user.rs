//! A vfio-user server as a second receiver of what the VFIO backend plans, written by others. It takes
//! no holes (D14).
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{
    Deferral, DeviceControl, Function, FunctionSetup, Irqchip, PassedThrough, RouteOptions,
};
use msix_backends::vfio::{DeviceMsix, IrqIndex, Irqs, WhileMasked};
use msix_core::{BarIndex, Layout};
use msix_tests::functions::{Vmm, mask, pending, routes};
use msix_tests::machine::{eventually, open_or_skip};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend};

const VECTORS: u16 = 40;
/// Descriptors that a message of this server takes.
const MOST: usize = 16;

/// What the server was told: the eventfd of each vector, and how often it was told.
#[derive(Debug, Default)]
struct VectorEffect {
    bound: BTreeMap<u32, File>,
    calls: usize,
}

#[derive(Debug, Clone, Default)]
struct Device(Arc<Mutex<VectorEffect>>);

/// Nobody maps its BARs, and nobody resets it.
impl DeviceControl for Device {
    fn set_mappings(&mut self, _: bool) {}
    fn reset_device(&mut self) {}
}

impl Device {
    fn told<T>(&self, look: impl FnOnce(&mut VectorEffect) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a message, if the vector is bound.
    fn raise(&self, vector: u32) -> bool {
        let event = 1_u64.to_ne_bytes();
        self.told(|told| {
            told.bound.get_mut(&vector).is_some_and(|file| file.write_all(&event).is_ok())
        })
    }
}

impl ServerBackend for Device {
    fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }
    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        assert_eq!(index, VFIO_PCI_MSIX_IRQ_INDEX);
        assert!(fds.is_empty() || fds.len() == count as usize, "D14: all or none");
        self.told(|told| {
            told.calls += 1;
            if flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0 {
                told.bound.clear();
            } else {
                told.bound.retain(|vector, _| !(start..start + count).contains(vector));
                told.bound.extend((start..).zip(fds));
            }
        });
        Ok(())
    }
}

/// The MSI-X index of a device behind a vfio-user connection.
struct UserIrqs(Mutex<Client>);

impl UserIrqs {
    fn tell(&self, data: u32, start: u32, count: usize, fds: &[i32]) -> io::Result<()> {
        let count = u32::try_from(count).map_err(io::Error::other)?;
        let flags = data | VFIO_IRQ_SET_ACTION_TRIGGER;
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = client.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, start, count, fds);
        told.map_err(io::Error::other)
    }
}

impl Irqs for UserIrqs {
    fn set(&self, start: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> io::Result<u32> {
        for (chunk, start) in eventfds.chunks(MOST).zip((start..).step_by(MOST)) {
            let fds: Vec<i32> = chunk.iter().flatten().map(|eventfd| eventfd.as_raw_fd()).collect();
            assert_eq!(fds.len(), chunk.len(), "D14: no holes");
            self.tell(VFIO_IRQ_SET_DATA_EVENTFD, start, chunk.len(), &fds)?;
        }
        Ok(0)
    }

    fn unset(&self, vectors: Range<u32>) -> io::Result<()> {
        self.tell(VFIO_IRQ_SET_DATA_EVENTFD, vectors.start, vectors.len(), &[])
    }

    fn disable(&self) -> io::Result<()> {
        self.tell(VFIO_IRQ_SET_DATA_NONE, 0, 0, &[])
    }
}

#[test]
fn d14_a_vfio_user_server_is_told_no_holes_and_its_interrupts_arrive_once() {
    let name = "d14_a_vfio_user_server_is_told_no_holes_and_its_interrupts_arrive_once";
    let Some(machine) = open_or_skip(name, 1) else { return };
    for while_masked in [WhileMasked::Eventfd, WhileMasked::Physical] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("device");
        let irqs = (0..=VFIO_PCI_MSIX_IRQ_INDEX)
            .map(|index| IrqInfo { index, flags: 1, count: VECTORS.into() })
            .collect();
        let server = Server::new(&socket, true, irqs, Vec::new()).expect("a socket");
        let device = Device::default();
        let mut backend = device.clone();
        let thread = std::thread::spawn(move || server.run(&mut backend).expect("it serves"));

        let mut client = Client::new(&socket).expect("a connection");
        let info = client.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).expect("an answer");
        let index = IrqIndex { count: info.count, noresize: false, holes: false };
        let physical = DeviceMsix::new(UserIrqs(Mutex::new(client)), index, while_masked);
        let mut options = RouteOptions::new(Irqchip::Full);
        options.deferral = Deferral::NONE;
        let routes = routes(&machine, options);
        let bar = BarIndex::new(0).expect("a BAR");
        let layout = Layout::exclusive_bar(VECTORS.into(), bar).expect("a layout");
        let behind = PassedThrough {
            msix: Some(Box::new(physical)),
            ..PassedThrough::new(Box::new(device.clone()))
        };
        let setup =
            FunctionSetup { msix: Some(layout), device: Some(behind), ..FunctionSetup::new(Vmm) };
        let function = Function::new(&routes, setup).expect("no device id is needed");
        function.write_command(0, &[6, 0]);
        for vector in 0..VECTORS {
            let entry = u64::from(vector) * 16;
            function.write_table(entry, &0xfee0_0000_u64.to_le_bytes());
            function.write_table(entry + 8, &(0x40 + u32::from(vector)).to_le_bytes());
        }
        function.write_msix(3, &[0x80]);
        // Sparse, before and behind; then all.
        let interrupt = |vector: u16| 0x40 + vector.to_le_bytes()[0];
        for vector in [7, 2, 39].into_iter().chain(0..VECTORS) {
            mask(&function, vector, false);
            assert!(device.raise(vector.into()), "v{vector} is bound");
            assert_eq!(machine.take_irr(0), [interrupt(vector)]);
        }
        mask(&function, 5, true);
        match while_masked {
            WhileMasked::Eventfd => {
                assert!(device.raise(5));
                assert_eq!((machine.take_irr(0), pending(&function)), (vec![], 1 << 5));
                mask(&function, 5, false);
                assert_eq!(machine.take_irr(0), [interrupt(5)]);
                let calls = device.told(|told| told.calls);
                assert!(calls <= 8, "{calls} calls for 40 vectors");
            }
            WhileMasked::Physical => {
                assert!(!device.raise(5), "it is not bound: the device keeps the event");
                mask(&function, 5, false);
                assert!(device.raise(5));
                assert_eq!(machine.take_irr(0), [interrupt(5)]);
            }
        }
        function.write_msix(3, &[0]);
        assert_eq!(device.told(|told| told.bound.len()), 0);
        drop(function);
        eventually("the server ends with its connection", || thread.is_finished());
        thread.join().expect("it served");
    }
}
