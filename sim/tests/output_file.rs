//! The page of `--timeline` as a file among others.

mod common;

use common::process::Process;
use common::{Log, msix, replayed_file};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

fn log() -> String {
    Log::nvme().raise(0).message(0x40).text.clone()
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn the_input_is_not_replaced_by_its_page_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("guest.log"), log()).unwrap();
    fs::hard_link(path("guest.log"), path("other name")).unwrap();
    symlink("guest.log", path("link")).unwrap();
    for (name, reason) in [
        ("guest.log", "it is the input"),
        ("other name", "it is the input"),
        ("link", "it exists, and is no regular file"),
    ] {
        let page = path(name);
        let (status, stdout, stderr) =
            replayed_file(&path("guest.log"), &["--timeline", page.to_str().unwrap()]);
        assert_eq!((status, &*stdout), (2, ""), "{stderr}");
        assert_eq!(stderr, format!("error: {}: {reason}\n", page.display()));
        assert_eq!(fs::read_to_string(path("guest.log")).unwrap(), log(), "{name}");
    }
    // Nor when it comes through the standard input.
    let page = path("guest.log").to_str().unwrap().to_owned();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_msix"));
    command.args(["replay", "-", "--timeline", &page]);
    let output = command.stdin(fs::File::open(&page).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&page).unwrap(), log());
}

#[test]
fn a_link_is_not_followed_and_a_device_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let [link, target] = ["page.html", "target"].map(|name| folder.path().join(name));
    fs::write(&target, "kept").unwrap();
    symlink(&target, &link).unwrap();
    for page in [link.to_str().unwrap(), "/dev/full", folder.path().to_str().unwrap()] {
        let run = msix(&["replay", "--timeline", page]);
        assert_eq!(run.status.code(), Some(2));
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(stderr, format!("error: {page}: it exists, and is no regular file\n"));
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_page_is_written_whole_or_what_was_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "older").unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o640)).unwrap();
    let path = page.to_str().unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]);
    command.args([env!("CARGO_BIN_EXE_msix"), "replay", "--timeline", path]);
    let full = Process::start(&mut command).ended();
    assert_eq!(full.status, Some(2), "{full:?}");
    assert!(full.stdout.contains("all 5 devices agree"), "the report is not lost: {full:?}");
    let reason = format!("error: {path}: cannot be written: File too large");
    assert!(full.stderr.starts_with(&reason), "{}", full.stderr);
    assert_eq!((fs::read_to_string(&page).unwrap().as_str(), names(folder.path())), ("older", 1));

    assert_eq!(msix(&["replay", "--timeline", path]).status.code(), Some(0));
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(page.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(names(folder.path()), 1);
}

#[test]
fn a_report_is_shown_where_the_page_has_no_folder() {
    let run = msix(&["replay", "--timeline", "/nonexistent/page.html", "--json"]);
    assert_eq!(run.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["mismatches"], 0);
}

#[cfg(feature = "kvm")]
#[test]
fn a_trace_is_not_written_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let [link, target] = ["trace", "target"].map(|name| folder.path().join(name));
    symlink(&target, &link).unwrap();
    let trace = link.to_str().unwrap();
    let traced = ["-trace", "memory_region_ops_write", "-D", trace];
    let run = msix(&[&["qtest", "-qtest", "unix:/nonexistent/socket"], &traced[..]].concat());
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert!(stderr.starts_with(&format!("error: {trace}: ")), "{stderr}");
    assert!(!target.exists());
}
