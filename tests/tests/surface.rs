//! The public surface of `core` stays small: what an embedder must read before using it.
//!
//! Counted are the public methods and the names at the crate's root, with feature `alloc`. Feature
//! `operations` is for models, explorers and tests, and not counted; nor are the hooks of the proofs, which
//! no feature brings.

use std::path::{Path, PathBuf};

/// Most public methods and functions.
const METHODS: usize = 130;
/// Most names at the root of the crate.
const NAMES: usize = 45;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The public methods and functions that `source` defines before its tests.
fn methods(source: &str) -> impl Iterator<Item = &str> {
    let shipped = source.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    shipped.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let rest = rest.strip_prefix("const ").unwrap_or(rest);
        rest.strip_prefix("fn ")?.split(['(', '<']).next()
    })
}

/// The names that `pub use` brings to the root of the crate, without those of feature `operations`.
fn names(root: &str) -> Vec<&str> {
    let uses = root.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(|item| match item.split_once('{') {
        Some((_, list)) => list.trim_end_matches('}').split(',').map(str::trim).collect(),
        None => vec![item.rsplit("::").next().unwrap_or(item)],
    })
    .filter(|name| !name.is_empty())
    .collect()
}

#[test]
fn the_public_surface_of_core_is_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let for_models = |path: &PathBuf| {
        let files = ["inspect.rs", "operation.rs", "prove.rs"];
        files.iter().any(|file| path.ends_with(file))
            || path.parent().is_some_and(|parent| parent.ends_with("operation"))
    };
    files.retain(|path| !for_models(path));
    let texts: Vec<String> =
        files.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let methods = texts.iter().flat_map(|text| methods(text)).count();
    let root = std::fs::read_to_string(folder.join("lib.rs")).expect("the root");
    let names = names(&root);
    println!("{methods} public methods of {METHODS}, {} names of {NAMES}", names.len());
    assert!(methods > 100 && names.len() > 30, "the counting finds what there is");
    assert!(methods <= METHODS, "{methods} public methods, at most {METHODS}");
    assert!(names.len() <= NAMES, "{} names, at most {NAMES}: {names:?}", names.len());
}

#[test]
fn methods_and_names_are_found_however_they_are_written() {
    let source = "    pub fn one(&self) {}\n    pub const fn two() {}\n    pub(crate) fn three() {}\n\
                  pub fn four<T>() {}\n#[cfg(test)]\nmod tests {\n    pub fn five() {}\n}";
    assert_eq!(methods(source).collect::<Vec<_>>(), ["one", "two", "four"]);
    let root = "mod a;\npub mod b;\npub use a::One;\npub use a::{\n    Two, Three,\n};\n";
    assert_eq!(names(root), ["One", "Two", "Three"]);
}
