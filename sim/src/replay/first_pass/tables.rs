//! Which function each MSI-X table in the log belongs to, and where it begins.

use super::super::functions::Functions;
use super::super::unusable::Unusable;
use super::logged_function::LoggedFunction;
use crate::report::Warnings;
use std::collections::BTreeMap;

/// A table's memory region, after the first pass.
#[derive(Debug)]
pub(crate) struct Table {
    /// The region's identity in the log.
    pub(crate) mr: u64,
    /// Whose it is and where it begins, if that can be told.
    pub(crate) place: Option<Place>,
}

/// Where a table begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) function: usize,
    /// The BAR that holds it, if the log shows it placed.
    pub(crate) bar: Option<u8>,
    /// Offset in the BAR, in bytes; in the whole address space without a BAR.
    pub(crate) offset: u64,
    /// Where the BAR was first seen, for accesses before that.
    pub(crate) first_base: u64,
}

/// Bytes that an access touches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) from: u64,
    pub(super) len: u64,
}

/// All tables, by memory region.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_region: BTreeMap<u64, Seen>,
}

#[derive(Debug)]
struct Seen {
    first_line: u64,
    /// BARs were placed in the log before; if not, other functions may have BARs it does not show.
    from_boot: bool,
    owner: Owner,
    /// Accesses while no BAR was known to hold them, as addresses.
    early: Option<Extent>,
}

#[derive(Debug, Clone, Copy)]
enum Owner {
    Unknown,
    /// Extent in the BAR.
    Bar {
        function: usize,
        bar: u8,
        first_base: u64,
        extent: Extent,
    },
    /// Two BARs claim it.
    Contested,
}

/// First byte accessed and the byte after the last.
#[derive(Debug, Clone, Copy)]
struct Extent {
    low: u64,
    high: u64,
}

impl Extent {
    fn of(from: u64, len: u64) -> Self {
        Self { low: from, high: from.saturating_add(len) }
    }

    fn and(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Where the table begins: at a 4 KiB boundary (A2 wants no other registers in its page)
    /// unless it would then be too short for what was accessed.
    fn begin(self, vectors: Option<u16>) -> u64 {
        let length = u64::from(vectors.unwrap_or(2048)) * 16;
        let page = self.low & !0xfff;
        if self.high.saturating_sub(page) <= length { page } else { self.low & !0xf }
    }
}

impl Tables {
    pub(super) fn is_empty(&self) -> bool {
        self.by_region.is_empty()
    }

    pub(super) fn access(
        &mut self,
        line: u64,
        mr: u64,
        reach: Reach,
        functions: &Functions<LoggedFunction>,
        from_boot: bool,
    ) -> Result<(), Unusable> {
        if self.by_region.len() == MAX_TABLES && !self.by_region.contains_key(&mr) {
            return Err(Unusable::TooMany { line, what: "MSI-X tables", limit: MAX_TABLES });
        }
        let new = || Seen { first_line: line, from_boot, owner: Owner::Unknown, early: None };
        let seen = self.by_region.entry(mr).or_insert_with(new);
        let at = reach.from;
        if let Owner::Bar { function, bar, extent, .. } = &mut seen.owner {
            let base = functions.get(*function).and_then(|f| f.of.bars.base(*bar));
            if let Some(base) = base
                && at.checked_sub(base).is_some_and(|offset| offset < base & base.wrapping_neg())
            {
                *extent = extent.and(Extent::of(at - base, reach.len));
                return Ok(());
            }
        }
        let holders = (0..).zip(functions.iter()).filter_map(|(index, function)| {
            let (bar, base, placed) = function.of.bars.holding(at)?;
            Some((base, placed, index, bar))
        });
        match (holders.max(), seen.owner) {
            (Some((base, _, function, bar)), Owner::Unknown) => {
                let extent = Extent::of(at - base, reach.len);
                seen.owner = Owner::Bar { function, bar, first_base: base, extent };
            }
            (Some(_), _) => seen.owner = Owner::Contested,
            (None, _) => {
                let extent = Extent::of(at, reach.len);
                seen.early = Some(seen.early.map_or(extent, |early| early.and(extent)));
            }
        }
        Ok(())
    }

    /// Places every table that can be placed, and gives its function a number of vectors.
    pub(super) fn place(
        self,
        functions: &mut Functions<LoggedFunction>,
        warnings: &mut Warnings,
    ) -> Vec<Table> {
        let mut tables = Vec::with_capacity(self.by_region.len());
        let mut open = Vec::new();
        for (mr, seen) in &self.by_region {
            // A function whose BARs the log does not show may own it as well.
            let hidden = |but: usize| {
                let mut others = (0..).zip(functions.iter()).filter(|&(index, _)| index != but);
                others.any(|(_, other)| other.of.has_msix() && !other.of.bars.any_placed())
            };
            let place = match seen.owner {
                Owner::Bar { function, bar, first_base, extent }
                    if seen.from_boot || !hidden(function) =>
                {
                    let extent = match seen.early {
                        // Before the BAR was seen the table can only be assumed where it is later.
                        Some(early)
                            if early.low >= first_base && early.high - first_base < REACH =>
                        {
                            extent.and(Extent {
                                low: early.low - first_base,
                                high: early.high - first_base,
                            })
                        }
                        _ => extent,
                    };
                    let of = functions.get_mut(function).map(|function| &mut function.of);
                    let offset = of.map_or(extent.low, |facts| size(facts, extent, Some(bar)));
                    Some(Place { function, bar: Some(bar), offset, first_base })
                }
                Owner::Contested | Owner::Bar { .. } => {
                    warnings.push(format!(
                        "line {}: more than one device can own the MSI-X table mr {mr:#x}: its \
                         accesses are undecided",
                        seen.first_line
                    ));
                    None
                }
                Owner::Unknown => {
                    open.extend(seen.early.map(|extent| (*mr, seen.first_line, extent)));
                    None
                }
            };
            tables.push(Table { mr: *mr, place });
        }
        part_rivals(&mut tables, warnings);
        eliminate(&mut open, &mut tables, functions, warnings);
        for (mr, line, _) in open {
            warnings.push(format!(
                "line {line}: no BAR in the log holds the MSI-X table mr {mr:#x} and more than one \
                 device, or none, can own it: its accesses are undecided"
            ));
        }
        tables
    }
}

/// A function has one table (A1): two at different places mean that a BAR is missing in the log.
fn part_rivals(tables: &mut [Table], warnings: &mut Warnings) {
    let places: Vec<Place> = tables.iter().filter_map(|table| table.place).collect();
    for table in tables {
        let rival = |place: &Place| {
            let other = places.iter().filter(|other| other.function == place.function);
            other.into_iter().any(|other| (other.bar, other.offset) != (place.bar, place.offset))
        };
        if table.place.as_ref().is_some_and(rival) {
            table.place = None;
            warnings.push(format!(
                "the MSI-X table mr {:#x} and another one seem to be in the same BAR: the accesses \
                 of both are undecided",
                table.mr
            ));
        }
    }
}

/// Gives tables without a BAR (the log began late) to the one function that can own them.
fn eliminate(
    open: &mut Vec<(u64, u64, Extent)>,
    tables: &mut [Table],
    functions: &mut Functions<LoggedFunction>,
    warnings: &mut Warnings,
) {
    loop {
        let owned: Vec<usize> = tables.iter().filter_map(|t| t.place).map(|p| p.function).collect();
        let fits = |function: &LoggedFunction, extent: Extent| {
            let said = function.vectors_said(1).unwrap_or(2048);
            function.has_msix() && extent.high - (extent.low & !0xf) <= u64::from(said) * 16
        };
        let only = |extent: Extent| {
            let mut able = (0..)
                .zip(functions.iter())
                .filter(|(index, function)| !owned.contains(index) && fits(&function.of, extent));
            let (first, _) = able.next()?;
            able.next().is_none().then_some(first)
        };
        let choices: Vec<Option<usize>> = open.iter().map(|&(_, _, extent)| only(extent)).collect();
        let decided = choices.iter().position(|choice| {
            choice.is_some() && choices.iter().filter(|other| *other == choice).count() == 1
        });
        let Some(at) = decided else { return };
        let Some(function) = choices.get(at).copied().flatten() else { return };
        let (mr, line, extent) = open.remove(at);
        let Some(named) = functions.get_mut(function) else { return };
        let offset = size(&mut named.of, extent, None);
        warnings.push(format!(
            "line {line}: the BARs are not in the log; the MSI-X table mr {mr:#x} is taken for {}'s, \
             the only device left that can own it",
            named.name
        ));
        if let Some(table) = tables.iter_mut().find(|table| table.mr == mr) {
            table.place = Some(Place { function, bar: None, offset, first_base: 0 });
        }
    }
}

/// Where the table begins in the BAR (or in the address space), and how many vectors it has.
fn size(facts: &mut LoggedFunction, extent: Extent, bar: Option<u8>) -> u64 {
    let said =
        facts.table_said().filter(|&(said, offset)| Some(said) == bar && offset <= extent.low);
    let accessed = |begin: u64| {
        let entries = extent.high.saturating_sub(begin).div_ceil(16);
        u16::try_from(entries).map_or(2048, |entries| entries.clamp(1, 2048))
    };
    let begin = match said {
        Some((_, offset)) => offset,
        None => extent.begin(facts.vectors_read()),
    };
    let accessed = accessed(begin);
    let vectors = facts.vectors_said(accessed).unwrap_or(accessed);
    facts.vectors = Some(facts.vectors.map_or(vectors, |before| before.max(vectors)));
    begin
}

/// Bounds what a hostile log can make us remember.
const MAX_TABLES: usize = 1024;
/// A table with everything around it in a BAR is not further away than this.
const REACH: u64 = 1 << 32;
