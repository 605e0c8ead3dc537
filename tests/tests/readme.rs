//! What the README says of versions is what the manifest says.

#[test]
fn the_readme_names_the_version_and_the_oldest_rust() {
    let readme = include_str!("../../README.md");
    let version = env!("CARGO_PKG_VERSION");
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let line = format!("Version {version}. Rust {rust} or newer.");
    assert!(readme.contains(&line), "the README does not say `{line}`");
}
