//! The report as a table for people.

use crate::printable::printable;
use crate::report::{DeviceReport, LostShows, ReplayReport};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A row for each device, numbers to the right. With names of up to 23 bytes it fits 80 columns.
#[must_use]
pub fn table(report: &ReplayReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "device",
        "vectors",
        "reads",
        "events",
        "messages",
        "undecided",
        "lost\nshows",
    ]);
    for device in &report.devices {
        table.add_row(row(device));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// What the columns of the table are.
pub const LEGEND: &str = "\
reads: of table and PBA, right/compared; events: told + inferred from messages;
messages: came/expected; undecided: reads, events and messages left open;
lost shows: whether the recording would show that a message was lost";

fn row(device: &DeviceReport) -> [String; 7] {
    let DeviceReport { table_reads, pba_reads, raises, messages, undecided, .. } = device;
    let compared = table_reads.compared + pba_reads.compared;
    let wrong = table_reads.mismatched + pba_reads.mismatched;
    [
        printable(&format!("{} {}", device.name, device.bdf)).into_owned(),
        device.vectors.to_string(),
        format!("{}/{compared}", compared - wrong),
        format!("{}+{}", raises.named + raises.pending, raises.inferred),
        format!("{}/{}", messages.matched, messages.expected),
        (undecided.reads + undecided.raises + undecided.messages).to_string(),
        match device.lost_shows {
            LostShows::Yes => "yes",
            LostShows::Some => "some",
            LostShows::No => "no",
        }
        .to_owned(),
    ]
}

/// Text in lines of at most 80 columns, broken at spaces.
#[must_use]
pub fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

const WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{Peer, replay_bytes};

    #[test]
    fn the_recording_fits_80_columns() {
        let report = replay_bytes(crate::RECORDING, Peer::Qemu).unwrap();
        let text = [table(&report), LEGEND.to_owned(), wrapped(&report.verdict())].join("\n");
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert_eq!(wrapped(&report.verdict()).replace('\n', " "), report.verdict());
    }
}
