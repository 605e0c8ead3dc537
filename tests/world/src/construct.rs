//! How the function of a world is made, and what a driver does first.

use crate::defect::{Boasting, Defect};
use crate::device::VectorIndex;
use crate::input::Input;
use crate::kernel::{FRAME, PIN_GSI};
use crate::naive::Mode;
use crate::outside::Shared;
use crate::setup::{Behind, Producers, Setup};
use crate::world::{Producer, World};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    AssignedLine, Deferral, EventfdOrigin, Format, Function, FunctionSetup, Irqchip, PassedThrough,
    PhysicalMsi, RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, IrqIndex, WhileMasked};
use msix_core::policy::LiveRewrite;
use msix_core::{BarIndex, Layout, MsiCapability, Policy, Vector};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

impl World {
    /// Makes the function, in a process of its own.
    pub(crate) fn build(&mut self) {
        let (setup, outside) = (self.setup, &self.outside);
        self.routes = routes(&setup, outside, &self.events);
        let msi = setup.msi.map(|shape| {
            let vectors = u32::from(setup.vectors).next_power_of_two();
            let plain = MsiCapability::new(vectors).unwrap_or_else(|_| unreachable!());
            let wide = if shape.wide { plain.with_64_bit_address() } else { plain };
            if shape.masks { wide.with_masks() } else { wide }
        });
        let bar = BarIndex::new(0).unwrap_or_else(|_| unreachable!());
        let layout = Layout::exclusive_bar(setup.vectors.into(), bar).ok().filter(|_| setup.msix);
        let origin = match setup.producers {
            Producers::Connected | Producers::Late => EventfdOrigin::Connected,
            Producers::None | Producers::Own => EventfdOrigin::Own,
        };
        let function = Function::new(
            &self.routes,
            FunctionSetup {
                msi,
                msix: layout,
                pin: setup.pin.then(|| Box::new(outside.clone()) as _),
                policy: if setup.lazy {
                    Policy { live_rewrite: LiveRewrite::Ignore, ..Policy::SPEC }
                } else {
                    Policy::SPEC
                },
                format: if setup.frame { Format::gicv2m(FRAME) } else { Format::default() },
                eventfds: origin,
                device: setup.is_physical().then(|| self.behind()),
                ..FunctionSetup::new(outside.clone())
            },
        )
        .expect("no device id is needed");
        self.producers.clear();
        for vector in (0..setup.vectors).filter(|_| setup.producers != Producers::None) {
            let vector = Vector::new(vector.into());
            let eventfd = if origin == EventfdOrigin::Connected {
                Arc::new(EventFd::new(EFD_NONBLOCK).expect("a descriptor"))
            } else {
                function.eventfd(vector).expect("a descriptor")
            };
            let fd = (origin == EventfdOrigin::Own).then(|| eventfd.as_raw_fd());
            self.producers.push(Producer { fd, eventfd });
        }
        self.function = Some(function);
        for vector in (0..setup.vectors).filter(|_| setup.producers == Producers::Connected) {
            self.connect(vector).expect("it has none");
        }
        self.claim_all();
    }

    fn behind(&self) -> PassedThrough {
        let (setup, outside) = (self.setup, &self.outside);
        let count = u16::from(setup.vectors);
        let index = IrqIndex { count: count.into(), noresize: setup.noresize, holes: true };
        let msix = VectorIndex(outside.clone(), Mode::MsiX);
        let msi = DeviceMsi::new(VectorIndex(outside.clone(), Mode::Msi), count);
        let msi: Box<dyn PhysicalMsi> = if self.defect == Some(Defect::UnboundMsiForgotten) {
            Box::new(Boasting(msi))
        } else {
            Box::new(msi)
        };
        let line = AssignedLine::new(Box::new(outside.clone())).expect("a descriptor");
        let line = match setup.behind {
            Behind::ResampledDevice => line.resampled_by(Box::new(outside.clone()), PIN_GSI),
            Behind::Device | Behind::Emulated => line,
        };
        let masked = if setup.keeps_masked { WhileMasked::Physical } else { WhileMasked::Eventfd };
        PassedThrough {
            msix: setup.msix.then(|| Box::new(DeviceMsix::new(msix, index, masked)) as _),
            msi: setup.msi.map(|_| msi),
            line: setup.pin.then_some(line),
            ..PassedThrough::new(Box::new(outside.clone()))
        }
    }

    /// Programs all messages, with the first of their values.
    pub(crate) fn program(&mut self) {
        for vector in 0..self.setup.vectors {
            self.write(Input::AddressLow(vector, false));
            self.write(Input::AddressHigh(vector, false));
            self.write(Input::Data(vector, false));
        }
        for input in
            [Input::MsiAddressLow(false), Input::MsiAddressHigh(false), Input::MsiData(false)]
        {
            self.write(input);
        }
    }

    fn claim_all(&mut self) {
        for vector in (0..self.setup.vectors).filter(|_| self.setup.msix) {
            if !self.setup.is_physical() {
                let claimed = self.function().claim(Vector::new(vector.into()));
                debug_assert!(claimed.is_ok(), "{claimed:?}");
            }
            self.claims[usize::from(vector)] = 1;
        }
    }
}

pub(crate) fn routes(setup: &Setup, outside: &Shared, events: &Arc<Loop>) -> Arc<Routes> {
    let hour = Duration::from_secs(3600);
    let patient = Deferral { growth: 8, quiet: hour, longest: hour };
    let deferral = if setup.deferred { patient } else { Deferral::NONE };
    let irqchip = if setup.split { Irqchip::Split } else { Irqchip::Full };
    let mut options = RouteOptions::new(irqchip);
    options.deferral = deferral;
    options.retry = hour; // only `Input::Loop` tries again, at no time of its own
    Routes::new(Box::new(outside.clone()), options, Arc::clone(events))
}
