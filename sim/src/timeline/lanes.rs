//! What happened to each vector over time, for the page of `--timeline`.

use crate::report::Unit;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};

/// A recording of states and marks, bounded: past [`MAX_ITEMS`] only mismatches are kept.
#[derive(Debug, Serialize)]
pub struct Timeline {
    pub(super) unit: Unit,
    /// Where the axis ends, in microseconds or lines.
    pub(super) end: u64,
    /// Place and line from which on only mismatches are on the page.
    pub(super) cut: Option<(u64, u64)>,
    pub(super) devices: Vec<Lanes>,
    pub(super) texts: Vec<String>,
    #[serde(skip)]
    numbers: HashMap<String, usize>,
    #[serde(skip)]
    items: usize,
    #[serde(skip)]
    mismatches: usize,
}

/// One device.
#[derive(Debug, Serialize)]
pub(super) struct Lanes {
    pub(super) title: String,
    vectors: u16,
    /// From where the function is in which state: place on the axis, line, [`Band`].
    pub(super) band: Vec<(u64, u64, u8)>,
    /// Those with anything in them, by vector.
    #[serde(serialize_with = "values")]
    pub(super) lanes: BTreeMap<u16, Lane>,
    /// Marks of the function as a whole.
    pub(super) marks: Vec<Item>,
}

/// Place on the axis, line, [`Mark`], index into the texts.
pub(super) type Item = (u64, u64, u8, usize);

fn values<S: Serializer>(lanes: &BTreeMap<u16, Lane>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(lanes.values())
}

/// One vector.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Lane {
    pub(super) vector: u16,
    /// From, to, line, [`Shown`].
    pub(super) spans: Vec<(u64, u64, u64, u8)>,
    pub(super) marks: Vec<Item>,
    #[serde(skip)]
    open: Option<(Moment, Shown)>,
}

/// A point in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Line, from 1.
    pub(crate) line: u64,
    /// Microseconds since the first event if all events have timestamps, else the line.
    pub(crate) at: u64,
}

/// State of a vector, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Unknown,
    /// MSI-X is disabled.
    Off,
    Masked,
    /// Masked, and pending from a named raise.
    Pending,
    Live,
}

/// State of a function, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    Unknown,
    Disabled,
    FunctionMasked,
    /// Enabled, but messages cannot leave (H16).
    BusMasterOff,
    Enabled,
}

/// Something that happened at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Message,
    /// A raise while masked.
    Latched,
    /// A message that may have been due did not come.
    Undecided,
    Mismatch,
}

/// Most states and marks on a page.
pub const MAX_ITEMS: usize = 200_000;
const MAX_MISMATCHES: usize = 2000;

impl Timeline {
    pub(crate) fn new(unit: Unit, devices: impl Iterator<Item = (String, u16)>) -> Self {
        let devices = devices.map(|(title, vectors)| Lanes {
            title,
            vectors,
            band: Vec::new(),
            lanes: BTreeMap::new(),
            marks: Vec::new(),
        });
        Self {
            unit,
            end: 0,
            cut: None,
            devices: devices.collect(),
            texts: Vec::new(),
            numbers: HashMap::new(),
            items: 0,
            mismatches: 0,
        }
    }

    /// Whether one more item fits; notes where the page is cut if not.
    fn fits(&mut self, now: Moment) -> bool {
        self.items += 1;
        if self.items > MAX_ITEMS {
            self.cut.get_or_insert((now.at, now.line));
        }
        self.cut.is_none()
    }

    pub(crate) fn band(&mut self, device: usize, band: Band, now: Moment) {
        let Some(lanes) = self.devices.get(device) else { return };
        let band = band as u8;
        if lanes.band.last().is_none_or(|&(_, _, before)| before != band)
            && self.fits(now)
            && let Some(lanes) = self.devices.get_mut(device)
        {
            lanes.band.push((now.at, now.line, band));
        }
    }

    /// The vector's state changed.
    pub(crate) fn state(&mut self, device: usize, vector: u16, shown: Shown, now: Moment) {
        let fits = self.fits(now);
        let Some(lane) = self.lane(device, vector) else { return };
        if let Some((since, before)) = lane.open.take() {
            lane.close(since, before, now.at);
        }
        lane.open = fits.then_some((now, shown));
    }

    pub(crate) fn mark(
        &mut self,
        device: usize,
        vector: Option<u16>,
        mark: Mark,
        when: Moment,
        text: String,
    ) {
        let kept = if mark == Mark::Mismatch {
            self.mismatches += 1;
            self.mismatches <= MAX_MISMATCHES
        } else {
            self.fits(when)
        };
        if !kept {
            return;
        }
        let next = self.texts.len();
        let number = *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        });
        let item = (when.at, when.line, mark as u8, number);
        match vector {
            Some(vector) => self.lane(device, vector).into_iter().for_each(|l| l.marks.push(item)),
            None => self.devices.get_mut(device).into_iter().for_each(|d| d.marks.push(item)),
        }
    }

    fn lane(&mut self, device: usize, vector: u16) -> Option<&mut Lane> {
        let lanes = self.devices.get_mut(device)?;
        let new = || Lane { vector, spans: Vec::new(), marks: Vec::new(), open: None };
        (vector < lanes.vectors).then(|| lanes.lanes.entry(vector).or_insert_with(new))
    }

    /// The log ends.
    pub(crate) fn end(mut self, now: Moment) -> Self {
        self.end = now.at.max(1);
        let known = self.cut.map_or(now.at, |(at, _)| at); // no state is shown past what was seen
        for lane in self.devices.iter_mut().flat_map(|device| device.lanes.values_mut()) {
            if let Some((since, shown)) = lane.open.take() {
                lane.close(since, shown, known);
            }
            lane.marks.sort_unstable(); // a lost message is noticed after its line
        }
        for device in &mut self.devices {
            device.lanes.retain(|_, lane| !lane.spans.is_empty() || !lane.marks.is_empty());
        }
        self
    }
}

impl Lane {
    fn close(&mut self, since: Moment, shown: Shown, to: u64) {
        if !matches!(shown, Shown::Unknown | Shown::Off) {
            self.spans.push((since.at, to.max(since.at), since.line, shown as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(line: u64) -> Moment {
        Moment { line, at: line }
    }

    #[test]
    fn a_page_is_bounded_but_keeps_its_mismatches() {
        let mut timeline = Timeline::new(Unit::Lines, [("nvme".to_owned(), 1)].into_iter());
        for line in 0..MAX_ITEMS as u64 + 10 {
            timeline.mark(0, Some(0), Mark::Message, at(line), "message".to_owned());
        }
        timeline.state(0, 0, Shown::Live, at(300_000));
        timeline.mark(0, Some(0), Mark::Mismatch, at(300_001), "lost".to_owned());
        let timeline = timeline.end(at(300_002));
        let cut = MAX_ITEMS as u64;
        assert_eq!(timeline.cut, Some((cut, cut)));
        assert_eq!(timeline.devices[0].lanes[&0].marks.len(), MAX_ITEMS + 1);
        assert!(timeline.devices[0].lanes[&0].spans.is_empty());
        assert_eq!(timeline.texts, ["message", "lost"]);
    }

    #[test]
    fn a_state_lasts_until_the_next_or_the_end() {
        let mut timeline = Timeline::new(Unit::Lines, [("nvme".to_owned(), 2)].into_iter());
        timeline.state(0, 0, Shown::Masked, at(5));
        timeline.state(0, 0, Shown::Live, at(9));
        timeline.state(0, 1, Shown::Off, at(9));
        let timeline = timeline.end(at(20));
        let lanes = &timeline.devices[0].lanes;
        assert_eq!(
            lanes[&0].spans,
            [(5, 9, 5, Shown::Masked as u8), (9, 20, 9, Shown::Live as u8)]
        );
        assert!(!lanes.contains_key(&1), "nothing is shown of it");
    }
}
