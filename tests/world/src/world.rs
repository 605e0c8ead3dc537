//! One function with all that is around it, and one input after the other.

use crate::defect::{Boasting, Defect};
use crate::device::VectorIndex;
use crate::input::Input;
use crate::kernel::PIN_GSI;
use crate::ledger::Owed;
use crate::naive::{ADDRESS, HIGH, Mode, Registers};
use crate::outside::Shared;
use crate::setup::{Behind, Producers, Setup};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    AssignedLine, Deferral, EventfdOrigin, Function, FunctionSetup, Irqchip, PassedThrough,
    PhysicalMsi, RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, IrqIndex, WhileMasked};
use msix_core::{BarIndex, Delivery, DropReason, Layout, MsiCapability, Vector};
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What the function did against the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn violated<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}

/// A snapshot, and what should be in it.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    pub(crate) bytes: Vec<u8>,
    pub(crate) registers: Registers,
    pub(crate) claims: Vec<u8>,
    pub(crate) must: Vec<bool>,
}

/// The function, and all that is around it.
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) defect: Option<Defect>,
    pub(crate) outside: Shared,
    pub(crate) routes: Arc<Routes>,
    pub(crate) function: Option<Function<Shared>>,
    /// The eventfds that somebody else writes, with the function's descriptors of them.
    pub(crate) producers: Vec<(RawFd, EventFd)>,
    pub(crate) registers: Registers,
    pub(crate) claims: Vec<u8>,
    pub(crate) attached: bool,
    pub(crate) loading: bool,
    pub(crate) owed: Vec<Owed>,
    /// By vector: messages that the host was told before, and may go by until the loop has run.
    pub(crate) recent: Vec<Vec<(u64, u32)>>,
    /// By vector: a message of it could not be sent, and waits in the backend.
    pub(crate) unsent: Vec<bool>,
    pub(crate) saved: Option<Saved>,
    /// The host has too few vectors for MSI, or had when they were asked for.
    pub(crate) is_scarce: bool,
    /// Pending bits that the guest just read, and of which mode.
    pub(crate) read_bits: Option<(Mode, u64)>,
    /// A call failed, and what it was for may not be there until it is tried again.
    pub(crate) tolerant: bool,
}

impl World {
    /// A function as a driver has it before it enables an interrupt: messages programmed, bus master on.
    ///
    /// # Panics
    /// When the machine has no descriptors left.
    #[must_use]
    pub fn new(setup: Setup, defect: Option<Defect>) -> Self {
        let outside = Shared::default();
        {
            let mut all = outside.lock();
            all.device.vectors = setup.vectors.into();
            all.device.available_msi = u32::from(setup.vectors) - u32::from(setup.scarce);
            all.kernel.is_stubborn = defect == Some(Defect::RewriteNeverTold);
        }
        let registers = Registers::new(&setup);
        let vectors = usize::from(setup.vectors);
        let mut world = Self {
            setup,
            defect,
            routes: routes(&outside),
            outside,
            function: None,
            producers: Vec::new(),
            registers,
            claims: vec![0; vectors],
            attached: true,
            loading: false,
            owed: vec![Owed::default(); vectors],
            recent: vec![Vec::new(); vectors],
            unsent: vec![false; vectors],
            saved: None,
            is_scarce: setup.scarce,
            read_bits: None,
            tolerant: false,
        };
        world.build();
        world.program();
        world.write_command(true, false);
        world
    }

    /// Makes the function, in a process of its own.
    pub(crate) fn build(&mut self) {
        let (setup, outside) = (self.setup, &self.outside);
        self.routes = routes(outside);
        let msi = setup.msi.map(|shape| {
            let vectors = u32::from(setup.vectors).next_power_of_two();
            let plain = MsiCapability::new(vectors).unwrap_or_else(|_| unreachable!());
            let wide = if shape.wide { plain.with_64_bit_address() } else { plain };
            if shape.masks { wide.with_masks() } else { wide }
        });
        let bar = BarIndex::new(0).unwrap_or_else(|_| unreachable!());
        let layout = Layout::exclusive_bar(setup.vectors.into(), bar).ok().filter(|_| setup.msix);
        let origin = match setup.producers {
            Producers::Connected => EventfdOrigin::Connected,
            Producers::None | Producers::Own => EventfdOrigin::Own,
        };
        let function = Function::new(
            &self.routes,
            FunctionSetup {
                msi,
                msix: layout,
                pin: setup.pin.then(|| Box::new(outside.clone()) as _),
                eventfds: origin,
                device: setup.is_physical().then(|| self.behind()),
                ..FunctionSetup::new(outside.clone())
            },
        );
        self.producers.clear();
        for vector in (0..setup.vectors).filter(|_| setup.producers != Producers::None) {
            let vector = Vector::new(vector.into());
            let eventfd = if origin == EventfdOrigin::Connected {
                let made = EventFd::new(EFD_NONBLOCK).expect("a descriptor");
                let copy = made.try_clone().expect("a descriptor");
                let fd = copy.as_raw_fd();
                function.connect(vector, copy).expect("it has none");
                (fd, made)
            } else {
                let own = function.eventfd(vector).expect("a descriptor");
                (own.as_raw_fd(), own.try_clone().expect("a descriptor"))
            };
            self.producers.push(eventfd);
        }
        self.function = Some(function);
        self.claim_all();
    }

    fn behind(&self) -> PassedThrough {
        let (setup, outside) = (self.setup, &self.outside);
        let count = u16::from(setup.vectors);
        let index = IrqIndex { count: count.into(), noresize: false, holes: true };
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
        PassedThrough {
            msix: setup.msix.then(|| {
                Box::new(DeviceMsix::new(msix, index, WhileMasked::Eventfd)) as _
            }),
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
        for input in [Input::MsiAddressLow(false), Input::MsiAddressHigh(false), Input::MsiData(false)] {
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

    pub(crate) fn function(&self) -> &Function<Shared> {
        self.function.as_ref().expect("it is there between inputs")
    }

    /// Whether an input can make a difference now.
    #[must_use]
    pub fn takes(&self, input: Input) -> bool {
        match input {
            Input::Load | Input::NewProcess => self.saved.is_some(),
            Input::Resume => self.loading,
            Input::Attach => !self.attached,
            Input::Detach => self.attached,
            Input::Claim(v) => self.claims[usize::from(v)] < 2,
            Input::Unclaim(v) => self.claims[usize::from(v)] > 0,
            _ => true,
        }
    }

    /// Gives the function one input, lets everything around it move, and judges.
    ///
    /// # Errors
    /// [`Violation`] when a rule is broken.
    pub fn apply(&mut self, input: Input) -> Result<(), Violation> {
        let before = self.moment();
        let is_first = self.loading && !matches!(input, Input::Resume | Input::Load | Input::NewProcess);
        if self.defect == Some(Defect::EagerAfterLoad) && is_first {
            self.function().resume();
        }
        self.perform(input)?;
        self.outside.lock().run();
        self.judge(input, &before)
    }

    fn perform(&mut self, input: Input) -> Result<(), Violation> {
        match input {
            Input::Event(vector) => return self.event(vector),
            Input::Produce(vector) => self.produce(vector),
            Input::Level(high) if self.setup.is_physical() => {
                self.outside.lock().device.asserts = high;
            }
            Input::Level(high) => {
                self.registers.level = high;
                self.function().set_level(high);
            }
            Input::Withdraw(vector) => self.withdraw(vector),
            Input::Claim(vector) => {
                let claimed = self.function().claim(Vector::new(vector.into()));
                debug_assert!(claimed.is_ok(), "{claimed:?}");
                self.claims[usize::from(vector)] += 1;
            }
            Input::Unclaim(vector) => self.unclaim(vector),
            Input::Command { bus_master, intx_disable } => {
                self.write_command(bus_master, intx_disable);
            }
            Input::Eoi => self.eoi(),
            Input::ReadMsix | Input::ReadPba | Input::ReadMsi | Input::ReadStatus => {
                return self.read(input);
            }
            Input::Attach => {
                self.function().attach();
                self.attached = true;
            }
            Input::Detach => {
                self.function().detach();
                self.attached = false;
            }
            Input::Save => self.save(),
            Input::Load => return self.load(),
            Input::NewProcess => return self.new_process(),
            Input::Resume => self.resume(),
            Input::Reset => self.reset(),
            Input::Loop => {
                self.routes.run(Some(Duration::ZERO)).expect("epoll");
                self.routes.flush();
            }
            Input::Fail(call) => self.outside.lock().failing = Some(call),
            write => self.write(write),
        }
        Ok(())
    }

    /// The guest writes a capability or the table.
    fn write(&mut self, input: Input) {
        let before = self.messages();
        let bytes = |value: u32| value.to_le_bytes();
        let (alt, low) = (u32::from, |alt: bool| ADDRESS | u32::from(alt) << 12);
        let high = |alt: bool| if alt { HIGH } else { 0 };
        let data = |vector: u8, alt: bool| 0x20 + u32::from(vector) * 2 + u32::from(alt);
        match input {
            Input::MsixControl { enable, mask } => {
                self.write_msix(3, &[u8::from(enable) << 7 | u8::from(mask) << 6]);
            }
            Input::Mask(vector, masked) => self.write_entry(vector, 12, &bytes(alt(masked))),
            Input::AddressLow(vector, alt) => self.write_entry(vector, 0, &bytes(low(alt))),
            Input::AddressHigh(vector, alt) => self.write_entry(vector, 4, &bytes(high(alt))),
            Input::Data(vector, alt) => self.write_entry(vector, 8, &bytes(data(vector, alt))),
            Input::DataAndMask(vector, alt, masked) => {
                let both = u64::from(data(vector, alt)) | u64::from(masked) << 32;
                self.write_entry(vector, 8, &both.to_le_bytes());
            }
            Input::MsiControl { enable, log } => {
                self.write_msi(2, &[u8::from(enable) | (log & 3) << 4]);
            }
            Input::MsiMask(bits) => {
                if let Some(at) = self.registers.masks_at() {
                    self.write_msi(at, &bytes(bits.into()));
                }
            }
            Input::MsiAddressLow(alt) => self.write_msi(4, &bytes(low(alt))),
            Input::MsiAddressHigh(alt) if self.registers.data_at() == 12 => {
                self.write_msi(8, &bytes(high(alt)));
            }
            Input::MsiData(alt) => {
                let data = 0x60_u16 | u16::from(alt) << 4;
                self.write_msi(self.registers.data_at(), &data.to_le_bytes());
            }
            Input::MsiAddressByte(alt) => self.write_msi(5, &[u8::from(alt) << 5]),
            _ => {}
        }
        if !self.loading {
            self.note_rewritten(&before);
        }
    }

    fn write_msix(&mut self, at: usize, bytes: &[u8]) {
        if let Some(msix) = &mut self.registers.msix {
            msix.write(at, bytes);
            self.function().write_msix(at, bytes);
        }
    }

    fn write_entry(&mut self, vector: u8, at: usize, bytes: &[u8]) {
        if self.setup.msix {
            let at = usize::from(vector) * 16 + at;
            self.registers.table.write(at, bytes);
            self.function().write_table(at as u64, bytes);
        }
    }

    fn write_msi(&mut self, at: usize, bytes: &[u8]) {
        if let Some(msi) = &mut self.registers.msi {
            msi.write(at, bytes);
            self.function().write_msi(at, bytes);
        }
    }

    fn write_command(&mut self, bus_master: bool, intx_disable: bool) {
        self.registers.command =
            2 | u16::from(bus_master) << 2 | u16::from(intx_disable) << 10;
        self.function().write_command(0, &self.registers.command.to_le_bytes());
    }

    /// The messages of the current mode, of those vectors that are delivered.
    pub(crate) fn messages(&self) -> Vec<Option<(u64, u32)>> {
        let mode = self.registers.mode();
        let message = |vector| {
            let message = self.registers.message(mode, vector);
            message.filter(|_| self.registers.deliverable(vector))
        };
        (0..self.setup.vectors).map(message).collect()
    }

    fn note_rewritten(&mut self, before: &[Option<(u64, u32)>]) {
        let now = self.messages();
        for ((recent, old), new) in self.recent.iter_mut().zip(before).zip(now) {
            match (old, new) {
                (Some(old), Some(new)) if *old != new && !recent.contains(old) => recent.push(*old),
                (_, None) => recent.clear(),
                _ => {}
            }
        }
    }

    fn event(&mut self, vector: u8) -> Result<(), Violation> {
        if self.setup.is_physical() {
            let mut outside = self.outside.lock();
            if let Some(reached) = outside.device.raise(vector.into()) {
                drop(outside);
                self.owed[reached as usize].fire(true);
            }
            return Ok(());
        }
        let index = Vector::new(vector.into());
        let delivery = if self.defect == Some(Defect::OpenGateAfterLoad)
            && self.loading
            && let Some((_, eventfd)) = self.producers.get(usize::from(vector))
        {
            eventfd.write(1).expect("it is not full");
            Delivery::Pending
        } else {
            self.function().notify(index).map_err(|error| Violation(error.to_string()))?
        };
        let mode = self.registers.mode();
        let claimed = mode == Mode::Msi || !self.setup.msix || self.claims[usize::from(vector)] > 0;
        let right = match delivery {
            Delivery::Sent => !self.loading && claimed && self.registers.deliverable(vector),
            Delivery::Pending | Delivery::Coalesced => {
                mode != Mode::Intx
                    && claimed
                    && (self.loading || !self.registers.deliverable(vector))
            }
            Delivery::Dropped(reason) => reason == DropReason::Unclaimed && !claimed,
            Delivery::Intx => mode == Mode::Intx,
        };
        if !right {
            return violated(format!("an event of vector {vector} is {delivery:?}"));
        }
        if matches!(delivery, Delivery::Sent | Delivery::Pending | Delivery::Coalesced) {
            self.owed[usize::from(vector)].fire(true);
        }
        Ok(())
    }

    fn produce(&mut self, vector: u8) {
        let Some((_, eventfd)) = self.producers.get(usize::from(vector)) else { return };
        eventfd.write(1).expect("it is not full");
        // The events of an unclaimed vector may be dropped (C24), but KVM does not know of claims.
        let sure = !self.setup.msix || self.claims[usize::from(vector)] > 0;
        self.owed[usize::from(vector)].fire(sure);
    }

    fn withdraw(&mut self, vector: u8) {
        let mode = if self.setup.msix { Mode::MsiX } else { Mode::Msi };
        let withdrawn = self.function().withdraw(mode, Vector::new(vector.into()));
        debug_assert!(withdrawn.is_ok(), "{withdrawn:?}");
        self.drop_owed(vector);
    }

    fn unclaim(&mut self, vector: u8) {
        let unclaimed = self.function().unclaim(Vector::new(vector.into()));
        debug_assert!(unclaimed.is_ok(), "{unclaimed:?}");
        self.claims[usize::from(vector)] -= 1;
        if self.claims[usize::from(vector)] == 0 {
            self.drop_owed(vector);
        }
    }

    /// The events of one mode's vector are dropped. Those that another mode has may come, and those
    /// that a host holds between a load and its resume, or could not send.
    fn drop_owed(&mut self, vector: u8) {
        let index = usize::from(vector);
        let is_other = self.setup.msix && self.setup.msi.is_some();
        let owed = &mut self.owed[index];
        if self.loading || self.unsent[index] || is_other {
            owed.must = false;
        } else {
            owed.forget();
        }
    }

    fn eoi(&mut self) {
        {
            let mut outside = self.outside.lock();
            if std::mem::take(&mut outside.controller.line) {
                outside.kernel.resample();
            }
            outside.run();
        }
        self.function().eoi();
    }

    fn save(&mut self) {
        let hidden = self.hide(Defect::HeldNotSavedWhileDetached);
        let bytes = self.function().save();
        give_back(&hidden);
        let (registers, claims) = (self.registers.clone(), self.claims.clone());
        self.saved = Some(Saved { bytes, registers, claims, must: Vec::new() });
    }

    /// What the snapshot that was just taken owes: what is pending, once what a save sends is sent.
    pub(crate) fn note_saved(&mut self) {
        let outside = self.outside.lock();
        let in_device = |vector: usize| outside.device.pending.contains(&(vector as u32));
        let owed = self.owed.iter().enumerate();
        let must = owed.map(|(v, owed)| owed.must && !in_device(v)).collect();
        drop(outside);
        if let Some(saved) = &mut self.saved {
            saved.must = must;
        }
    }

    /// Takes what eventfds hold, for a defect.
    fn hide(&self, defect: Defect) -> Vec<EventFd> {
        if self.defect != Some(defect) || self.attached {
            return Vec::new();
        }
        let producers = self.producers.iter().map(|(_, eventfd)| eventfd);
        let producers = producers.filter(|eventfd| eventfd.read().is_ok());
        let mut hidden: Vec<_> = producers.filter_map(|eventfd| eventfd.try_clone().ok()).collect();
        hidden.extend(self.outside.lock().kernel.hide());
        hidden
    }

    fn load(&mut self) -> Result<(), Violation> {
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        if let Err(error) = self.function().load(&saved.bytes) {
            return violated(format!("its own snapshot is refused: {error}"));
        }
        if !self.loading {
            self.recent = self.messages().into_iter().map(|m| m.into_iter().collect()).collect();
        }
        self.registers = saved.registers;
        self.claims = saved.claims;
        for (owed, must) in self.owed.iter_mut().zip(saved.must) {
            // What the host held before may come, or not.
            owed.must = false;
            owed.may = owed.may.max(1);
            owed.fire(must);
        }
        self.loading = true;
        Ok(())
    }

    fn new_process(&mut self) -> Result<(), Violation> {
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        self.unplug()?;
        {
            let mut outside = self.outside.lock();
            outside.kernel.forget();
            outside.device.forget();
        }
        self.attached = true;
        self.tolerant = false;
        self.build();
        self.loading = false;
        self.load()?;
        self.registers.level = saved.registers.level;
        self.owed = saved.must.into_iter().map(Owed::loaded).collect();
        self.recent.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    fn resume(&mut self) {
        {
            let mut outside = self.outside.lock();
            let deaf = self.defect == Some(Defect::DeafLineAtResume);
            (outside.controller.is_deaf, outside.device.is_deaf) = (deaf, deaf);
        }
        self.function().resume();
        self.loading = false;
        self.recent.iter_mut().for_each(Vec::clear);
        let mut outside = self.outside.lock();
        (outside.controller.is_deaf, outside.device.is_deaf) = (false, false);
    }

    fn reset(&mut self) {
        let hidden = self.hide(Defect::HeldOutlivesReset);
        self.function().reset();
        give_back(&hidden);
        self.registers = Registers::new(&self.setup);
        self.loading = false;
        self.tolerant = false;
        self.owed.iter_mut().for_each(Owed::forget);
        self.recent.iter_mut().for_each(Vec::clear);
        self.claim_all();
    }

    /// The function goes. Nothing of it may stay.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn unplug(&mut self) -> Result<(), Violation> {
        self.outside.lock().failing = None;
        self.outside.lock().controller.is_deaf = self.defect == Some(Defect::PinLeftHigh);
        self.function = None;
        let mut outside = self.outside.lock();
        outside.run();
        outside.controller.is_deaf = false;
        let gsis = self.routes.stats().gsis;
        if outside.kernel.armed() > 0 || gsis > 0 {
            let armed = outside.kernel.armed();
            return violated(format!("{armed} irqfds and {gsis} GSIs stay when the function goes"));
        }
        if let Some(mode) = outside.device.enabled {
            return violated(format!("the index of {mode:?} stays active when the function goes"));
        }
        if outside.controller.is_high() {
            return violated("the pin stays high when the function goes");
        }
        Ok(())
    }
}

fn routes(outside: &Shared) -> Arc<Routes> {
    let options = RouteOptions { deferral: Deferral::NONE, ..RouteOptions::new(Irqchip::Full) };
    Routes::new(Box::new(outside.clone()), options, Loop::new().expect("a descriptor"))
}

fn give_back(hidden: &[EventFd]) {
    for eventfd in hidden {
        eventfd.write(1).expect("it was empty");
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outside = self.outside.lock();
        f.debug_struct("World")
            .field("mode", &self.registers.mode())
            .field("attached", &self.attached)
            .field("loading", &self.loading)
            .field("owed", &self.owed)
            .field("unsent", &self.unsent)
            .field("routes", &outside.kernel.routes)
            .field("assigned", &outside.kernel.assigned())
            .field("device", &outside.device.state())
            .field("failed", &outside.failed)
            .finish_non_exhaustive()
    }
}
