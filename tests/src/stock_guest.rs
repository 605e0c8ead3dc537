//! A guest with a stock kernel: where the kernel comes from, and the init that tests/vm/guest is, or
//! tests/vm/arm.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of Debian's kernel of a series, with `vmlinuz` and `modules`. The flavour is "cloud",
/// or "generic" with the drivers of more devices; the processor is Debian's "amd64" or "arm64". Fetches it
/// once.
///
/// # Errors
/// Why this machine cannot get it.
///
/// # Panics
/// When tests/vm/kernel fails otherwise.
pub fn kernel(series: &str, flavour: &str, processor: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/kernel");
    let arguments = [series, flavour, processor];
    let output = Command::new(script).args(arguments).output().expect("bash runs");
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
    build(&mut Command::new(env!("CARGO")), "vm/guest", &target);
    target.join("x86_64-unknown-linux-gnu/release/msix-vm-guest")
}

/// Debian's compiler, for which the package rust-web-src has the library's sources.
const DEBIANS_RUSTC: &str = "/usr/bin/rustc";
const DEBIANS_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";
const ARM_LINKER: &str = "aarch64-linux-gnu-gcc";

/// Builds the init for arm64 in a folder `vm-arm` of `target`. Returns its path.
///
/// # Errors
/// The package that is missing.
///
/// # Panics
/// When it does not build.
pub fn arm_init(target: &Path) -> Result<PathBuf, String> {
    if Command::new(ARM_LINKER).arg("--version").output().is_err() {
        return Err("gcc-aarch64-linux-gnu".to_owned());
    }
    for (file, package) in [
        (DEBIANS_RUSTC, "rustc-web"),
        (DEBIANS_LIBRARY, "rust-web-src"),
        ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
    ] {
        if !Path::new(file).exists() {
            return Err(package.to_owned());
        }
    }
    if !is_new_enough(DEBIANS_RUSTC) {
        return Err("rustc-web".to_owned());
    }
    let target = target.join("vm-arm");
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo builds the library for a target that it is not installed for.
    cargo.env("RUSTC", DEBIANS_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    cargo.env_remove("RUSTC_WRAPPER").env_remove("RUSTUP_TOOLCHAIN");
    let cargo = cargo.arg("-Zbuild-std=std,panic_unwind");
    build(cargo, "vm/arm", &target);
    Ok(target.join("aarch64-unknown-linux-gnu/release/msix-vm-arm"))
}

/// Returns whether a compiler is as new as the workspace asks for.
fn is_new_enough(rustc: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    let Ok(output) = Command::new(rustc).arg("--version").output() else { return false };
    let said = String::from_utf8_lossy(&output.stdout);
    said.split(' ')
        .nth(1)
        .is_some_and(|has| numbers(has) >= numbers(env!("CARGO_PKG_RUST_VERSION")))
}

/// Builds an init in its folder, where .cargo/config.toml links it statically, unless these variables say
/// otherwise.
fn build(cargo: &mut Command, folder: &str, target: &Path) {
    let output = cargo
        .args(["build", "--release", "--target-dir"])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
