//! Real functions of many vendors, made from the facts in `data/functions.txt`.

use super::*;
use std::collections::BTreeSet;

/// A function of the file.
struct Real {
    name: &'static str,
    config: Vec<u8>,
    sizes: [u64; 6],
    /// Id and place of each capability, in the order of the chains.
    capabilities: Vec<(u16, u16)>,
    /// What may be mapped, for pages of 4, 16 and 64 KiB.
    mapped: Vec<Vec<(u8, Range<u64>)>>,
}

fn number(text: &str, radix: u32) -> u64 {
    u64::from_str_radix(text, radix).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn hex(text: &str) -> usize {
    usize::try_from(number(text, 16)).unwrap()
}

fn byte(text: &str) -> u8 {
    u8::try_from(number(text, 16)).unwrap()
}

fn size(text: &str) -> u64 {
    let unit = |letter| text.strip_suffix(letter).map(|text| number(text, 10));
    let shifted = [('K', 10), ('M', 20), ('G', 30)];
    let with_unit = shifted.into_iter().find_map(|(letter, shift)| Some(unit(letter)? << shift));
    with_unit.unwrap_or_else(|| number(text, 10))
}

/// The functions of the file.
fn functions() -> Vec<Real> {
    let mut functions: Vec<Real> = Vec::new();
    for line in include_str!("data/functions.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            let config = vec![0; 256];
            let (capabilities, mapped) = (Vec::new(), Vec::new());
            functions.push(Real { name, config, sizes: [0; 6], capabilities, mapped });
        } else if !line.is_empty() {
            functions.last_mut().unwrap().read(line);
        }
    }
    functions
}

impl Real {
    fn read(&mut self, line: &'static str) {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            "id" => self.read_ids(rest),
            "bar" => rest.split(", ").for_each(|bar| self.read_bar(bar)),
            "cap" => rest.split(", ").for_each(|capability| self.read_capability(capability)),
            "ext" => rest.split(", ").for_each(|capability| self.read_extended(capability)),
            "map" => {
                let runs = rest.split(' ').skip(1).map(|run| {
                    let (bar, run) = run.split_once(':').unwrap();
                    let (start, end) = run.split_once('-').unwrap();
                    (byte(bar), number(start, 16)..number(end, 16))
                });
                self.mapped.push(runs.collect());
            }
            at => self.read_row(hex(at.trim_end_matches(':')), rest),
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.config[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn read_ids(&mut self, line: &str) {
        let words: Vec<_> = line.split([' ', ':']).collect();
        let [vendor, device, "class", class, "rev", revision, "pin", pin] = words[..] else {
            panic!("{line}")
        };
        self.put(
            0,
            &[vendor, device].map(|id| number(id, 16) as u16).map(u16::to_le_bytes).concat(),
        );
        self.put(8, &[byte(revision)]);
        self.put(9, &(number(class, 16) as u32).to_le_bytes()[..3]);
        self.put(0x3d, &[byte(pin)]);
    }

    fn read_bar(&mut self, bar: &str) {
        let words: Vec<_> = bar.split(' ').collect();
        let [index, kind, bytes] = words[..] else { panic!("{bar}") };
        let index = hex(index);
        self.sizes[index] = size(bytes);
        let prefetchable = if kind.ends_with('p') { 8 } else { 0 };
        let register = match kind.trim_end_matches('p') {
            "m32" => prefetchable,
            "m64" => 4 | prefetchable,
            "io" => 1,
            other => panic!("{other}"),
        };
        self.put(0x10 + 4 * index, &[register]);
    }

    /// Appends a capability to the first chain.
    fn read_capability(&mut self, capability: &str) {
        let words: Vec<_> = capability.split(' ').collect();
        let at = hex(words[0]);
        let vectors = |text: &str| u16::try_from(number(text, 10)).unwrap();
        let msi = |control: u16, count| {
            (5, u16::to_le_bytes(control | (vectors(count).ilog2() as u16) << 1).to_vec())
        };
        let (id, body) = match words[1..] {
            ["pm"] => (1, vec![]),
            ["vpd"] => (3, vec![]),
            ["msi32", count] => msi(0, count),
            ["msi64", count] => msi(0x80, count),
            ["msi64m", count] => msi(0x180, count),
            ["vendor", len] => (9, vec![byte(len)]),
            ["express", version, kind] => (0x10, vec![byte(kind) << 4 | byte(version)]),
            ["msix", count, table, pba] => {
                let place = |text: &str| {
                    let (bar, offset) = text.split_once(':').unwrap();
                    (number(offset, 16) | number(bar, 16)) as u32
                };
                (0x11, msix(vectors(count), place(table), place(pba)).to_vec())
            }
            ["af"] => (0x13, vec![6]),
            [id] => (byte(id), vec![]),
            _ => panic!("{capability}"),
        };
        let before = self.capabilities.last().map_or(0x34, |&(_, at)| usize::from(at) + 1);
        self.put(before, &[at as u8]);
        self.put(at, &[id, 0]);
        self.put(at + 2, &body);
        self.put(6, &[0x10]);
        self.capabilities.push((id.into(), at as u16));
    }

    /// Appends a capability to the extended chain.
    fn read_extended(&mut self, capability: &str) {
        let words: Vec<_> = capability.split(' ').collect();
        let at = hex(words[0]);
        let (id, len) = match words[1..] {
            ["vsec", len] => (0x0b, hex(len)),
            [id] => (hex(id), 0),
            _ => panic!("{capability}"),
        };
        self.config.resize(4096, 0);
        if let Some(&(_, before)) = self.capabilities.last().filter(|(_, at)| *at >= 0x100) {
            let next = (at as u16) << 4;
            let low = self.config[usize::from(before) + 2];
            self.put(
                usize::from(before) + 2,
                &[low | next.to_le_bytes()[0], next.to_le_bytes()[1]],
            );
        }
        self.put(at, &(id as u32 | 1 << 16).to_le_bytes());
        self.put(at + 4, &((len as u32) << 20).to_le_bytes());
        self.capabilities.push((id as u16, at as u16));
    }

    fn read_row(&mut self, at: usize, row: &str) {
        let bytes: Vec<_> = row.split(' ').map(byte).collect();
        self.put(at, &bytes);
    }

    fn bars(&self) -> FunctionBars {
        FunctionBars::from_config(&self.config, self.sizes).unwrap()
    }

    /// The map, compared with the oracle's.
    fn assigned(&self, options: &AssignOptions) -> Result<Assigned, AssignError> {
        let made = Assigned::new(&self.config, self.bars(), options)?;
        assert_eq!(made.check(), Ok(()), "{}", self.name);
        oracle::compare(&made, &self.config, &self.bars(), options);
        Ok(made)
    }
}

#[test]
fn what_was_read_of_them_is_found_again() {
    let functions = functions();
    let vendors: BTreeSet<_> = functions.iter().map(|real| &real.config[..2]).collect();
    assert!(functions.len() >= 50 && vendors.len() >= 15, "{} {}", functions.len(), vendors.len());
    for real in functions {
        let options = AssignOptions { relocation: Relocation::Auto, ..AssignOptions::default() };
        let made = real.assigned(&options).unwrap();
        let found: Vec<_> = made.capabilities().iter().map(|c| (c.id, c.at)).collect();
        if !real.capabilities.is_empty() {
            assert_eq!(found, real.capabilities, "{}", real.name);
        }
    }
}

#[test]
fn their_bars_are_mapped_as_they_were_by_another_program() {
    let mut wrong = Vec::new();
    for real in functions() {
        for (page, expected) in PageSize::ALL.into_iter().zip(&real.mapped) {
            let stay = real.assigned(&all(page));
            let relocated = || {
                let options = AssignOptions { relocation: Relocation::Auto, ..all(page) };
                real.assigned(&options).unwrap()
            };
            let made = stay.unwrap_or_else(|error| {
                wrong.push((real.name, error));
                relocated()
            });
            let mapped: Vec<_> = made.mapped().map(|(bar, run)| (bar.index(), run)).collect();
            assert_eq!(&mapped, expected, "{} {page:?}", real.name);
        }
        assert_eq!(real.mapped.len(), 3, "{}", real.name);
    }
    // Those that claim what cannot be, for each page size.
    let names: BTreeSet<_> = wrong.iter().map(|(name, _)| *name).collect();
    assert!(names.iter().all(|name| name.contains("both at 0")), "{names:?}");
    assert_eq!((names.len(), wrong.len()), (2, 6));
}

#[test]
fn they_stay_whole_under_every_option() {
    let relocations = [Relocation::Auto, Relocation::Nowhere].into_iter();
    let relocations: Vec<_> =
        relocations.chain((0..6).map(|bar| Relocation::Bar(index(bar)))).collect();
    let mut made = 0;
    for real in functions() {
        for (page, &relocation) in
            PageSize::ALL.into_iter().flat_map(|page| relocations.iter().map(move |r| (page, r)))
        {
            for (own_table, small_bars, pba) in [
                (OwnTable::Hidden, SmallBars::Trap, PbaOwner::Emulated),
                (OwnTable::Mapped, SmallBars::Map, PbaOwner::Device),
            ] {
                let traps = TrapRange::known(&real.config, &real.bars());
                let options =
                    AssignOptions { relocation, own_table, small_bars, pba, traps, ..all(page) };
                made += usize::from(real.assigned(&options).is_ok());
            }
        }
    }
    assert!(made > 51 * 3 * 2 * 2, "{made}: all can be hidden, and most be relocated");
}

#[test]
fn what_is_known_of_some_of_them_traps() {
    let known: Vec<_> = functions()
        .iter()
        .flat_map(|real| {
            let known = TrapRange::known(&real.config, &real.bars());
            known.into_iter().map(|trap| (real.name, trap.bar.index(), trap.range))
        })
        .collect();
    let expected = [
        ("Realtek RTL8111E network controller", 2, 0x70..0x78),
        ("NVIDIA GeForce 8800 graphics", 0, 0x8_8000..0x8_9000),
    ];
    assert_eq!(known, expected);
}
