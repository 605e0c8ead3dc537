//! The program's arguments, outputs and exit statuses.

mod common;

use common::{Log, joined, msix, recording, replayed, replayed_file};
use msix_sim::RECORDING;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

#[test]
fn a_last_line_cut_short_is_dropped_with_a_warning() {
    for cut in [1, 20, 60] {
        let (status, stdout, stderr) = replayed(&RECORDING[..RECORDING.len() - cut], &[]);
        assert_eq!(status, 0, "{stderr}");
        assert!(
            stderr.contains("warning: ") && stderr.contains("line 7739: cut short"),
            "{stderr}"
        );
        assert!(stdout.contains("all 5 devices agree"), "{stdout}");
    }
}

#[test]
fn a_log_cut_at_any_byte_is_usable_or_says_why_not() {
    for length in (1..RECORDING.len()).step_by(9973) {
        let result = msix_sim::replay::replay_bytes(&RECORDING[..length], Default::default());
        match result {
            Ok(report) => assert_eq!(report.mismatches, 0, "{length}: {:?}", report.mismatch_list),
            Err(error) => assert!(error.to_string().contains("no MSI-X"), "{length}: {error}"),
        }
    }
}

#[test]
fn unusable_input_gives_status_2_and_names_file_line_and_reason() {
    let mut malformed = recording();
    malformed[999] = "pci_cfg_write nvme 00:04.0 @0x42 <- 0xzz".to_owned();
    let malformed = joined(&malformed);
    let mut bytes = RECORDING.to_vec();
    bytes[100] = 0xff;
    let unnamed =
        joined(&recording()).replace(" name 'msix-table'", "").replace(" name 'apic-msi'", "");
    let cases: [(&[u8], &str); 8] = [
        (malformed.as_bytes(), "guest.log:1000: malformed line: pci_cfg_write: a 32-bit value"),
        (&bytes, "guest.log:2: malformed line: not text"),
        (b"", "guest.log:1: the file is empty"),
        (b"hello\nworld\n", "guest.log:2: there is no MSI-X in it"),
        (b"hello", "guest.log:1: there is no MSI-X in it"),
        (
            b"[ 1.0] pci_cfg_write nvme 00:04.0 @0x4 <- 0x6\nhello\n",
            "at line 1 pci_cfg_write stands where no event begins; 1 line names a known event so, and is \
             not read",
        ),
        (unnamed.as_bytes(), "guest.log:7739: its memory_region_ops lines do not name the region"),
        (&[b'x'; 100_000], "guest.log:1: malformed line: longer than 65536 bytes"),
    ];
    for (text, reason) in cases {
        let (status, stdout, stderr) = replayed(text, &["--json"]);
        assert_eq!((status, &*stdout), (2, ""), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(reason), "{reason}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_missing_file_and_a_directory_give_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for (path, reason) in [
        (directory.path().join("missing.log"), "missing.log:1: cannot be read: No such file"),
        (directory.path().to_owned(), ":1: cannot be read: Is a directory"),
    ] {
        let (status, _, stderr) = replayed_file(&path, &[]);
        assert_eq!(status, 2);
        assert!(stderr.contains(reason), "{stderr}");
    }
    assert_eq!(msix(&["replay", "x", "--policy", "xen"]).status.code(), Some(2));
    assert_eq!(msix(&["replay", "--backend", "hvf"]).status.code(), Some(2));
}

#[test]
fn replay_without_a_file_replays_the_recording() {
    assert_eq!(msix(&["replay", "--json"]).stdout, msix(&["--json"]).stdout);
}

#[test]
fn the_json_has_the_documented_keys_and_nothing_else_is_printed() {
    let output = msix(&["--json"]);
    assert!(output.stderr.is_empty());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["policy"], &report["mismatches"]), (&"qemu".into(), &0.into()));
    assert!(report["mismatch_list"].as_array().unwrap().is_empty());
    assert!(report["messages_not_ours"].is_u64() && report["warnings"].is_array());
    let devices = report["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 5);
    for device in devices {
        assert!(device["name"].is_string() && device["bdf"].is_string());
        for number in [
            "/vectors",
            "/table_writes",
            "/table_reads/compared",
            "/table_reads/mismatched",
            "/raises/named",
            "/raises/inferred",
            "/messages/expected",
            "/messages/matched",
            "/messages/unexpected",
            "/effects/use",
            "/effects/release",
            "/effects/reroute",
            "/effects/send",
            "/effects/poll",
            "/undecided/reads",
            "/undecided/raises",
            "/undecided/messages",
        ] {
            assert!(device.pointer(number).is_some_and(Value::is_u64), "{number}");
        }
    }
    let spec: Value =
        serde_json::from_slice(&msix(&["--json", "--policy", "spec"]).stdout).unwrap();
    assert_eq!(spec["policy"], "spec");
}

#[test]
fn a_mismatch_is_in_the_json_with_line_device_expected_and_got() {
    let mut log = Log::nvme();
    let line = log.raise(0).lines;
    log.message(0x99).idle();
    let (status, stdout, _) = replayed(&log.text, &["--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["mismatches"]), (1, &1.into()));
    let listed = &report["mismatch_list"][0];
    assert_eq!((&listed["line"], &listed["vector"]), (&line.into(), &0.into()));
    assert_eq!(listed["device"], "nvme 00:04.0");
    assert_eq!(listed["expected"], "message 0x40 to 0xfee01000 of the raise");
    assert_eq!(listed["got"], "none within 64 lines");
}

#[test]
fn a_log_can_come_from_the_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msix"))
        .args(["replay", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(RECORDING).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["lines"]), (Some(0), &7739.into()));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msix"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*stderr), (Some(0), ""));
}

#[test]
fn the_timeline_is_one_page_that_loads_nothing_and_shows_what_was_lost() {
    let mut log = Log::nvme();
    log.place(("</script><u>", "00:09.0"), 0xfed0_0000).write(0x99, 0xfed0_0000, 0);
    log.mask(common::NVME_MR, common::TABLE, 0, true).raise(0);
    let lost = log.mask(common::NVME_MR, common::TABLE, 0, false).lines;
    log.message(0x77).idle();
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    let (status, ..) = replayed(&log.text, &["--timeline", page.to_str().unwrap()]);
    assert_eq!(status, 1);
    let html = std::fs::read_to_string(page).unwrap();
    for forbidden in ["http:", "https:", "//cdn", "src=", "@import", "<u>"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let (_, rest) = html.split_once("id=\"data\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(json).unwrap();
    let lane = &data["devices"][0]["lanes"][0];
    assert_eq!(data["devices"][0]["title"], "nvme 00:04.0");
    let states: Vec<u64> =
        lane["spans"].as_array().unwrap().iter().map(|span| span[3].as_u64().unwrap()).collect();
    assert_eq!(states, [2, 4, 2, 3, 4], "masked, live, masked, pending, live");
    let marks = lane["marks"].as_array().unwrap();
    let mismatch = marks.iter().find(|mark| mark[2] == 3).unwrap();
    assert_eq!(mismatch[1], lost);
    assert_eq!(data["cut"], Value::Null);
}

#[test]
fn the_trace_for_perfetto_has_every_message_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let output = msix(&["--perfetto", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let trace: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    assert_eq!((count("process_name"), count("message"), count("mismatch")), (5, 531, 0));
}

#[test]
fn the_timeline_file_that_cannot_be_written_is_named() {
    let output = msix(&["--timeline", "/no/such/directory/page.html"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("/no/such/directory/page.html"), "{stderr}");
}

#[test]
fn the_doctor_names_every_peer_and_how_to_get_the_missing_ones() {
    let output = msix(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for name in ["/dev/kvm", "/dev/vfio", "qemu-system-x86_64", "valgrind", "nightly", "cargo-fuzz"]
    {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(text.matches("NO ").count(), text.matches("to get it: ").count());
    let checks: Value = serde_json::from_slice(&msix(&["doctor", "--json"]).stdout).unwrap();
    assert!(checks.as_array().unwrap().iter().all(|check| check["available"].is_boolean()));
}

#[test]
fn replaying_arbitrary_changes_of_a_log_never_panics() {
    let mut log = Log::nvme();
    log.raise(0).message(0x40).control(common::NVME, 0x42, 0xc003).raise(0);
    log.control(common::NVME, 0x42, 0x8003).message(0x40).read(common::NVME_MR, common::TABLE, 0);
    let text = log.text.as_bytes();
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..4000 {
        let mut text = text.to_vec();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % text.len();
            match state >> 60 {
                0..9 => text[at] = b"0123456789abcdef"[(state >> 40) as usize % 16],
                9..14 => {
                    let line = text.split_inclusive(|&byte| byte == b'\n').nth(at % 20);
                    text.extend(line.map(<[u8]>::to_vec).unwrap_or_default());
                }
                _ => text.truncate(at.max(1)),
            }
        }
        let _ = msix_sim::replay::replay_bytes(&text, Default::default());
    }
}

#[test]
fn every_help_fits_80_columns_and_the_first_names_every_exit_status() {
    for arguments in [
        &["--help"][..],
        &["replay", "--help"],
        &["explore", "--help"],
        &["diff", "--help"],
        &["doctor", "--help"],
        &["ivshmem-server", "--help"],
    ] {
        let text = String::from_utf8(msix(arguments).stdout).unwrap();
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{arguments:?}");
        assert!(text.contains("Usage: msix"), "{text}");
    }
    let text = String::from_utf8(msix(&["--help"]).stdout).unwrap();
    for status in ["0  ", "1  ", "2  ", "3  ", "4  "] {
        let told = text.lines().any(|line| line.trim_start().starts_with(status));
        assert!(told, "{status}: {text}");
    }
}

#[test]
fn packagers_get_completions_and_man_pages_from_a_hidden_subcommand() {
    let help = String::from_utf8(msix(&["--help"]).stdout).unwrap();
    assert!(!help.contains("generate"), "{help}");
    for (shell, word) in [("bash", "complete "), ("zsh", "#compdef msix"), ("fish", "complete -c")]
    {
        let output = msix(&["generate", "completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(word), "{shell}: {text}");
        assert!(text.contains("explore") && text.ends_with('\n'), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(msix(&["generate", "man", path]).status.success());
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("msix.1").contains("EXIT STATUS"), "{}", page("msix.1"));
    assert!(page("msix-explore.1").contains("max\\-states"), "{}", page("msix-explore.1"));
    assert!(!folder.path().join("msix-generate.1").exists());
    assert_eq!(msix(&["generate", "man", "/no/such/folder"]).status.code(), Some(2));
}

#[test]
fn numbers_take_suffixes() {
    let output = msix(&["explore", "--max-states", "1k", "--json"]);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &outcome["states"]), (Some(4), &1000.into()));
    let output = msix(&["explore", "--max-states", "1KiB"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("`KiB` is none of k, M and G"), "{stderr}");
}
