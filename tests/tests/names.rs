//! The names of public types: no two crates give one name to different things.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The crates that others depend on; `*` stands for every folder.
const SOURCES: &[&str] = &[
    "core/src",
    "backends/src",
    "backends/capi/src",
    "sim/src",
    "sim/*/src",
    "tests/conformance/src",
];

/// What declares a public type.
const DECLARATIONS: &[&str] =
    &["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub union "];

/// The names that two types have on purpose: a function on KVM has the inputs of the function it holds.
const SHARED: &[(&str, &[&str])] =
    &[("Function", &["backends/src/kvm/function.rs", "core/src/function.rs"])];

#[test]
fn no_two_public_types_have_one_name() {
    let mut declared = BTreeMap::<String, Vec<String>>::new();
    for (file, text) in sources() {
        for name in public_types(&text) {
            declared.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    assert!(declared.len() > 150, "only {} types: is the finder broken?", declared.len());
    let shared: BTreeMap<&str, Vec<String>> = declared
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| (name.as_str(), files.clone()))
        .collect();
    let permitted = SHARED.iter().map(|(name, files)| {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        (*name, files)
    });
    assert_eq!(
        shared,
        permitted.collect(),
        "one name for two types (left), or a needless exception"
    );
}

#[test]
fn the_finder_takes_what_other_crates_see_and_nothing_else() {
    let text = "pub struct A;\n    pub(crate) struct B;\nstruct C;\n// pub enum D {\npub enum E<T> {\n\
                pub trait F: Send {\n    pub type G<'a> = u8;\nmod tests {\n";
    assert_eq!(public_types(text).collect::<Vec<_>>(), ["A", "E", "F", "G"]);
}

/// The names of the public types that a file declares.
fn public_types(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest = DECLARATIONS.iter().find_map(|declaration| line.strip_prefix(declaration))?;
        rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
    })
}

/// Every file of the crates, by its path, in order.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut folders: Vec<PathBuf> =
        SOURCES.iter().flat_map(|source| expand(root, source)).collect();
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                // Unit tests declare nothing that other crates see.
                if path.file_name().is_none_or(|name| name != "tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let name = path.strip_prefix(root).expect("it is inside").display().to_string();
                sources.insert(name, text);
            }
        }
    }
    sources
}

/// The folders that a pattern with at most one `*` names.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once("*/") else { return vec![root.join(pattern)] };
    let folders = entries(&root.join(before)).into_iter().map(|folder| folder.join(after));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}
