//! The ids of rules and cases: each is defined once, each that is cited exists, each link goes where
//! it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where rules are defined: each is a heading.
const RULES: &str = "core/RULES.md";
/// Where cases are defined: each is an item of a list.
const CASES: &str = "tests/CONFORMANCE.md";

/// The sections of the rules.
const RULE_LETTERS: &str = "ABDEFGHIKT";
/// The groups of cases.
const CASE_LETTERS: &str = "CLM";

/// What looks like an id and is none, and what it is.
const NO_IDS: &[(&str, &str)] = &[
    ("L1", "a power state of PCI Express links"),
    ("M32", "a BAR of 32-bit memory, in tests"),
    ("M64", "a BAR of 64-bit memory, in tests"),
];

/// This file, which names ids that do not exist.
const THIS: &str = "tests/tests/rules.rs";

/// Folders with nothing that people wrote for people to read: built files, recordings, corpora.
const SKIPPED: &[&str] = &[".git", "target", "corpus", "data", "artifacts", "coverage"];

#[test]
fn every_id_is_defined_once_and_no_letter_means_two_things() {
    let mut seen = BTreeSet::new();
    for (letters, ids) in [(RULE_LETTERS, defined_rules()), (CASE_LETTERS, defined_cases())] {
        assert!(ids.len() > 70, "only {} ids", ids.len());
        for id in ids {
            assert!(id.starts_with(|letter| letters.contains(letter)), "{id} is in the wrong list");
            assert!(seen.insert(id.clone()), "{id} is defined twice");
        }
    }
    assert!(!RULE_LETTERS.chars().any(|letter| CASE_LETTERS.contains(letter)));
}

#[test]
fn every_id_that_is_cited_exists() {
    let defined = defined();
    let (mut dangling, mut cited, mut excepted) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (name, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for id in ids_in(line) {
                if defined.contains(id) {
                    cited.insert(id.to_string());
                } else if NO_IDS.iter().any(|(word, _)| *word == id) {
                    excepted.insert(id.to_string());
                } else {
                    dangling.push(format!("{name}:{}: {id}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(dangling.is_empty(), "ids that are defined nowhere:\n{}", dangling.join("\n"));
    assert!(cited.len() > 150, "only {} ids are found: is the finder broken?", cited.len());
    for (word, _) in NO_IDS {
        assert!(excepted.contains(*word), "{word} is not needed any more: remove the exception");
    }
}

#[test]
fn a_link_to_a_rule_goes_to_the_rule_it_names() {
    let rules: BTreeSet<String> = defined_rules().into_iter().collect();
    let mut links = 0;
    for (name, text) in texts() {
        for (words, anchor) in rule_links(&text) {
            let id = anchor.to_uppercase();
            assert!(rules.contains(&id), "{name}: no rule has the anchor #{anchor}");
            assert_eq!(words, id, "{name}: the link to #{anchor}");
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links are found");
}

#[test]
fn the_finder_takes_ids_and_leaves_what_looks_like_one() {
    for (line, ids) in [
        ("// A7", &["A7"][..]),
        ("Disarm (H1, C40), T1 to T6; see K8.", &["H1", "C40", "T1", "T6", "K8"]),
        ("C01-C03/`M16` \"L10\" [A7](crate::rules#a7)", &["C01", "C03", "M16", "L10", "A7"]),
        ("I99 and C99 do not exist, which is for others to say", &["I99", "C99"]),
        ("E820 C001 0xC3 0xA1 u32 c47_a_test H_1 A7b FEE1 PCIe4 D", &[]),
        ("W16 R32 V0 S3 N1", &[]),
        ("`W v0+C=1`, BAR2, 7E1, É1, M32x", &[]),
    ] {
        assert_eq!(ids_in(line).collect::<Vec<_>>(), ids, "{line}");
    }
}

#[test]
fn the_finder_of_links_takes_the_words_and_the_anchor() {
    let text = "[A7](crate::rules#a7), [H4](../RULES.md#h4) [other](crate::Msix#h4), rules#x";
    assert_eq!(rule_links(text).collect::<Vec<_>>(), [("A7", "a7"), ("H4", "h4")]);
}

/// The ids cited in a line: a letter of a section or group and one or two digits, as a word.
fn ids_in(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| {
        let mut characters = word.chars();
        let letter = characters.next();
        let known = |letter| RULE_LETTERS.contains(letter) || CASE_LETTERS.contains(letter);
        letter.is_some_and(known)
            && matches!(characters.as_str().len(), 1 | 2)
            && characters.all(|digit| digit.is_ascii_digit())
    })
}

/// The words and the anchor of every link to a rule.
fn rule_links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let words = text[..at].rsplit('[').next()?;
        let target = text[at + 2..].split(')').next()?;
        let (page, anchor) = target.split_once('#')?;
        (page.ends_with("rules") || page.ends_with("RULES.md")).then_some((words, anchor))
    })
}

fn defined() -> BTreeSet<String> {
    defined_rules().into_iter().chain(defined_cases()).collect()
}

/// The headings of the third level, all of which are ids.
fn defined_rules() -> Vec<String> {
    let text = read(&root().join(RULES));
    text.lines().filter_map(|line| line.strip_prefix("### ")).map(String::from).collect()
}

/// The first words of the items of the lists that are ids.
fn defined_cases() -> Vec<String> {
    let text = read(&root().join(CASES));
    let items = text.lines().filter_map(|line| line.strip_prefix("- "));
    let words = items.filter_map(|item| item.split_once(' ')).map(|(word, _)| word);
    words.filter(|word| ids_in(word).eq([*word])).map(String::from).collect()
}

/// Every text of the repository that people read: code, documents, scripts, by its path.
fn texts() -> BTreeMap<String, String> {
    let (root, mut texts, mut folders) = (root(), BTreeMap::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of it").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !SKIPPED.contains(&name) {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            let is_text = match extension {
                Some("rs" | "md" | "sh" | "toml") => true,
                Some(_) => false,
                None => matches!(std::fs::read(&path), Ok(bytes) if bytes.starts_with(b"#!")),
            };
            if is_text {
                let name = path.strip_prefix(&root).expect("it is inside").to_string_lossy();
                texts.insert(name.into_owned(), read(&path));
            }
        }
    }
    texts.remove(THIS).expect("this file has not moved");
    texts
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
