//! `tests/run`: what it installs, and that it says so before.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

/// What the script finds in its PATH besides the programs that note down how they were called.
const TOOLS: [&str; 9] = ["bash", "cat", "dirname", "grep", "mktemp", "rm", "sed", "sort", "tee"];

fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Exit status, what the script printed, and which programs it called.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let places = std::env::var("PATH").unwrap();
    for tool in TOOLS {
        let found = places.split(':').map(|place| Path::new(place).join(tool));
        symlink(found.into_iter().find(|path| path.exists()).unwrap(), bin.join(tool)).unwrap();
    }
    let [printed, called] = ["printed", "called"].map(|name| folder.path().join(name));
    fs::write(&called, "").unwrap();
    let note = |with: &str| format!("echo \"{with} $*\" >> {}", called.display());
    program(&bin, "id", "echo 0");
    program(&bin, "rustup", "echo nightly-x");
    program(&bin, "cargo", &note("cargo"));
    let announced = format!("grep -q 'going to install: .*xz-utils' {} && ", printed.display());
    program(&bin, "apt-get", &(announced + &note("apt-get")));
    let ended = Command::new(bin.join("bash"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/run"))
        .args(arguments)
        .env_clear()
        .env("PATH", &bin)
        .stdout(fs::File::create(&printed).unwrap())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert!(!complaints.contains("command not found"), "{complaints}");
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    (ended.status.code(), text(&printed), text(&called))
}

#[test]
fn what_is_missing_is_named_before_it_is_installed() {
    let (status, printed, called) = run(&[]);
    assert_eq!(status, Some(0), "{printed}{called}");
    let said =
        "== going to install: valgrind qemu-system-x86 xz-utils util-linux chromium gcc g++ ";
    assert!(printed.contains(said) && printed.contains(" cargo-fuzz (not with --no-install)\n"));
    assert!(called.contains("apt-get install -y --no-install-recommends qemu-system-x86\n"));
    assert!(called.contains("cargo install --locked --quiet --debug cargo-fuzz\n"), "{called}");
}

#[test]
fn nothing_is_installed_when_nothing_may_be() {
    for arguments in [&["--no-install"][..], &["vm", "--no-install"], &["--no-install", "mutants"]]
    {
        let (status, printed, called) = run(arguments);
        assert_eq!(status, Some(0), "{printed}{called}");
        assert!(printed.contains("== not installed: "), "{printed}");
        assert!(!called.contains("install"), "{called}");
        assert!(called.contains("cargo "), "it goes on: {called}");
    }
}

#[test]
fn an_argument_that_means_nothing_is_refused() {
    let (status, printed, called) = run(&["--install-nothing"]);
    assert_eq!((status, &*printed, &*called), (Some(2), "", ""));
}
