//! A machine whose processors never run: which LPIs were requested shows in the pending tables of its
//! redistributors. The conformance cases are judged on it.
//!
//! The suite's messages are those of x86. Here each different one is an event of one device, with an LPI of its
//! own: what stands between backend and kernel maps it when it sees it first, and gives KVM the doorbell, the
//! event, and the device id that came with the message. The LPIs are disabled, so that they stay pending.

use crate::guest::PENDING;
use crate::machine::{Chip, Machine, SPIS, TRANSLATER, clear, control, mapc, mapd, mapti, unmapd};
use crate::rig::IDS;
use crate::{Outcome, guest, text};
use kvm_bindings::KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES;
use kvm_ioctls::{Kvm, VmFd};
use msix_backends::kvm::{Format, InterruptAddresses, Irqchip, KvmMessage, RouteEntry, Vm};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vm_memory::{Bytes as _, GuestAddress};

/// The events of the device, as a power of two.
const EVENTS: u32 = 1 << 12;
/// The longest wait for a worker of the kernel.
const PATIENCE: Duration = Duration::from_secs(4);

pub(crate) struct Pending(Arc<Mutex<Events>>, Arc<VmFd>);

/// The machine, and the events that its ITS maps: by address and data.
struct Events {
    machine: Machine,
    mapped: BTreeMap<(u32, u32, u32), u32>,
}

impl Pending {
    pub(crate) fn make() -> Outcome<Box<dyn msix_subjects::Machine>> {
        let kvm = Kvm::new().map_err(text)?;
        let mut machine = Machine::new(&kvm, Chip::V3WithIts)?;
        machine.start(&machine.bring_up(), |_, _| ())?;
        machine.stop()?;
        machine.issue(&[mapc(0, 0), mapc(1, 1)])?;
        let vm = Arc::clone(&machine.vm);
        let events = Events { machine, mapped: BTreeMap::new() };
        Ok(Box::new(Self(Arc::new(Mutex::new(events)), vm)))
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl msix_subjects::Machine for Pending {
    fn renew(&self) -> Result<(), String> {
        self.1.set_routes(&[]).map_err(text)?;
        let mut events = self.events();
        events.take()?;
        events.mapped.clear();
        let bits = EVENTS.trailing_zeros().into();
        events.machine.issue(&[unmapd(IDS[0]), mapd(IDS[0], bits, guest::EVENTS)])
    }

    fn vm(&self) -> Box<dyn Vm> {
        Box::new(Mapping { vm: Arc::clone(&self.1), events: Arc::clone(&self.0) })
    }

    fn irqchip(&self) -> Irqchip {
        Irqchip::Gic { spis: SPIS }
    }

    fn format(&self) -> Format {
        let interrupts = InterruptAddresses::LocalApics;
        Format { extended_destinations: false, device: Some(IDS[0]), interrupts }
    }

    fn compare(&self, messages: &[KvmMessage]) {
        let mut events = self.events();
        // What was never mapped did not reach KVM as it was asked for.
        let event = |msi: &KvmMessage| events.mapped.get(&key(*msi)).copied().unwrap_or(EVENTS);
        let asked: BTreeSet<u32> = messages.iter().map(event).collect();
        let mut got = events.take().expect("KVM saves the pending tables");
        // An irqfd may hand a message to a worker of the kernel.
        let deadline = Instant::now() + PATIENCE;
        while !asked.is_subset(&got) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
            got.extend(events.take().expect("KVM saves the pending tables"));
        }
        assert!(
            got == asked,
            "the LPIs of the events {got:?} were requested, and the messages delivered since the last look \
             ask for {asked:?}",
        );
    }
}

impl Events {
    /// Maps the messages that are new.
    fn map(&mut self, messages: impl Iterator<Item = KvmMessage>) -> Outcome {
        let mut commands = Vec::new();
        for message in messages {
            let next = u32::try_from(self.mapped.len()).map_err(text)?;
            let event = *self.mapped.entry(key(message)).or_insert(next);
            if event == next {
                commands.push(mapti(IDS[0], event, 8192 + event, processor(event)));
            }
        }
        if self.mapped.len() > EVENTS as usize {
            return Err(format!("more than {EVENTS} different messages"));
        }
        commands.chunks(1024).try_for_each(|commands| self.machine.issue(commands))
    }

    /// Takes the events whose LPIs pend.
    fn take(&mut self) -> Outcome<BTreeSet<u32>> {
        if self.mapped.is_empty() {
            return Ok(BTreeSet::new());
        }
        control(&self.machine.gic, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES)?;
        let mut tables = [[0; EVENTS as usize / 8]; 2];
        for (table, at) in tables.iter_mut().zip([PENDING, PENDING + 0x1_0000]) {
            let at = GuestAddress(at + 8192 / 8);
            self.machine.memory.read_slice(table, at).map_err(text)?;
            // An LPI that is mapped anew would pend as memory says.
            self.machine.memory.write_slice(&[0; EVENTS as usize / 8], at).map_err(text)?;
        }
        let pends = |&event: &u32| {
            let [byte, bit] = [event as usize / 8, event as usize % 8];
            tables[processor(event) as usize][byte] >> bit & 1 == 1
        };
        let taken: BTreeSet<u32> = (0..).take(self.mapped.len()).filter(pends).collect();
        let commands: Vec<_> = taken.iter().map(|event| clear(IDS[0], *event)).collect();
        commands.chunks(1024).try_for_each(|commands| self.machine.issue(commands))?;
        Ok(taken)
    }
}

/// The processor of an event, which is its collection too.
const fn processor(event: u32) -> u64 {
    event as u64 & 1
}

const fn key(message: KvmMessage) -> (u32, u32, u32) {
    (message.address_hi, message.address_lo, message.data)
}

/// What stands between the backend and KVM.
struct Mapping {
    vm: Arc<VmFd>,
    events: Arc<Mutex<Events>>,
}

impl Mapping {
    /// Returns the messages to the doorbell.
    fn mapped(&self, messages: &[KvmMessage]) -> io::Result<Vec<KvmMessage>> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.map(messages.iter().copied()).map_err(io::Error::other)?;
        let to_doorbell = |message: &KvmMessage| KvmMessage {
            address_lo: TRANSLATER as u32,
            address_hi: (TRANSLATER >> 32) as u32,
            data: events.mapped[&key(*message)],
            device: message.device,
        };
        Ok(messages.iter().map(to_doorbell).collect())
    }
}

impl Vm for Mapping {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let msi = |entry: &RouteEntry| match *entry {
            RouteEntry::Msi { msi, .. } => Some(msi),
            RouteEntry::Pin { .. } => None,
        };
        let messages: Vec<KvmMessage> = routes.iter().filter_map(msi).collect();
        let mut mapped = self.mapped(&messages)?.into_iter();
        let mut routes = routes.to_vec();
        for entry in &mut routes {
            if let RouteEntry::Msi { msi, .. } = entry {
                *msi = mapped.next().expect("one for each");
            }
        }
        self.vm.set_routes(&routes)
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        Vm::assign(&*self.vm, eventfd, gsi)
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        Vm::deassign(&*self.vm, eventfd, gsi)
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        self.mapped(&[msi])?
            .into_iter()
            .try_fold(true, |taken, msi| Ok(taken & self.vm.signal(msi)?))
    }

    fn needs_device_ids(&self) -> bool {
        self.vm.needs_device_ids()
    }
}
