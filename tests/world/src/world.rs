//! One function with all that is around it, and one input after the other.

use crate::construct::routes;
use crate::defect::Defect;
use crate::input::Input;
use crate::ledger::Owed;
use crate::naive::{Mode, Registers};
use crate::outside::Shared;
use crate::setup::Setup;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, Routes};
use msix_core::Vector;
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

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
    pub(crate) owed: Vec<Owed>,
}

/// Somebody who writes a vector's eventfd.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) eventfd: Arc<EventFd>,
    /// The function's descriptor of it, if it is connected.
    pub(crate) fd: Option<RawFd>,
}

/// The function, and all that is around it.
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) defect: Option<Defect>,
    pub(crate) outside: Shared,
    pub(crate) events: Arc<Loop>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) function: Option<Function<Shared>>,
    /// Those who write eventfds, by vector.
    pub(crate) producers: Vec<Producer>,
    pub(crate) registers: Registers,
    pub(crate) claims: Vec<u8>,
    pub(crate) attached: bool,
    pub(crate) loading: bool,
    pub(crate) owed: Vec<Owed>,
    /// The vector of the event that was just fired.
    pub(crate) fired: Option<u8>,
    /// Vectors with events that the last input dropped, unless it sent them first.
    pub(crate) dropping: Vec<u8>,
    /// By vector: a message of it could not be sent, and waits in the backend.
    pub(crate) unsent: Vec<bool>,
    /// The messages as which it may have been sent.
    pub(crate) unsent_as: BTreeSet<(u64, u32)>,
    pub(crate) saved: Option<Arc<Saved>>,
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
        Self::with_loop(setup, defect, &Loop::new().expect("a descriptor"))
    }

    /// The same, with a loop that another world had before: it takes long to make one.
    pub(crate) fn with_loop(setup: Setup, defect: Option<Defect>, events: &Arc<Loop>) -> Self {
        let outside = Shared::default();
        {
            let mut all = outside.lock();
            all.device.vectors = setup.vectors.into();
            all.device.available_msi = u32::from(setup.vectors) - u32::from(setup.scarce);
            all.device.noresize = setup.noresize;
            all.kernel.is_split = setup.split;
            all.kernel.is_stubborn = defect == Some(Defect::RewriteNeverTold);
        }
        let registers = Registers::new(&setup);
        let vectors = usize::from(setup.vectors);
        let mut world = Self {
            setup,
            defect,
            events: Arc::clone(events),
            routes: routes(&setup, &outside, events),
            outside,
            function: None,
            producers: Vec::new(),
            registers,
            claims: vec![0; vectors],
            attached: true,
            loading: false,
            owed: vec![Owed::default(); vectors],
            fired: None,
            dropping: Vec::new(),
            unsent: vec![false; vectors],
            unsent_as: BTreeSet::new(),
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
        let is_first =
            self.loading && !matches!(input, Input::Resume | Input::Load | Input::NewProcess);
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
            Input::Connect(vector) => return self.connect(vector),
            Input::KeepRoutes(alt) => return self.keep_routes(alt),
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
            half @ (Input::AddressLow(..) | Input::MsiAddressByte(_)) => {
                let clings = self.defect == Some(Defect::HalfWriteNotHeard);
                self.outside.lock().kernel.is_clinging = clings;
                self.write(half);
                self.outside.lock().kernel.is_clinging = false;
            }
            write => self.write(write),
        }
        Ok(())
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
