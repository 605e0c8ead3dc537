//! Two guests that ring each other.

#![cfg(feature = "kvm")]

mod common;

use common::msix;
use msix_sim::demo::{DemoPlan, run_in_userspace};
use serde_json::Value;
use std::sync::atomic::AtomicBool;

#[test]
fn two_guests_ring_each_other_and_nothing_is_lost() {
    let ran = msix(&["demo", "ivshmem", "--rings", "3000", "--json"]);
    assert!(ran.status.success(), "{ran:?}");
    let outcome: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let has_kvm = cfg!(target_arch = "x86_64") && msix_backends::kvm::probe().is_ok();
    assert_eq!(outcome["backend"], if has_kvm { "kvm" } else { "userspace" });
    assert_eq!(outcome["without_kvm"].is_null(), has_kvm);
    for guest in outcome["guests"].as_array().unwrap() {
        assert_eq!((&guest["sent"], &guest["accounted"]), (&3000.into(), &3000.into()));
        let taken = guest["taken"].as_u64().unwrap();
        assert!((1500..=3000).contains(&taken), "one an answer, then as they come: {taken}");
        if has_kvm {
            assert_eq!(guest["from_userspace"], 0, "all of them by irqfd");
            // A signal may end KVM_RUN; a ring may not.
            assert!(guest["exits"].as_u64().unwrap() < 10, "{guest}");
        }
    }
}

#[test]
fn without_kvm_threads_do_the_same() {
    let outcome = run_in_userspace(DemoPlan::of(5000), &AtomicBool::new(false)).unwrap();
    assert!(outcome.nothing_lost(), "{outcome:?}");
    assert!(outcome.guests.iter().all(|guest| guest.sent == 5000 && guest.taken >= 2500));
    assert!(outcome.round_trip_ns.is_sorted() && outcome.round_trip_ns[0] > 0);
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let ended = run_in_userspace(DemoPlan::of(u32::MAX), &AtomicBool::new(true));
    assert!(matches!(ended, Err(msix_sim::demo::DemoError::Interrupted)), "{ended:?}");
}
