//! `msix replay --backend kvm` as its users run it; what a VM delivers is held to account in
//! `tests/tests/replay_kvm.rs`.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

mod common;

use common::{msix, replayed};
use msix_backends::kvm::probe;
use serde_json::Value;

#[test]
fn the_recording_is_replayed_on_kvm_or_the_program_says_why_not() {
    let output = msix(&["replay", "--backend", "kvm", "--json"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    if let Err(reason) = probe() {
        assert_eq!((output.status.code(), stderr), (Some(2), format!("error: {reason}\n")));
        return;
    }
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mismatches"], 0);
    let kvm = &report["backend"];
    assert_eq!(kvm["name"], "kvm");
    let messages = ["expected", "delivered", "mismatched", "not_compared"];
    assert_eq!(messages.map(|key| kvm["messages"][key].as_u64().unwrap()), [531, 531, 0, 0]);
    for number in [
        "/vcpus",
        "/raises",
        "/held",
        "/repeated",
        "/by_irqfd",
        "/by_signal",
        "/to_memory",
        "/gsis",
    ] {
        assert!(kvm.pointer(number).is_some_and(Value::is_u64), "{number}");
    }
    assert_eq!(kvm["ioctls"]["signal_msi"], kvm["by_signal"]);
    assert_eq!(kvm["ioctls"]["failed"], 0);
    for device in report["devices"].as_array().unwrap() {
        assert_eq!(device["deliveries"]["delivered"], device["messages"]["matched"]);
    }
}

#[test]
fn without_a_backend_the_report_speaks_of_none() {
    let report: Value = serde_json::from_slice(&msix(&["--json"]).stdout).unwrap();
    assert!(report.get("backend").is_none());
    assert!(report["devices"][0].get("deliveries").is_none());
}

#[test]
fn for_people_the_figures_are_lines_before_the_verdict() {
    let output = msix(&["--backend", "kvm"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    if probe().is_err() {
        assert_eq!((output.status.code(), &*stdout), (Some(2), ""));
        return;
    }
    let lines: Vec<&str> = stdout.lines().collect();
    let verdict = "all 5 devices agree: 531 messages expected";
    let at = lines.iter().position(|line| line.starts_with(verdict)).unwrap();
    let lines = [lines[at], lines[at - 1], lines[at - 2]];
    assert!(
        lines[1].starts_with("kvm: 531 eventfd writes (0 held back, 0 messages repeated)"),
        "{stdout}"
    );
    let found = "kvm: 531 messages expected in the local APICs of 2 vCPUs, 531 delivered (";
    assert!(lines[2].starts_with(found), "{stdout}");
    assert!(lines[2].ends_with(", 0 to memory), 0 not compared, 0 mismatches"), "{stdout}");
}

#[test]
fn a_script_has_no_backend() {
    let (status, _, stderr) =
        replayed("msix-script 1\nvectors 2\npolicy spec\n", &["--backend", "kvm"]);
    assert_eq!(status, 2);
    assert!(stderr.ends_with("guest.log: a script has no backend\n"), "{stderr}");
}
