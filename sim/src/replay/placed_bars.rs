//! Where a function's memory BARs lie, as far as its configuration writes tell.

/// The six BAR registers of one function.
///
/// A guest sizes a BAR by writing all ones, reading, and writing the old value back. The value
/// written back tells two things the log does not say otherwise: the BAR's type bits, and, when
/// its address is 0 although the BAR was placed before or never seen, that the function came out
/// of reset in between ([`Change::Fresh`]).
#[derive(Debug, Clone, Default)]
pub(crate) struct PlacedBars {
    registers: [Register; 6],
    /// A low half came back with address 0; the function is fresh if the high half does too.
    awaited: Option<usize>,
    placed_from_reset: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Register {
    /// Address bits as last written.
    value: Option<u32>,
    sizing: bool,
    kind: Kind,
    /// It had its reset value and was not placed since.
    fresh: bool,
    /// When it was last placed, for two BARs that claim one address.
    placed: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    Io,
    Memory32,
    Memory64,
    /// The high half of the register before it.
    High,
}

/// What a configuration write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that says more.
    None,
    /// BAR `.0` has its reset value: the function was reset since it was last placed.
    Fresh(u8),
}

impl PlacedBars {
    /// The same BARs with their types known, as a log begins.
    pub(crate) fn rewound(&self) -> Self {
        let register = |old: &Register| Register { kind: old.kind, ..Register::default() };
        Self {
            registers: self.registers.each_ref().map(register),
            awaited: None,
            placed_from_reset: false,
        }
    }

    /// A configuration write at `offset`, as number `now` of all writes.
    pub(crate) fn write(&mut self, offset: u16, value: u32, now: u64) -> Change {
        let change = self.change(offset, value, now);
        if let Change::Fresh(bar) = change
            && let Some(register) = self.registers.get_mut(usize::from(bar))
        {
            register.fresh = true;
        }
        change
    }

    /// Whether the log shows how one of these came out of reset and was then placed. A register
    /// that does not exist always looks fresh, but is never placed.
    pub(crate) const fn placed_from_reset(&self) -> bool {
        self.placed_from_reset
    }

    fn change(&mut self, offset: u16, value: u32, now: u64) -> Change {
        let Some(index) = index(offset) else { return Change::None };
        let Some(register) = self.registers.get_mut(index) else { return Change::None };
        if value >= ALL_ONES {
            register.sizing = true;
            return Change::None;
        }
        let restored = std::mem::take(&mut register.sizing);
        let before = register.value;
        self.learn(index, value);
        let Some(register) = self.registers.get_mut(index) else { return Change::None };
        let address = value & register.kind.address_bits();
        register.value = Some(address);
        register.placed = now;
        self.placed_from_reset |= address != 0 && std::mem::take(&mut register.fresh);
        let (kind, zero) = (register.kind, address == 0);
        match kind {
            Kind::Io => Change::None,
            Kind::High => {
                let awaited = self.awaited.take() == Some(index);
                let low = index.wrapping_sub(1);
                if awaited && restored && zero { fresh(low) } else { Change::None }
            }
            Kind::Memory64 => {
                let high = self.registers.get(index + 1).and_then(|high| high.value);
                let was_zero = before == Some(0) && high == Some(0);
                self.awaited = (restored && zero && !was_zero).then_some(index + 1);
                Change::None
            }
            Kind::Memory32 | Kind::Unknown if restored && zero && before != Some(0) => fresh(index),
            Kind::Memory32 | Kind::Unknown => Change::None,
        }
    }

    /// A traced configuration read at `offset`: tells a BAR's type.
    pub(crate) fn read(&mut self, offset: u16, value: u32) {
        if let Some(index) = index(offset)
            && self.registers.get(index).is_some_and(|register| !register.sizing)
        {
            self.learn(index, value);
        }
    }

    /// A configuration read at `offset` that tells what the register holds, as number `now`.
    pub(crate) fn told(&mut self, offset: u16, value: u32, now: u64) {
        self.read(offset, value);
        let Some(register) = index(offset).and_then(|index| self.registers.get_mut(index)) else {
            return;
        };
        let address = value & register.kind.address_bits();
        // One that reads 0 is as it was before it was placed, which its restored value tells.
        if !register.sizing && (address != 0 || register.kind == Kind::High) {
            register.value = Some(address);
            register.placed = now;
        }
    }

    /// Memory BAR `index` is known to be at `address`, or not to be placed.
    pub(crate) fn given(&mut self, index: u8, address: Option<u64>) {
        let at = usize::from(index);
        let Some(address) = address else { return };
        let wide = address >> 32 != 0;
        let Some(register) = self.registers.get_mut(at) else { return };
        register.value = Some(address as u32 & !0xf);
        if wide {
            register.kind = Kind::Memory64;
        }
        if register.kind == Kind::Memory64
            && let Some(high) = self.registers.get_mut(at + 1)
        {
            high.kind = Kind::High;
            high.value = Some((address >> 32) as u32);
        }
    }

    /// The type bits, unless this is a high half or they are all 0, which says nothing: firmware
    /// writes addresses without them.
    fn learn(&mut self, index: usize, value: u32) {
        let Some(register) = self.registers.get_mut(index) else { return };
        if register.kind == Kind::High {
            return;
        }
        let kind = match value & 0xf {
            0 => return,
            bits if bits & 1 != 0 => Kind::Io,
            bits if bits & 6 == 4 => Kind::Memory64,
            _ => Kind::Memory32,
        };
        register.kind = kind;
        if kind == Kind::Memory64
            && let Some(high) = self.registers.get_mut(index + 1)
        {
            high.kind = Kind::High;
        }
    }

    /// Address of memory BAR `index`, if it is placed.
    pub(crate) fn base(&self, index: u8) -> Option<u64> {
        let index = usize::from(index);
        let register = self.registers.get(index)?;
        let low = u64::from(register.value?);
        let base = match register.kind {
            Kind::Unknown | Kind::Memory32 => low,
            Kind::Memory64 => u64::from(self.registers.get(index + 1)?.value?) << 32 | low,
            Kind::Io | Kind::High => return None,
        };
        (base != 0).then_some(base)
    }

    /// Whether any memory BAR is placed.
    pub(crate) fn any_placed(&self) -> bool {
        (0..6).any(|index| self.base(index).is_some())
    }

    /// The memory BAR that can hold `address`: its index, base, and when it was placed. A BAR is
    /// aligned to its size, so it cannot reach further than its base is aligned.
    pub(crate) fn holding(&self, address: u64) -> Option<(u8, u64, u64)> {
        let placed = |index: u8| {
            let base = self.base(index)?;
            let reach = base & base.wrapping_neg();
            let inside = address.checked_sub(base).is_some_and(|offset| offset < reach);
            let when = self.registers.get(usize::from(index))?.placed;
            inside.then_some((index, base, when))
        };
        (0..6).filter_map(placed).max_by_key(|&(_, base, when)| (base, when))
    }
}

impl Kind {
    const fn address_bits(self) -> u32 {
        match self {
            Self::High => u32::MAX,
            Self::Io => !3,
            Self::Unknown | Self::Memory32 | Self::Memory64 => !0xf,
        }
    }
}

fn fresh(index: usize) -> Change {
    u8::try_from(index).map_or(Change::None, Change::Fresh)
}

fn index(offset: u16) -> Option<usize> {
    let from = offset.checked_sub(FIRST)?;
    (from < 24 && from % 4 == 0).then_some(usize::from(from / 4))
}

/// Offset of BAR 0 in configuration space.
const FIRST: u16 = 0x10;
/// A sizing write; some guests leave the type bits clear in it.
const ALL_ONES: u32 = 0xffff_fff0;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writes: &[(u16, u32)]) -> (PlacedBars, Vec<Change>) {
        let mut bars = PlacedBars::default();
        let changes =
            (0..).zip(writes).map(|(now, &(offset, value))| bars.write(offset, value, now));
        let changes = changes.filter(|&change| change != Change::None).collect();
        (bars, changes)
    }

    #[test]
    fn a_bar_sized_and_restored_to_zero_is_fresh_from_reset() {
        let (bars, changes) = written(&[(0x1c, 0xffff_ffff), (0x1c, 0), (0x1c, 0xfebc_4000)]);
        assert_eq!(changes, [Change::Fresh(3)]);
        assert_eq!(bars.base(3), Some(0xfebc_4000));
        let (_, again) = written(&[
            (0x1c, 0xffff_ffff),
            (0x1c, 0),
            (0x1c, 0xfebc_4000),
            (0x1c, 0xffff_ffff),
            (0x1c, 0xfebc_4000), // a kernel sizes a placed BAR: no reset
            (0x1c, 0xffff_ffff),
            (0x1c, 0),
        ]);
        assert_eq!(again, [Change::Fresh(3), Change::Fresh(3)]);
    }

    #[test]
    fn a_bar_that_the_guest_cleared_itself_is_not_fresh() {
        let (_, changes) = written(&[(0x10, 0), (0x10, 0xffff_ffff), (0x10, 0)]);
        assert_eq!(changes, []);
    }

    #[test]
    fn a_64_bit_bar_is_fresh_only_when_both_halves_are_zero() {
        let low = [(0x10, 0xffff_ffff), (0x10, 0x4)];
        let (_, changes) = written(&[&low[..], &[(0x14, 0xffff_ffff), (0x14, 0)]].concat());
        assert_eq!(changes, [Change::Fresh(0)]);
        let (bars, changes) = written(&[&low[..], &[(0x14, 0xffff_ffff), (0x14, 8)]].concat());
        assert_eq!(changes, [], "a BAR at 32 GiB has a low half of 0");
        assert_eq!(bars.base(0), Some(8 << 32));
    }

    #[test]
    fn an_address_belongs_to_the_bar_that_can_reach_it() {
        let (bars, _) = written(&[
            (0x10, 0xc0e1), // ports
            (0x14, 0xfebc_4000),
            (0x18, 0xfebc_0000),
        ]);
        assert_eq!(bars.holding(0xfebc_400c).map(|found| found.0), Some(1));
        assert_eq!(bars.holding(0xfebc_200c).map(|found| found.0), Some(2));
        assert_eq!(bars.holding(0xfec0_0000), None, "neither is aligned to reach that far");
        assert_eq!(bars.holding(0xc0e4), None);
    }

    #[test]
    fn a_rewound_bar_keeps_its_type_only() {
        let (bars, _) = written(&[(0x10, 0xffff_ffff), (0x10, 4), (0x14, 0), (0x10, 0xfebc_0004)]);
        assert_eq!(bars.base(0), Some(0xfebc_0000));
        let mut again = bars.rewound();
        assert_eq!(again.base(0), None);
        again.write(0x10, 0xfebc_0000, 0);
        assert_eq!(again.base(0), None, "the high half is not known yet");
        again.write(0x14, 1, 1);
        assert_eq!(again.base(0), Some(0x1_febc_0000));
    }

    #[test]
    fn no_write_panics() {
        let mut bars = PlacedBars::default();
        for offset in 0..4096 {
            for value in [0, 1, 4, 0xc, 0xfffc_0004, u32::MAX] {
                bars.write(offset, value, 0);
                bars.read(offset, value);
                bars.holding(u64::from(value));
            }
        }
    }
}
