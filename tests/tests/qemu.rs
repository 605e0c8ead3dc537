//! The engine beside a real QEMU.

use msix_core::Policy;
use msix_explorer::script::Script;
use msix_peers::QemuError;
use msix_sim::diff::{DiffOptions, PeerDifference, run, run_script};

fn options(operations: u64, vectors: u16, devices: usize) -> DiffOptions {
    let seed = u64::from(vectors) << 32 | 20_261_121;
    let mut options = DiffOptions::new("qemu-system-x86_64", operations, seed, vectors);
    options.devices = devices;
    options
}

/// Whether there is a QEMU; notes the skip if there is none.
fn has_qemu(test: &str) -> bool {
    let found = std::process::Command::new("qemu-system-x86_64").arg("--version").output().is_ok();
    if !found {
        let remedy = "apt-get install qemu-system-x86";
        msix_tests::peers::skipped(test, "qemu-system-x86_64", remedy);
    }
    found
}

#[test]
fn engine_and_qemu_agree_on_200_000_random_inputs() {
    if !has_qemu("random inputs beside QEMU") {
        return;
    }
    for (operations, vectors, devices) in
        [(60_000, 1, 4), (60_000, 4, 4), (70_000, 65, 4), (7_000, 129, 8), (3_000, 2048, 1)]
    {
        let outcome = run(&options(operations, vectors, devices), |_| true).unwrap();
        println!("{vectors} vectors: {:?}, {} waits", outcome.compared, outcome.round_trips);
        assert!(outcome.mismatch.is_none(), "{}", outcome.mismatch.unwrap().script);
        assert!(outcome.compared.operations >= operations);
        assert!(outcome.compared.reads * 10 > operations && outcome.compared.messages > 0);
        // One wait serves all devices.
        let most = outcome.compared.operations * 2 / 3 / (1 + devices as u64);
        assert!(outcome.round_trips < most, "{} waits, at most {most}", outcome.round_trips);
    }
}

#[test]
fn what_differs_from_qemu_is_found_and_shrunk_to_a_script_that_shows_it_again() {
    if !has_qemu("a difference from QEMU") {
        return;
    }
    let mut strict = options(20_000, 4, 2);
    strict.policy = Policy::SPEC;
    let mismatch = run(&strict, |_| true).unwrap().mismatch.expect("the policies differ");
    let script = Script::parse(&mismatch.script).unwrap();
    assert!(script.operations.len() <= 6, "{}", mismatch.script);
    let shown: Option<PeerDifference> = run_script(4, script.operations.clone(), &strict).unwrap();
    assert_eq!(shown.map(|difference| difference.what), Some(mismatch.difference.what));
    let agreed = run_script(4, script.operations, &options(0, 4, 1)).unwrap();
    assert_eq!(agreed, None, "it is the policy that differs");
}

#[test]
fn a_qemu_that_is_missing_ends_or_talks_nonsense_is_an_error_and_leaves_nothing() {
    let with = |program: &str| DiffOptions::new(program, 100, 1, 4);
    let missing = run(&with("/nonexistent/qemu"), |_| true).unwrap_err();
    assert!(matches!(missing, QemuError::Start { .. }), "{missing}");
    let ended = run(&with("/bin/false"), |_| true).unwrap_err();
    assert!(matches!(ended, QemuError::Ended { .. }), "{ended}");
}
