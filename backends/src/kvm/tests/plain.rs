//! Functions that another program saved, and that it will load.

use super::World;
use crate::kvm::{Deferral, VmCall};
use msix_core::plain::{CloudHypervisorMsix, FunctionSnapshot, MsixTableEntry};
use msix_core::{LoadError, Snapshot};

const WITHOUT_EVENTS: u64 = 0;

/// Two vectors as Cloud Hypervisor saves them, both unmasked: vector v sends 0x60 + v.
fn saved(pending: u64) -> CloudHypervisorMsix {
    let entry = |msg_data| MsixTableEntry {
        msg_addr_lo: 0xfee0_0000,
        msg_addr_hi: 0,
        msg_data,
        vector_ctl: 0,
    };
    CloudHypervisorMsix {
        table_entries: vec![entry(0x60), entry(0x61)],
        pba_entries: vec![pending],
        masked: false,
        enabled: true,
    }
}

fn function_of(saved: &CloudHypervisorMsix) -> FunctionSnapshot {
    let msix = Some(Snapshot::try_from(saved).unwrap());
    FunctionSnapshot { command: 0x0407, msix, ..FunctionSnapshot::default() }
}

#[test]
fn c44_what_another_program_saved_is_armed_at_the_resume_and_its_events_are_sent() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    world.function.load_snapshot(&function_of(&saved(0b10))).unwrap();
    let before = world.fake.calls().len();
    world.fire(0); // pending until the resume
    assert!(world.delivered().is_empty());
    assert_eq!(world.fake.calls().len(), before, "H15");
    world.function.resume();
    let mut delivered = world.delivered();
    delivered.sort_unstable();
    assert_eq!(delivered, [0x60, 0x61], "the claims are those of before");
    assert_eq!(world.fake.armed(), 2);
    world.fire(1);
    assert_eq!(world.delivered(), [0x61]);
    assert_eq!(world.fake.count(|call| **call == VmCall::SetRoutes), 2, "one for each function");
}

#[test]
fn c42_what_another_program_loads_has_the_events_that_are_still_in_eventfds() {
    let world = World::new(2, Deferral::NONE);
    world.function.load_snapshot(&function_of(&saved(WITHOUT_EVENTS))).unwrap();
    world.function.resume();
    world.mask(1, true);
    world.fire(1); // into the eventfd
    let snapshot = world.function.snapshot();
    let msix = snapshot.msix.as_ref().unwrap();
    let mut expected = saved(0b10);
    expected.table_entries[1].vector_ctl = 1;
    assert_eq!(CloudHypervisorMsix::from(msix), expected);
    assert_eq!((snapshot.command & 0x0404, snapshot.level), (0x0404, false));
    assert_eq!(msix.claims, [1, 1]);
}

#[test]
fn c43_one_of_another_size_is_refused_and_nothing_changes() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    let before = (world.function.snapshot(), world.fake.calls().len());
    let mut other = saved(WITHOUT_EVENTS);
    other.table_entries.push(other.table_entries[0]);
    let refused = world.function.load_snapshot(&function_of(&other));
    assert_eq!(refused, Err(LoadError::Vectors { snapshot: 3, engine: 2 }));
    let alone = FunctionSnapshot { msix: None, ..before.0.clone() };
    assert_eq!(world.function.load_snapshot(&alone), Err(LoadError::Function));
    assert_eq!((world.function.snapshot(), world.fake.calls().len()), before);
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
}
