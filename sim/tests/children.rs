//! The QEMU of `msix diff`: what it hears, what it outlives, and where its files are.

mod common;
#[expect(unreachable_pub, reason = "it is a part of another crate, too")]
#[path = "../../tests/src/peers.rs"]
mod peers;

use common::process::{Process, processes_with, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

fn has(test: &str, program: &str, remedy: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        peers::skipped(test, program, remedy);
    }
    found
}

fn has_qemu(test: &str) -> bool {
    has(test, "qemu-system-x86_64", "apt-get install qemu-system-x86")
}

/// The program with a temporary directory of its own, and that directory.
fn diff(folder_name: &str, arguments: &[&str]) -> (Process, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix(folder_name).tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_msix"));
    let command = command.arg("diff").args(arguments).env("TMPDIR", folder.path());
    (Process::start(command), folder)
}

#[test]
fn ctrl_c_at_a_terminal_keeps_the_totals_and_leaves_nothing() {
    if !has_qemu("Ctrl-C in msix diff") {
        return;
    }
    let arguments = ["--ops", "1000000000", "--vectors", "7", "--json"];
    let (process, folder) = diff("ctrl-c-", &arguments);
    std::thread::sleep(Duration::from_millis(2500));
    process.interrupt_group();
    let ended = process.ended();
    assert_eq!(ended.status, Some(3), "{ended:?}");
    let outcome: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&outcome["interrupted"], &outcome["mismatch"]), (&true.into(), &Value::Null));
    assert!(outcome["compared"]["operations"].as_u64() > Some(0), "{outcome}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files go with the run");
}

#[test]
fn a_child_does_not_outlive_a_program_that_is_killed() {
    if !has("the end of a killed program's child", "setpriv", "apt-get install util-linux") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let qemu = place.path().join("qemu");
    let seconds = format!("60.{}", std::process::id()); // by which it is found
    fs::write(&qemu, format!("#!/bin/sh\nexec sleep {seconds}\n")).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let (process, _folder) = diff("killed-", &["--qemu", qemu.to_str().unwrap()]);
    let child = format!("sleep\0{seconds}");
    until("the child runs", || (!processes_with(&child).is_empty()).then_some(()));
    process.signal(Signal::KILL);
    assert_eq!(process.ended().status, None);
    until("the child is gone", || processes_with(&child).is_empty().then_some(()));
}

#[test]
fn no_name_of_the_temporary_directory_is_read_by_a_shell_or_as_an_option() {
    if !has_qemu("names of the temporary directory") {
        return;
    }
    let script = "msix-script 1\nvectors 2\npolicy qemu\nwrite-config 0x2 2 0x8000\n\
                  save-and-load-qemu\nnotify 1\nsave-and-load-qemu\nread-pba 0x0 8\n";
    for name in ["a b", "a,b,,c=d", "$(touch broken)", "'\"`;&|<>%d%s"] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.script");
        fs::write(&path, script).unwrap();
        let (process, folder) = diff(name, &["--script", path.to_str().unwrap()]);
        let ended = process.ended();
        assert_eq!(
            (ended.status, &*ended.stdout),
            (Some(0), "engine and QEMU agree\n"),
            "{ended:?}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    assert!(!fs::exists("broken").unwrap());
}

#[test]
fn a_qemu_is_found_from_where_the_program_runs() {
    if !has_qemu("a relative name of QEMU") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("bin")).unwrap();
    let qemu = place.path().join("bin/qemu");
    fs::write(&qemu, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_msix"));
    command.args(["diff", "--ops", "200", "--qemu", "bin/qemu"]).current_dir(place.path());
    let ended = Process::start(&mut command).ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn a_qemu_that_cannot_be_started_is_named() {
    for name in ["/nonexistent/qemu", "no-such-qemu", "/etc/passwd"] {
        let (process, _folder) = diff("missing-", &["--qemu", name]);
        let ended = process.ended();
        assert_eq!(ended.status, Some(2));
        let said = format!("error: cannot start {name}: ");
        assert!(ended.stderr.starts_with(&said), "{}", ended.stderr);
    }
}
