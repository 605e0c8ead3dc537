//! The engine as firmware links it: an image whose panic handler calls a function that does not
//! exist, so that it links only if no panic is reachable from any public input; and its size and
//! stack.

mod disassembly;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use disassembly::Disassembly;

const SOURCE: &str = include_str!("../../image/src/lib.rs");
const FUNCTION: &str = include_str!("../../image/src/function.rs");

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
    "msix_report_failed",
    "msix_report_held",
    "msix_set_bus_master",
    "msix_reset",
    "msix_take",
    "msix_message",
];

/// What a device with MSI and a pin needs to run.
const RUNNING_MSI: &[&str] = &[
    "function_new",
    "function_read_msi",
    "function_write_msi",
    "function_poll_msi",
    "function_write_command",
    "function_notify",
    "function_set_level",
    "function_eoi",
    "function_attach",
    "function_detach",
    "function_report_failed",
    "function_report_held",
    "function_reset",
    "function_take",
    "function_message",
];

/// Every function of the image of MSI-X alone.
fn exported() -> Vec<&'static str> {
    in_source(SOURCE)
}

/// Every function of the image with feature `function`.
fn exported_function() -> Vec<&'static str> {
    [in_source(SOURCE), in_source(FUNCTION)].concat()
}

/// Every function of a part of the image.
fn in_source(source: &'static str) -> Vec<&'static str> {
    let names =
        source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split(['(', '<']).next());
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
        let linked = link(&library(opt_level, &["function"]), &exported_function());
        assert_eq!(linked.err(), None, "with the function, optimisation level {opt_level}");
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
    let msix = ["check", "config", "device", "guest", "host", "snapshot"];
    let msix = msix.map(|file| format!("msix/{file}"));
    let function = ["device", "guest", "host", "snapshot"].map(|file| format!("function/{file}"));
    let msi = ["msi".into(), "msi/guest".into()];
    let mut missing = not_called(&msix, ["msix.", "Msix::"], SOURCE);
    missing.extend(not_called(&["msix".into()], ["msix.", "Msix::"], SOURCE));
    missing.extend(not_called(&msi, ["msi.", "Msi::"], FUNCTION));
    missing.extend(not_called(&["intx".into()], ["intx.", "Intx::"], FUNCTION));
    missing.extend(not_called(&function, ["function.", "Function::"], FUNCTION));
    missing.extend(not_called(&["function".into()], ["function.", "Function::"], FUNCTION));
    assert_eq!(missing, BTreeSet::new());
}

/// The public methods of `files` that `source` does not call on one of `on`.
fn not_called(files: &[String], on: [&str; 2], source: &str) -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    // Plain fields, or one bit of them.
    let plain = [
        "policy",
        "is_enabled",
        "counters",
        "vectors",
        "is_loading",
        // An embedder's own predicate, and memory that firmware does not have.
        "with_exempt_messages",
        "boxed",
        "with_storage",
        "description",
        "source",
        "is_asserted",
        "msi",
        "msix",
        "intx",
        "command",
    ];
    let mut missing = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(sources.join(format!("{file}.rs"))).expect("a source");
        let methods = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("    pub ")?;
            rest.strip_prefix("const ")
                .unwrap_or(rest)
                .strip_prefix("fn ")?
                .split(['(', '<'])
                .next()
        });
        for method in methods {
            let called = on.iter().any(|on| source.contains(&format!("{on}{method}(")));
            // On MSI-X they are calls all the same.
            let is_plain =
                plain.contains(&method) && (source == FUNCTION || plain[..8].contains(&method));
            if !called && !is_plain {
                missing.insert(format!("{}{method}", on[1]));
            }
        }
    }
    missing
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
    // Half a KiB of it is the checksum of today's snapshots, and as much that of version 1.
    assert!(all <= 17 * 1024, "{all} bytes of text for everything");
    for opt_level in ["\"s\"", "2", "3"] {
        let library = self::library(opt_level, &["function"]);
        let image = link(&library, &exported_function()).expect("no panic is reachable");
        let disassembly = Disassembly::of(&image, &exported_function());
        let stack = |name: &&str| (disassembly.stack(name), name.to_string());
        // An engine with its memory inside is made by value, through copies of it; firmware that
        // cannot afford them lends the memory.
        let is_input = |name: &&&str| !["msix_new", "function_new"].contains(*name);
        let worst = exported_function().iter().filter(is_input).map(stack).max().expect("inputs");
        let new = disassembly.stack("msix_new");
        println!("stack at level {opt_level}: {} bytes in {}, {new} in msix_new", worst.0, worst.1);
        assert!(worst.0 <= 1024, "{worst:?} at level {opt_level}");
    }
}

/// Budgets: 24 KiB of text for a running device with MSI and a pin, which has the engine of MSI-X
/// in it too, 48 KiB for everything that a whole function is made of. At level s, the smallest at which the panic paths in the list's own code go away when
/// three kinds of lists are in one program.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_image_of_the_function_is_small() {
    let library = library("\"s\"", &["function"]);
    let text = |roots: &[&str]| {
        Disassembly::of(&link(&library, roots).expect("no panic is reachable"), roots).text
    };
    let (msi, modes) = (text(RUNNING_MSI), text(&exported_function()));
    println!("text at level s: {msi} bytes for a running MSI device, {modes} with all modes");
    assert!(msi <= 24 * 1024, "{msi} bytes of text for a running MSI device");
    assert!(modes <= 48 * 1024, "{modes} bytes of text for everything with all modes");
}
