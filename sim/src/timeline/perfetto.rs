//! The timeline as Chrome's trace events in JSON, which Perfetto reads too: a process is a device, a thread
//! is a vector, and the first thread is the function itself.

use super::lanes::{Band, Item, Lanes, Mark, Shown, Timeline};
use crate::printable::printable_json;
use crate::report::Unit;
use serde::Serialize;

#[derive(Serialize)]
struct Trace<'a> {
    #[serde(rename = "displayTimeUnit")]
    unit: &'static str,
    #[serde(rename = "otherData")]
    about: About<'a>,
    #[serde(rename = "traceEvents")]
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    source: &'a str,
    /// What a microsecond stands for.
    microsecond: &'static str,
    /// From which line on only mismatches are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_after_line: Option<u64>,
}

/// One event, as the format has it.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(rename = "ph")]
    kind: &'static str,
    #[serde(rename = "pid")]
    device: usize,
    #[serde(rename = "tid")]
    thread: u32,
    #[serde(rename = "ts")]
    at: u64,
    #[serde(rename = "dur", skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    args: Arguments<'a>,
}

#[derive(Serialize, Default)]
struct Arguments<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Renders the timeline of `source`.
///
/// # Errors
/// Only if it cannot be written as JSON.
pub fn perfetto(source: &str, timeline: &Timeline) -> Result<String, serde_json::Error> {
    let microsecond = match timeline.unit {
        Unit::Seconds => "a microsecond",
        Unit::Lines => "a line of the log",
    };
    let mut events = Vec::new();
    for (device, lanes) in (1..).zip(&timeline.devices) {
        write_device(&mut events, timeline, device, lanes);
    }
    let cut_after_line = timeline.cut.map(|(_, line)| line);
    let about = About { source, microsecond, cut_after_line };
    let json = serde_json::to_string(&Trace { unit: "ms", about, events })?;
    Ok(printable_json(&json).into_owned())
}

fn write_device<'a>(
    events: &mut Vec<Event<'a>>,
    timeline: &'a Timeline,
    device: usize,
    lanes: &'a Lanes,
) {
    events.push(named("process_name", device, FUNCTION, lanes.title.clone()));
    events.push(named("thread_name", device, FUNCTION, "function".to_owned()));
    let known = timeline.cut.map_or(timeline.end, |(at, _)| at);
    let ends = lanes.band.iter().skip(1).map(|&(at, ..)| at).chain([known]);
    for (&(at, line, band), end) in lanes.band.iter().zip(ends) {
        if let Some(name) = band_name(band) {
            events.push(span(name, device, FUNCTION, (at, end, line)));
        }
    }
    write_marks(events, timeline, device, FUNCTION, &lanes.marks);
    for lane in lanes.lanes.values() {
        let thread = u32::from(lane.vector) + 1;
        events.push(named("thread_name", device, thread, format!("vector {}", lane.vector)));
        for &(from, to, line, shown) in &lane.spans {
            if let Some(name) = state_name(shown) {
                events.push(span(name, device, thread, (from, to, line)));
            }
        }
        write_marks(events, timeline, device, thread, &lane.marks);
    }
}

fn write_marks<'a>(
    events: &mut Vec<Event<'a>>,
    timeline: &'a Timeline,
    device: usize,
    thread: u32,
    marks: &[Item],
) {
    for &(at, line, mark, text) in marks {
        // A mismatch is drawn across the whole device.
        let is_mismatch = mark == Mark::Mismatch as u8;
        events.push(Event {
            name: mark_name(mark),
            kind: "i",
            device,
            thread,
            at,
            length: None,
            scope: Some(if is_mismatch { "p" } else { "t" }),
            args: Arguments {
                line: Some(line),
                text: timeline.texts.get(text).map(|text| &**text),
                ..Arguments::default()
            },
        });
    }
}

fn named<'a>(what: &'static str, device: usize, thread: u32, name: String) -> Event<'a> {
    let args = Arguments { name: Some(name), ..Arguments::default() };
    Event { name: what, kind: "M", device, thread, at: 0, length: None, scope: None, args }
}

fn span<'a>(
    name: &'static str,
    device: usize,
    thread: u32,
    (from, to, line): (u64, u64, u64),
) -> Event<'a> {
    let length = Some(to.saturating_sub(from));
    let args = Arguments { line: Some(line), ..Arguments::default() };
    Event { name, kind: "X", device, thread, at: from, length, scope: None, args }
}

fn state_name(shown: u8) -> Option<&'static str> {
    [(Shown::Masked, "masked"), (Shown::Pending, "masked and pending"), (Shown::Live, "unmasked")]
        .into_iter()
        .find_map(|(state, name)| (state as u8 == shown).then_some(name))
}

fn band_name(band: u8) -> Option<&'static str> {
    [
        (Band::Disabled, "MSI-X disabled"),
        (Band::FunctionMasked, "function mask"),
        (Band::BusMasterOff, "bus master off"),
        (Band::Enabled, "enabled"),
    ]
    .into_iter()
    .find_map(|(state, name)| (state as u8 == band).then_some(name))
}

fn mark_name(mark: u8) -> &'static str {
    [
        (Mark::Message, "message"),
        (Mark::Latched, "raised while masked"),
        (Mark::Undecided, "message perhaps missing"),
    ]
    .into_iter()
    .find_map(|(known, name)| (known as u8 == mark).then_some(name))
    .unwrap_or("mismatch")
}

/// The thread of the function itself.
const FUNCTION: u32 = 0;

#[cfg(test)]
mod tests {
    use super::super::Moment;
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_device_is_a_process_and_a_vector_a_thread() {
        let at = |line| Moment { line, at: line * 10 };
        let mut timeline = Timeline::new(Unit::Seconds, [("nvme".to_owned(), 4)].into_iter());
        timeline.band(0, Band::Disabled, at(1));
        timeline.band(0, Band::Enabled, at(2));
        timeline.state(0, 3, Shown::Live, at(3));
        timeline.mark(0, Some(3), Mark::Message, at(4), "message 0x40".to_owned());
        timeline.mark(0, None, Mark::Mismatch, at(5), "wrong </b>\u{9b}".to_owned());
        let timeline = timeline.end(at(6));
        let json: Value = serde_json::from_str(&perfetto("x.log", &timeline).unwrap()).unwrap();
        assert_eq!(json["otherData"]["source"], "x.log");
        let events: Vec<_> = json["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let name = event["args"]["name"].as_str().or(event["name"].as_str()).unwrap();
                let number = |key: &str| event[key].as_u64();
                (event["ph"].as_str().unwrap(), name, number("tid"), number("ts"), number("dur"))
            })
            .collect();
        let expected = [
            ("M", "nvme", 0, 0, None),
            ("M", "function", 0, 0, None),
            ("X", "MSI-X disabled", 0, 10, Some(10)),
            ("X", "enabled", 0, 20, Some(40)),
            ("i", "mismatch", 0, 50, None),
            ("M", "vector 3", 4, 0, None),
            ("X", "unmasked", 4, 30, Some(30)),
            ("i", "message", 4, 40, None),
        ]
        .map(|(kind, name, thread, at, length)| (kind, name, Some(thread), Some(at), length));
        assert_eq!(events, expected);
    }
}
