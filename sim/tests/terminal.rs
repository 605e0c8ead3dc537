//! What strangers wrote reaches no terminal as it is.

mod common;

use common::{Log, NVME_MR, TABLE, msix};

/// Clears the screen, in two ways; turns the direction of text.
const NAME: &str = "nv\u{1b}[2Jme\u{9b}2J\u{202e}x\u{7f}";
const SHOWN: &str = "nv\\u{1b}[2Jme\\u{9b}2J\\u{202e}x\\u{7f}";

/// A log of a device with that name, with a mismatch and a warning that name it.
fn log() -> Log {
    let device = (NAME, "00:04.0");
    let mut log = Log::default();
    log.place(device, 0xfebc_0000).control(device, 0x42, 0xc003);
    log.program(NVME_MR, TABLE, 0, 0x40).read(NVME_MR, TABLE + 8, 0x41);
    log.idle().control_line(NAME, 0x8003).place((NAME, "00:05.0"), 0xfed0_0000);
    log.control_line(NAME, 0x8003);
    log
}

fn is_clean(text: &str) -> bool {
    !text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7f}'])
}

#[test]
fn a_name_in_a_log_is_escaped_in_text_in_json_and_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let [path, page] = [format!("{NAME}.log"), "page.html".to_owned()];
    let [path, page] = [path, page].map(|name| folder.path().join(name));
    std::fs::write(&path, log().text).unwrap();
    let [path, page] = [&path, &page].map(|path| path.to_str().unwrap());

    let run = msix(&["replay", path, "--timeline", page]);
    let [stdout, stderr] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(run.status.code(), Some(1), "{stderr}");
    assert!(is_clean(&stdout) && is_clean(&stderr), "{stdout:?} {stderr:?}");
    assert!(stdout.contains(SHOWN), "{stdout}");
    assert!(stderr.contains(&format!("{SHOWN}.log:")), "the file: {stderr}");
    assert!(stderr.contains(&format!(": {SHOWN} 00:04.0 vector 0: expected")), "{stderr}");
    assert!(stderr.contains(&format!("tells which {SHOWN} msix_write_config")), "{stderr}");
    let html = std::fs::read_to_string(page).unwrap();
    assert!(is_clean(&html) && html.contains(SHOWN));

    let json = String::from_utf8(msix(&["replay", path, "--json"]).stdout).unwrap();
    assert!(is_clean(&json), "{json:?}");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["devices"][0]["name"], NAME, "which is what the log says");
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_escapes() {
    let run = msix(&["replay", &format!("/nonexistent/{NAME}")]);
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert!(is_clean(&stderr) && stderr.contains(SHOWN), "{stderr:?}");
}
