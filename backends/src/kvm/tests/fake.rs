//! A VM that behaves as KVM does (K1, K2, K4 to K9), and fails on demand.

use crate::eventfd::take;
use crate::kvm::message::KvmMessage;
use crate::kvm::route_table::RouteEntry;
use crate::kvm::vm::MockVm;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use vmm_sys_util::eventfd::EventFd;

/// One system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Commit,
    Assign(u32),
    Deassign(u32),
    Signal,
}

#[derive(Debug, Default)]
pub(crate) struct FakeState {
    routes: BTreeMap<u32, KvmMessage>,
    irqfds: BTreeMap<i32, (EventFdCopy, u32)>,
    /// Data of every message that was delivered, in order.
    pub(crate) delivered: Vec<u32>,
    /// Address and data of the same.
    pub(crate) messages: Vec<(u64, u32)>,
    /// Every call, failed ones included.
    pub(crate) calls: Vec<Call>,
    /// The threads that made them.
    pub(crate) callers: Vec<ThreadId>,
    /// Which calls fail, by number.
    pub(crate) failing: BTreeSet<usize>,
    /// Fail all calls for which this says so.
    pub(crate) broken: Option<fn(Call) -> bool>,
    /// What the kernel would never forgive: events on a GSI without a route (K5).
    pub(crate) lost: usize,
}

/// What the message writes, and where.
fn address_and_data(msi: KvmMessage) -> (u64, u32) {
    (u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo), msi.data)
}

#[derive(Debug)]
struct EventFdCopy(EventFd);

impl FakeState {
    /// KVM takes an event at the write; here it does so at the next query.
    pub(crate) fn pump(&mut self) {
        for (eventfd, gsi) in self.irqfds.values() {
            if take(&eventfd.0) {
                match self.routes.get(gsi) {
                    Some(&msi) => {
                        self.delivered.push(msi.data);
                        self.messages.push(address_and_data(msi));
                    }
                    None => self.lost += 1,
                }
            }
        }
    }

    fn call(&mut self, call: Call) -> io::Result<()> {
        self.pump();
        self.calls.push(call);
        self.callers.push(thread::current().id());
        let number = self.calls.len() - 1;
        if self.failing.contains(&number) || self.broken.is_some_and(|broken| broken(call)) {
            return Err(io::Error::from_raw_os_error(22));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<FakeState>>);

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// irqfds there are.
    pub(crate) fn armed(&self) -> usize {
        self.state().irqfds.len()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub(crate) fn count(&self, like: fn(&Call) -> bool) -> usize {
        self.state().calls.iter().filter(|call| like(call)).count()
    }

    pub(crate) fn commits(&self) -> usize {
        self.count(|call| *call == Call::Commit)
    }

    pub(crate) fn lost(&self) -> usize {
        self.state().lost
    }

    /// The data of what was delivered since the last call.
    pub(crate) fn delivered(&self) -> Vec<u32> {
        let mut state = self.state();
        state.pump();
        std::mem::take(&mut state.delivered)
    }

    pub(crate) fn vm(&self) -> MockVm {
        let mut vm = MockVm::new();
        let fake = self.clone();
        vm.expect_set_routes().returning(move |entries| {
            let mut state = fake.state();
            state.call(Call::Commit)?;
            let msi = |entry: &RouteEntry| match *entry {
                RouteEntry::Msi { gsi, msi } => Some((gsi, msi)),
                RouteEntry::Pin { .. } => None,
            };
            assert!(entries.len() <= 4096);
            assert_eq!(entries.iter().filter(|entry| msi(entry).is_none()).count(), 40, "K1");
            state.routes = entries.iter().filter_map(msi).collect();
            let routes = state.routes.keys().copied().collect::<BTreeSet<u32>>();
            let unrouted = state.irqfds.values().find(|(_, gsi)| !routes.contains(gsi));
            assert!(unrouted.is_none(), "K6: a route was removed under an irqfd");
            Ok(())
        });
        let fake = self.clone();
        vm.expect_assign().returning(move |eventfd, gsi| {
            let mut state = fake.state();
            state.call(Call::Assign(gsi))?;
            assert!(state.routes.contains_key(&gsi), "K6: armed before its route was committed");
            let copy = EventFdCopy(eventfd.try_clone()?);
            let other = state.irqfds.insert(eventfd.as_raw_fd(), (copy, gsi));
            assert!(other.is_none(), "K4: the eventfd has an irqfd already");
            Ok(())
        });
        let fake = self.clone();
        vm.expect_deassign().returning(move |eventfd, gsi| {
            let mut state = fake.state();
            state.call(Call::Deassign(gsi))?;
            let was = state.irqfds.remove(&eventfd.as_raw_fd());
            assert_eq!(was.map(|(_, gsi)| gsi), Some(gsi), "every irqfd is undone once");
            Ok(())
        });
        let fake = self.clone();
        vm.expect_signal().returning(move |msi| {
            let mut state = fake.state();
            state.call(Call::Signal)?;
            state.delivered.push(msi.data);
            state.messages.push(address_and_data(msi));
            Ok(true)
        });
        vm
    }
}
