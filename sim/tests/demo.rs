//! Two guests that ring each other.

#![cfg(feature = "kvm")]

mod common;

use common::msix;
use msix_sim::demo::{DemoPlan, run_in_userspace};
use serde_json::Value;

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
    let outcome = run_in_userspace(DemoPlan::of(5000), &|_| true).unwrap();
    assert!(outcome.nothing_lost(), "{outcome:?}");
    assert!(outcome.guests.iter().all(|guest| guest.sent == 5000 && guest.taken >= 2500));
    assert!(outcome.round_trip_ns.is_sorted() && outcome.round_trip_ns[0] > 0);
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let ended = run_in_userspace(DemoPlan::of(u32::MAX), &|_| false);
    assert!(matches!(ended, Err(msix_sim::demo::DemoError::Interrupted)), "{ended:?}");
}

#[test]
fn without_a_number_of_rings_it_takes_about_the_seconds_that_were_asked_for() {
    let ran = msix(&["demo", "--seconds", "1", "--json"]);
    assert!(ran.status.success(), "{ran:?}");
    let outcome: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let [first, second] = [0, 1].map(|guest| outcome["guests"][guest]["sent"].as_u64().unwrap());
    assert!(first == second && first > 0, "{outcome}");
    assert!(outcome["seconds"].as_f64().unwrap() > 0.0, "{outcome}");
}

#[test]
fn the_first_guests_rings_are_shown_as_they_grow() {
    let shown = std::sync::Mutex::new(Vec::new());
    let ended = run_in_userspace(DemoPlan::of(1000), &|sent| {
        shown.lock().unwrap().push(sent);
        true
    });
    assert!(ended.unwrap().nothing_lost());
    let shown = shown.into_inner().unwrap();
    // It is not asked again once the last ring is accounted for.
    assert!(shown.is_sorted() && *shown.last().unwrap() >= 999, "{:?}", shown.last());
}
