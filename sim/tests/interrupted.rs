//! A signal ends a run, and the run says so.

mod common;

use common::process::{Process, until};
use msix_sim::RECORDING;
use msix_sim::replay::{Peer, replay, replay_on};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Cursor, Write as _};
use std::time::Duration;

/// What the program says when it is interrupted a while after its start: exit status and JSON.
fn interrupted(arguments: &[&str], signal: Signal) -> (Option<i32>, Value) {
    let process = Process::msix(&[arguments, &["--json"]].concat());
    std::thread::sleep(Duration::from_millis(600));
    process.signal(signal);
    let ended = process.ended();
    let json = serde_json::from_str(&ended.stdout);
    (ended.status, json.unwrap_or_else(|error| panic!("{error}: {ended:?}")))
}

#[test]
fn an_exploration_says_what_it_saw_until_then() {
    for (signal, arguments) in [
        (Signal::INT, &["explore", "--vectors", "3"][..]),
        (Signal::TERM, &["explore", "--vectors", "2", "--function"]),
    ] {
        let (status, outcome) = interrupted(arguments, signal);
        assert_eq!((status, &outcome["interrupted"]), (Some(3), &true.into()), "{outcome}");
        assert_eq!(outcome["complete"], false);
        assert!(outcome["states"].as_u64() > Some(500), "{outcome}");
    }
    let process = Process::msix(&["explore", "--vectors", "3"]);
    std::thread::sleep(Duration::from_millis(300));
    process.signal(Signal::HUP);
    let ended = process.ended();
    assert!(ended.stdout.contains("interrupted: nothing is violated so far"), "{ended:?}");
}

#[cfg(feature = "kvm")]
#[test]
fn a_demonstration_ends_without_figures() {
    let (status, outcome) = interrupted(&["demo", "ivshmem", "--rings", "4000000000"], Signal::INT);
    assert_eq!((status, outcome), (Some(3), serde_json::json!({"interrupted": true})));
}

#[cfg(feature = "kvm")]
#[test]
fn a_demonstration_without_kvm_ends_while_it_rings_as_fast_as_it_can() {
    use msix_sim::demo::{DemoError, DemoPlan, run_in_userspace};
    use std::sync::atomic::{AtomicBool, Ordering};
    let stop = AtomicBool::new(false);
    let plan = DemoPlan { turns: 1, flood: u32::MAX - 1 };
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_in_userspace(plan, &|_| !stop.load(Ordering::Relaxed)));
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        until("it ends", || run.is_finished().then_some(()));
        run.join().unwrap()
    });
    assert!(matches!(ended, Err(DemoError::Interrupted)), "{ended:?}");
}

#[cfg(feature = "kvm")]
#[test]
fn a_comparison_says_what_was_compared_until_then() {
    let arguments = ["diff", "--front", "--ops", "1000000000"];
    let (status, outcome) = interrupted(&arguments, Signal::TERM);
    assert_eq!((status, &outcome["interrupted"]), (Some(3), &true.into()), "{outcome}");
    assert!(outcome["compared"]["operations"].as_u64() > Some(0), "{outcome}");
    let process = Process::msix(&arguments);
    std::thread::sleep(Duration::from_millis(600));
    process.signal(Signal::INT);
    let ended = process.ended();
    assert!(ended.stdout.contains("\ninterrupted after "), "{ended:?}");
    assert!(ended.stdout.ends_with("of 1000000000 inputs; engine and QEMU agree so far\n"));
}

#[test]
fn a_replay_that_waits_for_its_input_ends() {
    for (arguments, begun) in [
        (&["replay", "-"][..], &RECORDING[..5000]),
        (&["replay", "-"], b"msix-script 1\nvectors 2\nnotify 1\n"),
        (&["replay", "-"], b""),
    ] {
        let mut process = Process::msix(&[arguments, &["--json"]].concat());
        let mut stdin = process.stdin(); // stays open
        stdin.write_all(begun).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        process.signal(Signal::INT);
        let ended = process.ended();
        assert_eq!((ended.status, &*ended.stdout), (Some(3), "{\"interrupted\":true}\n"));
    }
}

#[test]
fn a_replay_reports_the_lines_that_were_compared() {
    let log = RECORDING.repeat(4);
    let mut read = 0;
    let go_on = |bytes: u64| {
        read += bytes;
        read < (log.len() + log.len() / 2) as u64
    };
    let (report, _) = replay(Cursor::new(&log), Peer::Qemu, false, go_on).unwrap();
    assert!(report.interrupted && (5000..25_000).contains(&report.lines), "{}", report.lines);
    let said = format!("interrupted after line {}: ", report.lines);
    assert!(report.verdict().starts_with(&said), "{}", report.verdict());
    let early = replay_on(None, Cursor::new(&log), Peer::Qemu, false, |_| false).unwrap_err();
    assert_eq!(early.to_string(), "interrupted");
}

#[test]
fn a_second_signal_ends_what_does_not_end_at_the_first() {
    let mut process = Process::msix(&["explore", "--vectors", "3"]);
    drop(process.stdin());
    std::thread::sleep(Duration::from_millis(300));
    process.signal(Signal::INT);
    process.signal(Signal::TERM);
    assert_eq!(process.ended().status, Some(3));
}
