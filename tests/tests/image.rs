//! No panic is reachable from any public input: an image of the engine links although its panic
//! handler calls a function that does not exist. At every optimisation level, with overflow checks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the image's library.
fn library(opt_level: &str, features: &[&str]) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image").join(features.join("-"));
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .args(["--config", &format!("profile.release.opt-level={opt_level}")])
        .args(["--features", &features.join(",")])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("release/libmsix_image.a")
}

/// Links it; what the linker said when it could not.
fn link(library: &Path) -> Result<(), String> {
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    let output = Command::new("cc")
        .args(["-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,-e,msix_input"])
        .arg("-Wl,-u,msix_new")
        .arg(library)
        .arg("-o")
        .arg(image.path())
        .output()
        .expect("the linker that built this test runs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn no_panic_is_reachable_from_any_public_input() {
    for opt_level in ["\"s\"", "2", "3"] {
        let linked = link(&library(opt_level, &[]));
        assert_eq!(linked, Ok(()), "optimisation level {opt_level}");
    }
}

#[test]
fn a_panic_that_is_reachable_does_not_link() {
    let refused = link(&library("\"s\"", &["seeded-panic"])).unwrap_err();
    assert!(refused.contains("a_panic_is_reachable"), "{refused}");
}
