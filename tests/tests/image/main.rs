//! The engine as firmware links it: an image whose panic handler calls a function that does not
//! exist, so that it links only if no panic is reachable from any public input; and its size and
//! stack.

mod disassembly;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use disassembly::Disassembly;

const SOURCE: &str = include_str!("../../image/src/lib.rs");

/// What a device with a fixed set of used vectors needs to run: register accesses, events, the host,
/// reset. Without the queries, `Operation`, snapshots and layout planning.
const RUNNING: &[&str] = &[
    "msix_new",
    "msix_read_config",
    "msix_write_config",
    "msix_read_table",
    "msix_write_table",
    "msix_poll_pba",
    "msix_read_pba",
    "msix_write_pba",
    "msix_notify",
    "msix_attach",
    "msix_detach",
    "msix_failed",
    "msix_polled",
    "msix_set_bus_master",
    "msix_reset",
    "msix_take",
    "msix_message",
];

/// Every function of the image.
fn exported() -> Vec<&'static str> {
    let names =
        SOURCE.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split(['(', '<']).next());
    names.filter(|&name| name != "seeded_panic").collect()
}

/// Builds the image's library.
fn library(opt_level: &str, features: &[&str]) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/Cargo.toml");
    let name = format!("image/{}{}", opt_level.trim_matches('"'), features.concat());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
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

/// Links what is reachable from `roots`; what the linker said when it could not.
fn link(library: &Path, roots: &[&str]) -> Result<tempfile::TempPath, String> {
    let image = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
    let output = Command::new("cc")
        .args(["-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,-e,msix_write_table"])
        .args(roots.iter().map(|root| format!("-Wl,--require-defined={root}")))
        .arg(library)
        .arg("-o")
        .arg(&image)
        .output()
        .expect("the linker that built this test runs");
    if output.status.success() {
        Ok(image)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn no_panic_is_reachable_from_any_public_input() {
    for opt_level in ["\"s\"", "2", "3"] {
        let linked = link(&library(opt_level, &[]), &exported());
        assert_eq!(linked.err(), None, "optimisation level {opt_level}");
    }
}

#[test]
fn a_panic_that_is_reachable_does_not_link() {
    let library = library("\"s\"", &["seeded-panic"]);
    let refused = link(&library, &["seeded_panic"]).unwrap_err();
    assert!(refused.contains("a_panic_is_reachable"), "{refused}");
    assert_eq!(link(&library, &exported()).err(), None, "only the seeded panic is reachable");
}

#[test]
fn the_image_calls_every_public_method_of_the_engine() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    // Plain fields.
    let not_called = ["layout", "policy", "bus_master", "is_attached", "is_loading"];
    let mut missing = BTreeSet::new();
    for file in ["config", "events", "host", "invariants", "mmio", "msix", "snapshot"] {
        let text = std::fs::read_to_string(sources.join(format!("{file}.rs"))).expect("a source");
        let methods = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("    pub ")?;
            rest.strip_prefix("const ")
                .unwrap_or(rest)
                .strip_prefix("fn ")?
                .split(['(', '<'])
                .next()
        });
        for method in methods.filter(|method| !not_called.contains(method)) {
            if !["msix.", "Msix::"].iter().any(|on| SOURCE.contains(&format!("{on}{method}("))) {
                missing.insert(method.to_owned());
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

/// Budgets: 8 KiB of text for a running device, 1 KiB of stack for an input (both `Inline<64, 1>`).
#[test]
#[cfg(target_arch = "x86_64")]
fn the_image_is_small_and_needs_little_stack() {
    let library = library("\"z\"", &[]);
    let text = |roots: &[&str]| {
        Disassembly::of(&link(&library, roots).expect("no panic is reachable"), roots).text
    };
    let (running, all) = (text(RUNNING), text(&exported()));
    println!("text at level z: {running} bytes for a running device, {all} for all there is");
    assert!(running <= 8 * 1024, "{running} bytes of text for a running device");
    assert!(all <= 16 * 1024, "{all} bytes of text for everything");

    for opt_level in ["\"s\"", "2", "3"] {
        let library = self::library(opt_level, &[]);
        let image = link(&library, &exported()).expect("no panic is reachable");
        let disassembly = Disassembly::of(&image, &exported());
        let stack = |name: &&str| (disassembly.stack(name), name.to_string());
        // An engine with its memory inside is made by value, through copies of it; firmware that
        // cannot afford them lends the memory.
        let is_input = |name: &&&str| **name != "msix_new";
        let worst = exported().iter().filter(is_input).map(stack).max().expect("inputs");
        let new = disassembly.stack("msix_new");
        println!("stack at level {opt_level}: {} bytes in {}, {new} in msix_new", worst.0, worst.1);
        assert!(worst.0 <= 1024, "{worst:?} at level {opt_level}");
    }
}
