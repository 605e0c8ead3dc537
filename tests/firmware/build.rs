//! Has the image linked as `firmware.ld` says.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware.ld");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rerun-if-changed={script}");
}
