//! Says page by page what may be mapped, and byte by byte who answers, from the bytes of a function
//! and without the ranges and tiles of the map.

use super::*;
use crate::assign::Mappable::{Areas, Nothing, Whole};

/// Table and PBA: BAR, first byte and length of each.
type Place = [(u8, u64, u64); 2];

struct Oracle<'a> {
    bars: &'a FunctionBars,
    options: &'a AssignOptions,
    /// What the capability claims.
    claims: Option<Place>,
    /// What the guest sees.
    guest: Option<Place>,
}

/// Compares a map with what the oracle says.
pub(super) fn compare(
    made: &Assigned,
    config: &[u8],
    bars: &FunctionBars,
    options: &AssignOptions,
) {
    let claims = claims(config);
    let mut oracle = Oracle { bars, options, claims, guest: None };
    oracle.guest = oracle.guest_place();
    let expected = oracle.guest.map(|place| place.map(|(bar, start, _)| (bar, start)));
    let seen = made.msix().map(|layout| {
        [Region::Table, Region::Pba].map(|region| {
            let place = layout.location(region);
            (place.bar.index(), place.offset)
        })
    });
    assert_eq!(seen, expected);
    for bar in 0..6 {
        let map = made.bar(index(bar));
        assert_eq!(map.map_or(0, |map| map.bar().size), oracle.size(bar), "BAR {bar}");
        let Some(map) = map else { continue };
        oracle.compare_pages(bar, map);
        oracle.compare_bytes(bar, map);
    }
}

/// Reads the capability, wherever its chain has it.
fn claims(config: &[u8]) -> Option<Place> {
    if config[6] & 0x10 == 0 {
        return None;
    }
    let mut at = usize::from(config[0x34] & 0xfc);
    while at != 0 && config[at] != 0x11 {
        at = usize::from(config[at + 1] & 0xfc);
    }
    if at == 0 {
        return None;
    }
    let vectors = u64::from(config[at + 2]) + (u64::from(config[at + 3] & 7) << 8) + 1;
    let place = |at: usize, len| {
        let register = u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
        ((register % 8) as u8, u64::from(register / 8 * 8), len)
    };
    Some([place(at + 4, vectors * 16), place(at + 8, vectors.div_ceil(64) * 8)])
}

fn has((bar, start, len): (u8, u64, u64), at_bar: u8, at: u64) -> bool {
    bar == at_bar && (start..start + len).contains(&at)
}

fn meet([table, pba]: Place) -> bool {
    table.0 == pba.0 && table.1 < pba.1 + pba.2 && pba.1 < table.1 + table.2
}

impl Oracle<'_> {
    fn own_size(&self, bar: u8) -> u64 {
        BarIndex::new(bar).ok().and_then(|bar| self.bars.bar(bar)).map_or(0, |bar| bar.size)
    }

    fn is_memory(&self, bar: u8) -> bool {
        BarIndex::new(bar).ok().and_then(|bar| self.bars.bar(bar)).is_none_or(|bar| bar.is_memory())
    }

    fn fits(&self, (bar, start, len): (u8, u64, u64)) -> bool {
        bar < 6 && self.is_memory(bar) && start + len <= self.own_size(bar)
    }

    fn is_valid(&self, place: Place) -> bool {
        !meet(place) && place.into_iter().all(|part| self.fits(part))
    }

    /// The place in BAR `to`, if there can be one.
    fn moved_to(&self, to: u8, [table, pba]: Place) -> Option<Place> {
        let page = self.options.page.bytes();
        let start = match self.own_size(to) {
            0 if self.bars.is_upper_half(index(to)) => return None,
            0 => 0,
            _ if !self.is_memory(to) => return None,
            size => size.max(page),
        };
        let behind = if start == 0 { table.2.max(0x800) } else { table.2 };
        let place = [(to, start, table.2), (to, start + behind, pba.2)];
        let is_64 = self.bars.bar(index(to)).is_some_and(|bar| bar.kind == BarKind::Memory64);
        let limit = if is_64 { 1 << 63 } else { 1 << 31 };
        (place[1].1 < 1 << 32 && self.room(place) <= limit).then_some(place)
    }

    /// The size of a BAR that ends with the PBA.
    fn room(&self, [_, pba]: Place) -> u64 {
        (pba.1 + pba.2).next_power_of_two().max(self.options.page.bytes())
    }

    /// The place that the options ask for.
    fn guest_place(&self) -> Option<Place> {
        let own = self.claims?;
        match self.options.relocation {
            Relocation::Nowhere => None,
            Relocation::None => Some(own),
            Relocation::Bar(to) => self.moved_to(to.index(), own),
            Relocation::Auto => {
                let mut order = [0, 1, 2, 3, 4, 5];
                order.sort_by_key(|&bar| self.own_size(bar));
                let moved = order.into_iter().find_map(|bar| self.moved_to(bar, own));
                let gain = |place| Oracle { guest: Some(place), ..*self }.gain();
                match moved {
                    Some(moved) if !self.is_valid(own) || gain(moved) > gain(own) => Some(moved),
                    _ => Some(own),
                }
            }
        }
    }

    /// The bytes that are mapped, but for 4 KiB blocks with table or PBA of the device.
    fn gain(&self) -> u64 {
        let own = self.claims.unwrap();
        let blocks = |bar, page: u64, len| {
            (page..page + len).step_by(0x1000).filter(move |&block| {
                own.iter().any(|&(at, start, len)| {
                    at == bar && start < block + 0x1000 && block < start + len
                })
            })
        };
        let mut gain = 0;
        for bar in 0..6 {
            self.each_page(bar, |start, len, count| {
                if self.is_mapped(bar, start, len) {
                    let lost: u64 = blocks(bar, start, len).map(|_| len.min(0x1000)).sum();
                    gain += count * (len - lost);
                }
            });
        }
        gain
    }

    fn is_moved(&self) -> bool {
        self.claims.is_some() && self.guest != self.claims
    }

    /// The size of a BAR as the guest sees it.
    fn size(&self, bar: u8) -> u64 {
        match self.guest {
            Some(place) if self.is_moved() && place[0].0 == bar => self.room(place),
            _ if self.own_size(bar) > 0 && !self.is_memory(bar) => self.own_size(bar).max(4),
            _ => self.own_size(bar),
        }
    }

    /// The owner of a byte, by asking everything that may own it, the strongest first.
    fn owner(&self, bar: u8, at: u64) -> BarOwner {
        if let Some([table, pba]) = self.guest {
            if has(table, bar, at) {
                return BarOwner::Table;
            }
            let emulated = self.is_moved() || self.options.pba == PbaOwner::Emulated;
            if emulated && has(pba, bar, at) {
                return BarOwner::Pba;
            }
        }
        if at >= self.own_size(bar) || self.is_hidden(bar, at) {
            return BarOwner::Nobody;
        }
        let traps = self.options.traps.iter().rev();
        match traps.into_iter().find(|trap| trap.bar.index() == bar && trap.range.contains(&at)) {
            None => BarOwner::Device,
            Some(trap) => match trap.answer {
                TrapAnswer::Device => BarOwner::Watched,
                TrapAnswer::Nobody => BarOwner::Nobody,
                TrapAnswer::Config => BarOwner::Config(trap.range.start),
                TrapAnswer::TableWindow => BarOwner::TableWindow(trap.range.start),
            },
        }
    }

    /// Whether the byte is of the device's own table, which the guest sees elsewhere.
    fn is_hidden(&self, bar: u8, at: u64) -> bool {
        let Some(claims) = self.claims.filter(|_| self.is_moved()) else { return false };
        let table = claims[0];
        let is_real = self.fits(table) && !meet(claims);
        let seen = self.options.own_table == OwnTable::Mapped
            && self.options.kernel.get(usize::from(table.0)).is_some_and(|k| k.msix_mappable);
        is_real && !seen && has(table, bar, at)
    }

    /// Whether the kernel has one area for all of these bytes. Areas that overlap are one.
    fn is_one_area(&self, bar: u8, start: u64, len: u64) -> bool {
        let areas = match &self.options.kernel[usize::from(bar)].mappable {
            Nothing => return false,
            Whole => return true,
            Areas(areas) => areas,
        };
        let size = self.own_size(bar);
        let Some(mut one) = areas.iter().find(|area| area.contains(&start)).cloned() else {
            return false;
        };
        loop {
            let more = areas.iter().filter(|a| a.start < a.end && a.start < size);
            let next = more.fold(one.clone(), |one, area| {
                let shared = area.start < one.end.min(size) && one.start < area.end.min(size);
                if shared { one.start.min(area.start)..one.end.max(area.end) } else { one }
            });
            if next == one {
                return one.start <= start && start + len <= one.end;
            }
            one = next;
        }
    }

    fn is_mapped(&self, bar: u8, start: u64, len: u64) -> bool {
        let edges = self.edges(bar);
        let bytes = edges.into_iter().filter(|at| (start..start + len).contains(at));
        self.is_memory(bar)
            && start + len <= self.own_size(bar)
            && self.is_one_area(bar, start, len)
            && (len >= self.options.page.bytes() || self.options.small_bars == SmallBars::Map)
            && bytes.chain([start]).all(|at| self.owner(bar, at) == BarOwner::Device)
    }

    /// Places at which an owner or an area may begin.
    fn edges(&self, bar: u8) -> Vec<u64> {
        let mut edges = vec![0, self.own_size(bar)];
        let parts = self.claims.into_iter().chain(self.guest).flatten();
        edges.extend(parts.filter(|part| part.0 == bar).flat_map(|p| [p.1, p.1 + p.2]));
        let traps = self.options.traps.iter().filter(|trap| trap.bar.index() == bar);
        edges.extend(traps.flat_map(|trap| [trap.range.start, trap.range.end]));
        if let Areas(areas) = &self.options.kernel[usize::from(bar)].mappable {
            edges.extend(areas.iter().flat_map(|area| [area.start, area.end]));
        }
        edges
    }

    /// Calls with every page: its start and length, and how many equal ones follow from it. A BAR
    /// smaller than a page is one.
    fn each_page(&self, bar: u8, mut call: impl FnMut(u64, u64, u64)) {
        let (size, page) = (self.size(bar), self.options.page.bytes());
        if size < page {
            return if size > 0 {
                call(0, size, 1)
            };
        }
        let mut starts: Vec<u64> = self
            .edges(bar)
            .into_iter()
            .map(|edge| edge / page)
            .flat_map(|page| [page.saturating_sub(1), page, page + 1])
            .filter(|&at| at < size / page)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let ends: Vec<_> = starts.iter().copied().skip(1).chain([size / page]).collect();
        for (start, end) in starts.into_iter().zip(ends) {
            call(start * page, page, end - start);
        }
    }

    fn compare_pages(&self, bar: u8, map: &BarMap) {
        let mut mapped = 0;
        self.each_page(bar, |start, len, count| {
            let expected = self.is_mapped(bar, start, len);
            for at in [start, start + (count - 1) * len] {
                let got = map.mapped().iter().any(|run| run.start <= at && at + len <= run.end);
                assert_eq!(got, expected, "BAR {bar}: page {at:#x} of {len:#x} bytes");
            }
            mapped += if expected { count * len } else { 0 };
        });
        let got: u64 = map.mapped().iter().map(|run| run.end - run.start).sum();
        assert_eq!(got, mapped, "BAR {bar}: bytes that are mapped");
    }

    fn compare_bytes(&self, bar: u8, map: &BarMap) {
        let around = |at: u64| at.saturating_sub(2)..at.saturating_add(2);
        for at in self.edges(bar).into_iter().flat_map(around).filter(|&at| at < self.size(bar)) {
            let got: Vec<_> = map.split(at, 1).map(|run| run.owner).collect();
            assert_eq!(got, [self.owner(bar, at)], "BAR {bar}: byte {at:#x}");
        }
    }
}
