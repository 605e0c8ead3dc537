//! The public API of the crates that others depend on is what `tests/api/` lists, so that a change of it
//! shows in review. After a change on purpose, `MSIX_UPDATE=1 cargo test -p msix-tests --test api` writes
//! the lists anew.
//!
//! rustdoc's JSON has a format for each compiler, so the lists are compared under the one that made them.

use msix_tests::peers::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CRATES: [&str; 3] = ["msix-backends", "msix-conformance", "msix-core"];

/// The minor version of the compiler that made the lists.
const COMPILER: &str = "1.95";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// rustdoc's JSON of `package` with all features. `rustdoc` is one that takes unstable options, so that
/// cargo checks the dependencies as it does for everything else.
fn rustdoc_json(package: &str, rustdoc: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .env("RUSTDOC", rustdoc)
        .args(["rustdoc", "--quiet", "--lib", "--all-features", "--package", package])
        .args(["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // This test's program is in `target/debug/deps`.
    let program = env::current_exe().expect("a program");
    let target = program.ancestors().nth(3).expect("a target folder");
    target.join("doc").join(package.replace('-', "_")).with_extension("json")
}

fn listing(json: &Path) -> String {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_auto_derived_impls(true)
        .omit_auto_trait_impls(true)
        .omit_blanket_impls(true)
        .build()
        .expect("a format that is known");
    api.items().map(|item| format!("{item}\n")).collect()
}

/// The lines that only one of two listings has.
fn difference(old: &str, new: &str) -> String {
    let gone = old.lines().filter(|line| !new.lines().any(|other| other == *line));
    let come = new.lines().filter(|line| !old.lines().any(|other| other == *line));
    let lines =
        gone.map(|line| format!("- {line}\n")).chain(come.map(|line| format!("+ {line}\n")));
    lines.collect()
}

#[test]
fn the_public_api_is_the_one_that_is_listed() {
    let version = Command::new("rustdoc").arg("--version").output().expect("rustdoc starts");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.contains(&format!(" {COMPILER}.")) {
        skipped("the public API", &format!("rustdoc {COMPILER}, not {version}"), "use that one");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let rustdoc = folder.path().join("rustdoc");
    fs::write(&rustdoc, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n").expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&rustdoc, mode).expect("permissions");
    let mut differences = String::new();
    for package in CRATES {
        let new = listing(&rustdoc_json(package, &rustdoc));
        assert!(new.lines().count() > 100, "{package}: {new}");
        let list = root().join("tests/api").join(package).with_extension("txt");
        if env::var_os("MSIX_UPDATE").is_some_and(|update| update == "1") {
            fs::write(&list, &new).expect("a list");
        }
        let old = fs::read_to_string(&list).unwrap_or_default();
        if old != new {
            differences += &format!("{package}:\n{}", difference(&old, &new));
        }
    }
    assert!(differences.is_empty(), "MSIX_UPDATE=1 accepts:\n{differences}");
}

#[test]
fn a_change_shows() {
    assert_eq!(difference("pub a\npub b\n", "pub b\npub c\n"), "- pub a\n+ pub c\n");
}
