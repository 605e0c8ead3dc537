//! `msix replay` of a script.

mod common;

use common::replayed;
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};

const SCRIPT: &str = "\
msix-script 1
vectors 2
policy spec
# a guest that unmasks before it is done
claim 1
attach
write-config 0x2 2 0x8000
write-table 0x1c 4 0x0
notify 1
write-table 0x18 4 0x23
write-table 0x1d 1 0xff
read-pba 0x0 8
notify 0
write-config 0x2 2 0x0
notify 1
notify 1
withdraw 1
";

#[test]
fn every_input_is_shown_with_what_it_led_to() {
    let (status, stdout, stderr) = replayed(SCRIPT, &[]);
    assert_eq!((status, &*stderr), (0, ""));
    let expected = "\
2 vectors, policy spec
claim 1
attach
write-config 0x2 2 0x8000
    INTx: deassert
write-table 0x1c 4 0x0
    arm 1 (0x0 <- 0x0)
notify 1  # sent
    send 1 (0x0 <- 0x0)
write-table 0x18 4 0x23
    reroute 1 (0x0 <- 0x23)
write-table 0x1d 1 0xff  # ignored: undefined width or alignment
read-pba 0x0 8  # reads 0x0
notify 0  # dropped: the vector is not claimed
write-config 0x2 2 0x0
    poll 0
    disarm 1
    INTx: re-evaluate
notify 1  # pending
notify 1  # pending already
withdraw 1  # was pending
    drain 1
13 inputs, all invariants hold
";
    assert_eq!(stdout, expected);
}

#[test]
fn a_whole_functions_script_switches_between_the_modes() {
    let script = "\
msix-function-script 1
vectors 2
pin physical
claim 0
attach
write-command 0 2 4
report-fired
write-msi 2 2 0x1
read-msi 0 4
notify 0
write-msix 2 2 0x8000
write-table 0xc 4 0
notify 0
withdraw msi 0
report-failed msix 0 0x1
notify 0
";
    let (status, stdout, stderr) = replayed(script, &[]);
    assert_eq!((status, &*stderr), (0, ""), "{stdout}");
    let expected = "\
2 vectors, policy spec, pin physical
claim 0
attach
    INTx: arm
write-command 0x0 2 0x4
report-fired
    INTx: assert
write-msi 0x2 2 0x1
    INTx: deassert
    INTx: disarm
    MSI: arm 0 (0x0 <- 0x0)
read-msi 0x0 4  # reads 0x1030005
notify 0  # sent
    MSI: send 0 (0x0 <- 0x0)
write-msix 0x2 2 0x8000
    MSI: poll 1
    MSI: disarm 0
write-table 0xc 4 0x0
    MSI-X: arm 0 (0x0 <- 0x0)
notify 0  # sent
    MSI-X: send 0 (0x0 <- 0x0)
withdraw msi 0  # was not pending
    MSI: drain 0
report-failed msix 0 0x1
notify 0  # sent
    MSI-X: send 0 (0x0 <- 0x0)
13 inputs, all invariants hold
";
    assert_eq!(stdout, expected);
    let (status, stdout, _) = replayed(script, &["--json"]);
    let run: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &run["pin"]), (0, &"physical".into()));
}

#[test]
fn json_has_the_same() {
    let (status, stdout, _) = replayed(SCRIPT, &["--json"]);
    let run: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &run["policy"], &run["violation"]), (0, &"spec".into(), &Value::Null));
    assert_eq!(run["steps"].as_array().map(Vec::len), Some(13));
    assert_eq!(run["steps"][4]["effects"][0], "send 1 (0x0 <- 0x0)");
    assert_eq!(run["steps"][4]["answer"], "sent");
}

#[test]
fn a_script_may_come_through_a_pipe() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msix"))
        .args(["replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SCRIPT.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.ends_with(b"13 inputs, all invariants hold\n"));
}

#[test]
fn the_policy_is_the_scripts() {
    let (status, stdout, _) = replayed(SCRIPT.replace("policy spec", "policy qemu"), &[]);
    assert_eq!(status, 0);
    assert!(stdout.contains("2 vectors, policy qemu") && !stdout.contains("reroute"), "{stdout}");
}

#[test]
fn a_script_that_is_wrong_is_refused_with_its_line() {
    for (text, reason) in [
        ("msix-script 1\nvectors 2\nnotify", "line 3: no such input"),
        ("msix-script 1\n", "line 1: no line `vectors N`"),
        ("msix-script 1\nvectors 2\npin emulated", "line 3: no such input"),
        ("msix-function-script 1\nvectors 3", "line 2: 1, 2, 4, 8, 16 or 32 vectors"),
    ] {
        let (status, stdout, stderr) = replayed(text, &[]);
        assert_eq!((status, &*stdout), (2, ""));
        assert!(stderr.contains(reason), "{stderr}");
    }
    let (status, _, stderr) = replayed(SCRIPT, &["--timeline", "page.html"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("a script has no timeline"), "{stderr}");
}
