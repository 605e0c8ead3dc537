//! Recordings of the kernel's trace events that a guest printed, judged by `msix replay`.

use msix_sim::replay::{Peer, replay_bytes};
use msix_sim::report::Mismatch;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The recordings on a console, by name.
fn on(console: &str) -> BTreeMap<&str, String> {
    let mut found = BTreeMap::<&str, String>::new();
    let mut now = None;
    for line in console.lines() {
        if let Some(name) = line.strip_prefix("VM-RECORDING: ") {
            now = Some(name.trim_end());
        } else if let (Some(name), Some(line)) = (now, line.strip_prefix("R|")) {
            let text = found.entry(name).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

/// Judges all of them, which must be all that [`VERDICTS`] has when `all`. `MSIX_VM_RECORDINGS=FOLDER`
/// keeps them there.
pub(crate) fn judge(series: &str, console: &str, all: bool) -> Result<(), String> {
    let found = on(console);
    if let Some(folder) = std::env::var_os("MSIX_VM_RECORDINGS") {
        for (name, text) in &found {
            let path = Path::new(&folder).join(format!("linux-{series}-{name}.trace"));
            fs::write(path, text).map_err(|error| error.to_string())?;
        }
    }
    let mut judged = Vec::new();
    for (name, text) in &found {
        let report = replay_bytes(text.as_bytes(), Peer::Spec);
        let mismatches = match report {
            Ok(report) => report.mismatch_list,
            Err(_) if *name == "looked-at" => Vec::new(), // there is no function in it
            Err(error) => return Err(format!("{name}:{}: {error}\n{text}", error.line())),
        };
        let got: Vec<String> = mismatches.iter().map(|mismatch| told(mismatch, text)).collect();
        let expected: Vec<&str> =
            VERDICTS.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
        if got != expected {
            return Err(format!("{name}: {got:#?} instead of {expected:#?}\n{text}"));
        }
        judged.push(*name);
    }
    let mut names = VERDICTS.lines().filter_map(|line| Some(line.split_once(": ")?.0));
    match names.find(|name| all && !judged.contains(name)) {
        Some(missing) => Err(format!("there is no recording {missing}")),
        None => Ok(()),
    }
}

/// A mismatch and what stands on its line, as in [`VERDICTS`].
fn told(mismatch: &Mismatch, text: &str) -> String {
    let at = usize::try_from(mismatch.line).unwrap_or(0).saturating_sub(1);
    let line = text.lines().nth(at).unwrap_or_default();
    let event = line.find("kvm_").and_then(|begin| line.get(begin..)).unwrap_or(line).trim_end();
    let vector = mismatch.vector.map_or_else(|| "-".to_owned(), |vector| vector.to_string());
    format!("vector {vector}: expected {}, got {} [{event}]", mismatch.expected, mismatch.got)
}

const VERDICTS: &str = include_str!("../../../sim/data/kernel/verdicts.txt");
