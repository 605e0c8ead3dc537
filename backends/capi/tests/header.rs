//! The header is what the sources say, and all that is unsafe is where it is meant to be.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_current() {
    let config =
        cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("a configuration");
    let bindings = cbindgen::generate_with_config(root(), config).expect("sources it understands");
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let made = String::from_utf8(bytes).expect("UTF-8");
    let path = root().join("include/msix.h");
    if std::env::var_os("MSIX_BLESS").is_some() {
        std::fs::write(&path, &made).expect("a header that can be written");
    }
    let header = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(header == made, "include/msix.h is not current: run this test with MSIX_BLESS=1");
}

#[test]
fn every_unsafe_block_is_in_the_module_for_them() {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    let unsafe_ones: Vec<&PathBuf> = found
        .iter()
        .filter(|path| std::fs::read_to_string(path).expect("a source").contains("unsafe {"))
        .collect();
    assert!(unsafe_ones.len() >= 2, "the search finds what there is: {unsafe_ones:?}");
    for path in unsafe_ones {
        let inside = path.strip_prefix(root().join("src")).expect("a source");
        assert!(inside.starts_with("raw") || inside == Path::new("raw.rs"), "{inside:?}");
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}
