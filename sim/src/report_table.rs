//! The report as a table for people.

use crate::printable::printable;
use crate::report::{DeviceReport, ReplayReport, Unit};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A row a device, numbers to the right.
#[must_use]
pub fn table(report: &ReplayReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "device",
        "vectors",
        "writes",
        "reads\nok/all",
        "raises\nnamed+inferred",
        "messages\nmatched/expected",
        "un-\nexpected",
        "use/\nrelease",
        "longest\nmasked",
        "un-\ndecided",
    ]);
    for device in &report.devices {
        table.add_row(row(device, report.unit));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn row(device: &DeviceReport, unit: Unit) -> [String; 10] {
    let DeviceReport { table_reads: reads, raises, messages, effects, undecided, .. } = device;
    [
        printable(&format!("{} {}", device.name, device.bdf)).into_owned(),
        device.vectors.to_string(),
        device.table_writes.to_string(),
        format!("{}/{}", reads.compared - reads.mismatched, reads.compared),
        format!("{}+{}", raises.named, raises.inferred),
        format!("{}/{}", messages.matched, messages.expected),
        messages.unexpected.to_string(),
        format!("{}/{}", effects.uses, effects.release),
        device.longest_masked.map_or_else(
            || "-".to_owned(),
            |masked| match unit {
                Unit::Seconds => format!("{:.6} s (v{})", masked.length, masked.vector),
                Unit::Lines => format!("{} lines (v{})", masked.length, masked.vector),
            },
        ),
        (undecided.reads + undecided.raises + undecided.messages).to_string(),
    ]
}
