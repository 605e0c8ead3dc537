//! `msix explore`: what it says, and that its scripts can be replayed.

mod common;

use common::replayed;
use msix_explorer::{
    FunctionDefect, FunctionOptions, MsixDefect, MsixOptions, explore_function, explore_msix,
};
use serde_json::Value;

/// Exit status, standard output and standard error of the program.
fn msix(arguments: &[&str]) -> (i32, String, String) {
    let output = common::msix(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_real_function_holds_its_invariants_on_the_scripts_of_defects() {
    // All of them take half a minute.
    for (defect, ..) in FunctionDefect::ALL.into_iter().step_by(3) {
        let mut options = FunctionOptions::default();
        options.defect = Some(defect);
        // What an EOI does can be seen of a physical line alone.
        options.physical =
            [FunctionDefect::UnmaskForgotten, FunctionDefect::EoiForgotten].contains(&defect);
        let found = explore_function(&options, |_| true).violation;
        let script = found.unwrap_or_else(|| panic!("{defect:?} is not found")).script;
        let (status, stdout, stderr) = replayed(&script, &[]);
        assert_eq!(status, 0, "{defect:?}: {stdout}{stderr}");
    }
}

#[test]
fn the_real_engine_holds_its_invariants_on_the_script_of_every_defect() {
    for (defect, ..) in MsixDefect::ALL {
        // A neighbour takes two.
        let mut options = MsixOptions::default();
        options.at = if defect == MsixDefect::WithdrawClearsWord { vec![0, 40] } else { vec![40] };
        options.defect = Some(defect);
        let found = explore_msix(&options, |_| true).unwrap().violation;
        let script = found.unwrap_or_else(|| panic!("{defect:?} is not found")).script;
        let (status, stdout, stderr) = replayed(&script, &[]);
        assert_eq!(status, 0, "{defect:?}: {stdout}{stderr}");
        assert!(stdout.ends_with(", all invariants hold\n"), "{stdout}");
    }
}

#[test]
fn the_program_says_what_was_seen_and_fails_when_something_is_violated() {
    let (status, stdout, stderr) = msix(&["explore", "--vectors", "1", "--policy", "qemu"]);
    assert_eq!((status, &*stderr), (0, ""));
    assert!(stdout.contains("vectors 40 of 41, policy qemu"), "{stdout}");
    assert!(stdout.contains("every reachable state was seen, nothing is violated"), "{stdout}");

    let (status, stdout, _) = msix(&["explore", "--json", "--max-states", "50"]);
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &outcome["states"], &outcome["complete"]), (4, &50.into(), &false.into()));
    assert_eq!(outcome["properties"].as_array().map(Vec::len), Some(15));

    let (status, stdout, stderr) = msix(&["explore", "--defect", "no-disarm-on-mask"]);
    assert_eq!(status, 1);
    assert!(stdout.contains("msix-script 1\nvectors 41\npolicy spec\n"), "{stdout}");
    assert!(stderr.starts_with("told: vector 40 is armed"), "{stderr}");

    for arguments in [["explore", "--vectors", "4"], ["explore", "--at", "66"]] {
        let (status, stdout, stderr) = msix(&arguments);
        assert_eq!((status, &*stdout), (2, ""), "{stderr}");
    }
}

#[test]
fn the_script_of_a_violation_goes_to_a_file_that_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found");
    let arguments = ["explore", "--defect", "no-disarm-on-mask", "--script"];
    let (status, ..) = msix(&[&arguments[..], &[path.to_str().unwrap()]].concat());
    assert_eq!(status, 1);
    let (status, stdout, stderr) = common::replayed_file(&path, &[]);
    assert!(status == 0 && stdout.contains("all invariants hold"), "{stdout}{stderr}");
}

#[test]
fn the_script_of_a_function_goes_to_a_file_that_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    for (defect, more, words) in [
        ("pin-kept", None, ["INTx: arm", "INTx: disarm"]),
        ("reroute-forgotten", None, ["MSI: arm", "MSI: reroute 0"]),
        ("unmask-forgotten", Some("--physical"), ["INTx: assert", "INTx: unmask"]),
    ] {
        let path = folder.path().join(defect);
        let file = path.to_str().unwrap();
        let arguments = ["explore", "--function", "--function-defect", defect, "--script", file];
        let (status, stdout, _) = msix(&[&arguments[..], more.as_slice()].concat());
        assert_eq!(status, 1, "{stdout}");
        let script = std::fs::read_to_string(&path).unwrap();
        assert!(stdout.ends_with(&format!("{script}\n")), "{stdout}");
        let (status, stdout, stderr) = common::replayed_file(&path, &[]);
        assert_eq!((status, &*stderr), (0, ""), "{stdout}");
        assert!(stdout.ends_with(", all invariants hold\n"), "{stdout}");
        assert!(words.iter().all(|word| stdout.contains(word)), "{defect}: {stdout}");
    }
}

#[cfg(not(feature = "stateright"))]
#[test]
fn a_program_without_stateright_says_what_the_web_page_needs() {
    let (status, stdout, stderr) = msix(&["explore", "--serve"]);
    assert_eq!((status, &*stdout), (2, ""));
    assert!(stderr.contains("feature `stateright`"), "{stderr}");
}

#[cfg(feature = "stateright")]
#[test]
fn a_page_that_others_can_reach_is_warned_of_and_ends_with_a_signal() {
    use common::process::{Process, until};
    use rustix::process::Signal;
    use std::net::{SocketAddr, TcpListener};
    for (host, warned) in [("127.0.0.1", false), ("0.0.0.0", true)] {
        let free = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
        let process = Process::msix(&["explore", "--serve", &free.to_string()]);
        let near = SocketAddr::from(([127, 0, 0, 1], free.port()));
        until("it serves", || std::net::TcpStream::connect(near).ok());
        process.signal(Signal::TERM);
        let ended = process.ended();
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let warning = format!("warning: {free} can be reached from other machines");
        assert_eq!(ended.stderr.contains(&warning), warned, "{}", ended.stderr);
    }
}

#[test]
fn a_whole_function_is_explored_and_a_violation_is_a_failure() {
    let arguments = ["explore", "--function", "--vectors", "2", "--max-states", "500", "--json"];
    let (status, stdout, _) = msix(&arguments);
    let outcome: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((status, &outcome["states"]), (4, &500.into()));
    let (status, stdout, _) = msix(&["explore", "--function", "--function-defect", "pin-kept"]);
    assert_eq!(status, 1);
    assert!(stdout.contains("`alone` is violated after"), "{stdout}");
    for arguments in [&["explore", "--physical"][..], &["explore", "--function", "--vectors", "3"]]
    {
        assert_eq!(msix(arguments).0, 2);
    }
}
