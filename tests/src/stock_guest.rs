//! A guest with a stock kernel: where the kernel comes from, and the init that tests/vm/guest is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of Debian's kernel of a series, with `vmlinuz` and `modules`. The flavour is "cloud",
/// or "generic" with the drivers of more devices. Fetches it once.
///
/// # Errors
/// Why this machine cannot get it.
///
/// # Panics
/// When tests/vm/kernel fails otherwise.
pub fn kernel(series: &str, flavour: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/kernel");
    let output = Command::new(script).args([series, flavour]).output().expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim_end().into()),
        Some(77) => Err(said),
        _ => panic!("tests/vm/kernel {series} {flavour}: {}: {said}", output.status),
    }
}

/// Builds the guest's init in a folder `vm-guest` of `target`. Returns its path.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn init(target: &Path) -> PathBuf {
    let target = target.join("vm-guest");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target-dir"])
        .arg(&target)
        // Its .cargo/config.toml links it statically, unless these say otherwise.
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/guest"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("x86_64-unknown-linux-gnu/release/msix-vm-guest")
}
