//! Bytes that nobody has checked, as a trace log of QEMU or a recording of the kernel's events.

use msix_peers::kernel_trace::parse_kernel_line;
use msix_peers::trace::LogError;
use msix_peers::trace::parse_line;
use msix_sim::replay::{Machine, Peer, Unusable, replay, replay_bytes};
use msix_sim::report::{MAX_LISTED, ReplayReport};
use std::io::{BufReader, Cursor};

/// Parses every line, and replays the whole as a log.
///
/// # Panics
/// When an error or a report is not what their documentation says.
pub fn trace_import(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let parsed = parse_line(line);
        if let Err(error) = &parsed {
            assert!(!error.to_string().is_empty());
        }
        // A Windows line end is no part of the line.
        assert_eq!(parse_line(&[line, b"\r"].concat()), parsed);
        let parsed = parse_kernel_line(line);
        if let Err(error) = &parsed {
            assert!(!error.to_string().is_empty());
        }
        assert_eq!(parse_kernel_line(&[line, b"\r"].concat()), parsed);
    }
    // Whatever is given besides, it is lspci's text or an error.
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(machine) = Machine::read_lspci(text)
    {
        assert!(!machine.functions.is_empty());
    }
    for peer in [Peer::Qemu, Peer::Spec] {
        let result = replay_bytes(data, peer);
        match &result {
            Ok(report) => check(report, data),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(error.line() <= lines(data) + 1, "{error} on line {}", error.line());
                assert!(
                    !matches!(error, Unusable::Log(LogError::Read { .. })),
                    "memory can be read"
                );
            }
        }
        // However the bytes come in, the result is the same.
        let in_pieces = BufReader::with_capacity(7, Cursor::new(data));
        let again = replay(in_pieces, peer, true, |_| true).map(|(report, _)| report);
        assert_eq!(said(&again), said(&result));
    }
}

fn lines(data: &[u8]) -> u64 {
    data.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn said(result: &Result<ReplayReport, Unusable>) -> String {
    match result {
        Ok(report) => serde_json::to_string(report).expect("plain data"),
        Err(error) => format!("{}: {error}", error.line()),
    }
}

fn check(report: &ReplayReport, data: &[u8]) {
    assert!(report.lines <= lines(data));
    assert!(report.mismatch_list.len() <= MAX_LISTED);
    assert!(report.mismatch_list.len() as u64 <= report.mismatches);
    assert!(!report.verdict().is_empty());
    for device in &report.devices {
        assert!((1..=2048).contains(&device.vectors), "{}", device.vectors);
        assert!(device.table_reads.mismatched <= device.table_reads.compared);
        assert!(device.pba_reads.mismatched <= device.pba_reads.compared);
        let messages = device.messages;
        assert_eq!(messages.expected, messages.matched + messages.lost, "{}", device.name);
        assert!(device.effects.release <= device.effects.uses, "released before used");
    }
}
