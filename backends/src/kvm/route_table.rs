//! Plans the route table of a VM: what should be in it, and what KVM knows (K1). Pure.

use super::gsis::{GsiAllocator, GsiRange, GsiTaken};
use super::message::KvmMessage;
use fixedbitset::FixedBitSet;
use std::collections::BTreeSet;
use std::fmt;

/// The most GSIs, and the most routes, that a VM can have (K2).
pub(super) const MOST: u32 = 4096;

/// The most SPIs that a GIC can have.
const MOST_SPIS: u32 = 988;

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteEntry {
    /// A message.
    Msi {
        /// Its GSI.
        gsi: u32,
        /// The message.
        msi: KvmMessage,
    },
    /// A pin of an interrupt controller in the kernel.
    Pin {
        /// Its GSI.
        gsi: u32,
        /// KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE or KVM_IRQCHIP_IOAPIC: 0 to 2. On Arm 0.
        irqchip: u32,
        /// The pin. On Arm the number of the SPI, counted from 0: pin 3 is interrupt 35.
        pin: u32,
    },
}

impl RouteEntry {
    pub(super) const fn gsi(self) -> u32 {
        match self {
            Self::Msi { gsi, .. } | Self::Pin { gsi, .. } => gsi,
        }
    }
}

/// The interrupt controllers that the VM has in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Irqchip {
    /// KVM_CREATE_IRQCHIP: two 8259 and an I/O APIC. Their routes must stay in the table (K1).
    Full,
    /// KVM_CAP_SPLIT_IRQCHIP: local APICs alone. The VMM gives its I/O APIC's routes to
    /// [`Routes::keep`](super::Routes::keep).
    Split,
    /// Arm's GICv2 or GICv3. The pins of SPIs have routes that must stay in the table, as with
    /// [`Full`](Self::Full); GSI n is SPI n, interrupt 32 + n, and vectors get the GSIs behind (K15).
    Gic {
        /// The number of SPIs: KVM_DEV_ARM_VGIC_GRP_NR_IRQS less 32, at most 988. Or fewer, where no irqfd
        /// is ever assigned to the others.
        spis: u32,
    },
}

impl Irqchip {
    /// Returns the number of GSIs, from 0 on, that pins have.
    pub(super) const fn pins(self) -> u32 {
        match self {
            Self::Full | Self::Split => 24,
            Self::Gic { spis } if spis > MOST_SPIS => MOST_SPIS,
            Self::Gic { spis } => spis,
        }
    }

    /// Returns the routes that KVM itself puts into the table (K1).
    pub(super) fn defaults(self) -> Vec<RouteEntry> {
        match self {
            Self::Split => Vec::new(),
            Self::Gic { .. } => {
                (0..self.pins()).map(|gsi| RouteEntry::Pin { gsi, irqchip: 0, pin: gsi }).collect()
            }
            Self::Full => {
                let pic =
                    (0..16).map(|gsi| RouteEntry::Pin { gsi, irqchip: gsi / 8, pin: gsi % 8 });
                let ioapic = (0..24).map(|gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: gsi });
                pic.chain(ioapic).collect()
            }
        }
    }
}

/// Every route that the VM can have is taken. The vector is then delivered from userspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} routes of the VM are taken")]
pub struct OutOfRoutes {
    /// The number of routes.
    pub limit: u32,
}

#[derive(Debug, Clone, Copy)]
struct RouteSlot {
    wanted: KvmMessage,
    /// The message that KVM knows.
    told: Option<KvmMessage>,
    /// The place of its route in the plan.
    place: usize,
}

impl RouteSlot {
    fn is_current(&self) -> bool {
        self.told == Some(self.wanted)
    }
}

/// The table.
pub(super) struct RouteTable {
    /// Everything that should be in the table: first what is kept, then the messages in any order.
    plan: Vec<RouteEntry>,
    /// The number of routes that are kept.
    kept: usize,
    /// By GSI.
    slots: Vec<Option<RouteSlot>>,
    /// GSIs with messages that changed since the last commit.
    changed: FixedBitSet,
    gsis: Box<dyn GsiAllocator>,
    /// The range that `gsis` gives out, if that is known.
    range: Option<GsiRange>,
    /// GSIs that sources with fixed ones have.
    reserved: BTreeSet<u32>,
    /// Slots taken.
    taken: usize,
    /// Taken slots that KVM does not know with their present message.
    stale: usize,
    limit: u32,
}

impl RouteTable {
    /// Makes a table for a kernel that takes `limit` routes, at most 4096, with vectors that get the
    /// GSIs of a range.
    pub(super) fn new(kept: Vec<RouteEntry>, limit: u32, range: GsiRange) -> Self {
        let limit = limit.min(MOST);
        let end = range.end.min(limit);
        let gsis = GsiRange { end, ..range }.allocator();
        Self { range: Some(range), ..Self::with_gsis(kept, limit, Box::new(gsis)) }
    }

    /// Makes a table with vectors that get the GSIs of the VMM's own allocator.
    pub(super) fn with_gsis(
        kept: Vec<RouteEntry>,
        limit: u32,
        gsis: Box<dyn GsiAllocator>,
    ) -> Self {
        Self {
            kept: kept.len(),
            plan: kept,
            slots: Vec::new(),
            changed: FixedBitSet::with_capacity(MOST as usize),
            gsis,
            range: None,
            reserved: BTreeSet::new(),
            taken: 0,
            stale: 0,
            limit: limit.min(MOST),
        }
    }

    /// Takes a GSI for a message: this one, which was [`reserve`](Self::reserve)d, or any.
    pub(super) fn claim(
        &mut self,
        msi: KvmMessage,
        fixed: Option<u32>,
    ) -> Result<u32, OutOfRoutes> {
        let out = OutOfRoutes { limit: self.limit };
        if self.plan.len() >= self.limit as usize {
            return Err(out);
        }
        let gsi = match fixed {
            Some(gsi) => gsi,
            None => self.allocate().ok_or(out)?,
        };
        let place = gsi as usize;
        if self.slots.len() <= place {
            self.slots.resize(place + 1, None);
        }
        self.slots[place] = Some(RouteSlot { wanted: msi, told: None, place: self.plan.len() });
        self.plan.push(RouteEntry::Msi { gsi, msi });
        self.changed.insert(place);
        self.taken += 1;
        self.stale += 1;
        Ok(gsi)
    }

    /// Allocates a GSI that the kernel takes and nobody has.
    fn allocate(&mut self) -> Option<u32> {
        let gsi = self.gsis.allocate()?;
        if self.is_taken(gsi) {
            return None; // a bug of the allocator; whoever has it keeps it
        }
        if gsi >= MOST {
            self.gsis.free(gsi);
            return None;
        }
        Some(gsi)
    }

    /// Whether a vector, a source with fixed GSIs, or a kept route has this GSI.
    fn is_taken(&self, gsi: u32) -> bool {
        self.slot(gsi).is_some()
            || self.reserved.contains(&gsi)
            || self.plan[..self.kept].iter().any(|entry| entry.gsi() == gsi)
    }

    /// Reserves GSIs for a source with fixed ones, `count` from `first` on.
    pub(super) fn reserve(&mut self, first: u32, count: u16) -> Result<(), GsiTaken> {
        let end = first.saturating_add(count.into());
        let of_vectors = |gsi| self.range.is_some_and(|range| range.contains(gsi));
        let mut gsis = first..end;
        if let Some(gsi) = gsis.find(|&gsi| gsi >= MOST || of_vectors(gsi) || self.is_taken(gsi)) {
            return Err(GsiTaken(gsi));
        }
        self.reserved.extend(first..end);
        Ok(())
    }

    /// Ends [`reserve`](Self::reserve), when no message has these GSIs any more.
    pub(super) fn unreserve(&mut self, first: u32, count: u16) {
        (first..first.saturating_add(count.into())).for_each(|gsi| _ = self.reserved.remove(&gsi));
    }

    /// Changes the message of a GSI.
    pub(super) fn set(&mut self, gsi: u32, msi: KvmMessage) {
        let Some(slot) = self.slot_mut(gsi) else { return };
        let before = slot.is_current();
        slot.wanted = msi;
        let (after, place) = (slot.is_current(), slot.place);
        self.plan[place] = RouteEntry::Msi { gsi, msi };
        self.changed.insert(gsi as usize);
        self.stale += usize::from(before);
        self.stale -= usize::from(after);
    }

    /// Gives a GSI back. Its route leaves the table with the next commit; nothing may be armed on
    /// it (K6).
    pub(super) fn give_back(&mut self, gsi: u32) {
        let Some(slot) = self.slot_mut(gsi) else { return };
        let (stale, place) = (!slot.is_current(), slot.place);
        self.slots[gsi as usize] = None;
        self.plan.swap_remove(place);
        if let Some(last) = self.plan.get(place).map(|moved| moved.gsi())
            && let Some(moved) = self.slot_mut(last)
        {
            moved.place = place;
        }
        if !self.reserved.contains(&gsi) {
            self.gsis.free(gsi);
        }
        self.taken -= 1;
        self.stale -= usize::from(stale);
    }

    /// Returns whether KVM knows the present message of a GSI.
    pub(super) fn is_current(&self, gsi: u32) -> bool {
        self.slot(gsi).is_some_and(RouteSlot::is_current)
    }

    /// Replaces the routes that belong to no vector: with GSIs that no vector can have, and no more than
    /// fit.
    pub(super) fn keep(&mut self, entries: Vec<RouteEntry>) -> Result<Vec<RouteEntry>, KeepError> {
        let of_vectors = |gsi| self.range.is_some_and(|range| range.contains(gsi));
        let has = |gsi| self.slot(gsi).is_some() || self.reserved.contains(&gsi);
        let mut gsis = entries.iter().map(|entry| entry.gsi());
        if let Some(gsi) = gsis.find(|&gsi| of_vectors(gsi) || has(gsi)) {
            return Err(KeepError::Gsi(gsi));
        }
        if entries.len() + self.taken > self.limit as usize {
            return Err(KeepError::OutOfRoutes(OutOfRoutes { limit: self.limit }));
        }
        for slot in self.slots.iter_mut().flatten() {
            slot.place = slot.place - self.kept + entries.len();
        }
        let kept = self.kept;
        self.kept = entries.len();
        Ok(self.plan.splice(..kept, entries).collect())
    }

    /// Returns everything that should be in the table.
    pub(super) fn plan(&self) -> &[RouteEntry] {
        &self.plan
    }

    /// Notes that KVM has taken the plan.
    pub(super) fn committed(&mut self) {
        for gsi in self.changed.ones() {
            if let Some(slot) = &mut self.slots[gsi] {
                slot.told = Some(slot.wanted);
            }
        }
        self.changed.clear();
        self.stale = 0;
    }

    /// Returns the number of messages that KVM does not know.
    pub(super) const fn stale(&self) -> usize {
        self.stale
    }

    /// Returns the number of GSIs given out.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    fn slot(&self, gsi: u32) -> Option<&RouteSlot> {
        self.slots.get(gsi as usize)?.as_ref()
    }

    fn slot_mut(&mut self, gsi: u32) -> Option<&mut RouteSlot> {
        self.slots.get_mut(gsi as usize)?.as_mut()
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("kept", &self.kept)
            .field("taken", &self.taken)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

/// Why routes cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// A vector has this GSI, or may get it: it is in [`RouteOptions::gsis`](super::RouteOptions::gsis).
    #[error("GSI {0} is one of a vector, or one that vectors are given")]
    Gsi(u32),
    /// The routes do not fit.
    #[error(transparent)]
    OutOfRoutes(#[from] OutOfRoutes),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::RouteOptions;
    use std::collections::BTreeMap;

    fn msi(data: u32) -> KvmMessage {
        KvmMessage { address_lo: 0xfee0_0000, address_hi: 0, data, device: None }
    }

    fn table(kept: Vec<RouteEntry>, limit: u32) -> RouteTable {
        RouteTable::new(kept, limit, GsiRange::default())
    }

    #[test]
    fn c1_the_controllers_pins_stay_in_every_plan() {
        let mut table = table(Irqchip::Full.defaults(), 4096);
        assert_eq!(table.plan().len(), 40);
        let gsi = table.claim(msi(0x41), None).unwrap();
        assert_eq!(gsi, 24);
        let plan = table.plan();
        assert_eq!(plan[15], RouteEntry::Pin { gsi: 15, irqchip: 1, pin: 7 });
        assert_eq!(plan[39], RouteEntry::Pin { gsi: 23, irqchip: 2, pin: 23 });
        assert_eq!(plan[40], RouteEntry::Msi { gsi, msi: msi(0x41) });
    }

    #[test]
    fn k15_the_pins_of_a_gic_stay_in_every_plan_and_vectors_get_the_gsis_behind() {
        for (spis, pins) in [(96, 96), (0, 0), (988, 988), (u32::MAX, 988)] {
            let options = RouteOptions::new(Irqchip::Gic { spis });
            let kept = options.irqchip.defaults();
            let mut table = RouteTable::new(kept, options.limit, options.gsis);
            assert_eq!(table.claim(msi(8192), None), Ok(pins));
            let plan = table.plan();
            assert_eq!(plan.len(), pins as usize + 1);
            let is_pin = |(gsi, entry): (u32, &RouteEntry)| {
                *entry == RouteEntry::Pin { gsi, irqchip: 0, pin: gsi }
            };
            assert!((0..pins).zip(plan).all(is_pin));
        }
    }

    #[test]
    fn a_message_is_current_once_kvm_knows_it() {
        let mut table = table(Vec::new(), 4096);
        let gsi = table.claim(msi(1), None).unwrap();
        assert!(!table.is_current(gsi));
        table.committed();
        assert_eq!((table.is_current(gsi), table.stale()), (true, 0));
        table.set(gsi, msi(2));
        table.set(gsi, msi(3));
        assert_eq!((table.is_current(gsi), table.stale()), (false, 1));
        table.set(gsi, msi(1)); // back to what KVM has: nothing to tell
        assert_eq!((table.is_current(gsi), table.stale()), (true, 0));
        table.set(gsi, msi(2));
        table.give_back(gsi);
        assert_eq!((table.is_current(gsi), table.stale(), table.taken()), (false, 0, 0));
        let again = table.claim(msi(1), None).unwrap();
        assert_eq!((again, table.stale()), (gsi, 1), "its old route may be another's message");
        table.give_back(7); // not a vector's
        table.set(99, msi(1)); // nothing's
        assert_eq!(table.taken(), 1);
    }

    #[test]
    fn c2_neither_routes_nor_gsis_pass_the_limit() {
        for (irqchip, most) in [(Irqchip::Full, 4096 - 40), (Irqchip::Split, 4096 - 24)] {
            let mut table = table(irqchip.defaults(), u32::MAX);
            let claimed = std::iter::from_fn(|| table.claim(msi(1), None).ok()).collect::<Vec<_>>();
            assert_eq!(claimed.len(), most);
            assert!(claimed.iter().all(|gsi| *gsi < 4096));
            assert_eq!(table.claim(msi(1), None), Err(OutOfRoutes { limit: 4096 }));
            assert!(table.plan().len() <= 4096);
            table.give_back(claimed[5]);
            assert_eq!(table.claim(msi(2), None), Ok(claimed[5]));
        }
    }

    #[test]
    fn routes_are_kept_below_the_gsis_of_vectors_and_no_more_than_fit() {
        let mut table = table(Vec::new(), 26);
        table.claim(msi(1), None).unwrap();
        let pin = |gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: 0 };
        assert_eq!(table.keep(vec![pin(23), pin(24)]), Err(KeepError::Gsi(24)));
        let many: Vec<RouteEntry> = (0..23).chain(0..3).map(pin).collect();
        assert!(matches!(table.keep(many), Err(KeepError::OutOfRoutes(_))));
        assert_eq!(table.keep(vec![pin(3)]), Ok(Vec::new()));
        assert_eq!(table.plan().len(), 2);
    }

    #[test]
    fn vectors_get_the_gsis_of_a_range_and_routes_outside_of_it_are_kept() {
        let range = GsiRange { first: 256, end: 258 };
        let mut table = RouteTable::new(Vec::new(), 4096, range);
        let pins = |gsis: std::ops::Range<u32>| -> Vec<RouteEntry> {
            gsis.map(|gsi| RouteEntry::Msi { gsi, msi: msi(gsi) }).collect()
        };
        table.keep(pins(0..256)).unwrap();
        assert_eq!([table.claim(msi(1), None), table.claim(msi(2), None)], [Ok(256), Ok(257)]);
        assert!(table.claim(msi(3), None).is_err());
        assert_eq!(table.keep(pins(0..257)), Err(KeepError::Gsi(256)));
        table.keep(pins(258..300)).unwrap();
        let plan: Vec<u32> = table.plan().iter().map(|entry| entry.gsi()).collect();
        assert_eq!(plan, (258..300).chain(256..258).collect::<Vec<_>>());
        table.give_back(256);
        assert_eq!(table.claim(msi(3), None), Ok(256));
    }

    /// Gives these out, from the back, and takes anything.
    struct Odd(Vec<u32>);

    impl GsiAllocator for Odd {
        fn allocate(&mut self) -> Option<u32> {
            self.0.pop()
        }
        fn free(&mut self, gsi: u32) {
            self.0.push(gsi);
        }
    }

    #[test]
    fn an_allocator_of_the_vmm_decides_and_a_wrong_one_takes_nothing_from_anybody() {
        let kept = vec![RouteEntry::Pin { gsi: 9, irqchip: 2, pin: 9 }];
        let mut table =
            RouteTable::with_gsis(kept, 4096, Box::new(Odd(vec![9, 4096, 700, 700, 30])));
        assert_eq!(table.claim(msi(1), None), Ok(30));
        assert_eq!(table.claim(msi(2), None), Ok(700));
        assert!(table.claim(msi(3), None).is_err(), "700 is taken");
        assert!(table.claim(msi(3), None).is_err(), "4096 is none");
        assert_eq!(
            table.keep(vec![RouteEntry::Msi { gsi: 700, msi: msi(1) }]),
            Err(KeepError::Gsi(700))
        );
        assert_eq!(table.taken(), 2);
        table.give_back(30);
        assert_eq!(table.claim(msi(4), None), Ok(30), "it was given back to the allocator");
        table.give_back(30);
        table.allocate();
        assert!(table.claim(msi(5), None).is_err(), "4096 again");
    }

    #[test]
    fn a_fixed_gsi_is_nobody_elses() {
        let mut table = table(vec![RouteEntry::Pin { gsi: 5, irqchip: 2, pin: 5 }], 4096);
        assert_eq!(table.reserve(0, 8), Err(GsiTaken(5)));
        assert_eq!(table.reserve(20, 8), Err(GsiTaken(24)), "it is in the range of vectors");
        assert_eq!(table.reserve(u32::MAX - 1, 8), Err(GsiTaken(u32::MAX - 1)));
        table.reserve(8, 4).unwrap();
        assert_eq!(table.reserve(11, 1), Err(GsiTaken(11)));
        assert_eq!(table.claim(msi(1), Some(10)), Ok(10));
        let pin = |gsi| vec![RouteEntry::Pin { gsi, irqchip: 2, pin: 0 }];
        assert_eq!(table.keep(pin(8)), Err(KeepError::Gsi(8)));
        table.give_back(10);
        table.unreserve(8, 4);
        table.keep(pin(8)).unwrap();
        assert_eq!(table.claim(msi(1), None), Ok(24), "10 was not given to vectors");
    }

    /// The table as it would be without a plan that is kept up.
    #[derive(Default)]
    struct Naive {
        kept: Vec<RouteEntry>,
        wanted: BTreeMap<u32, KvmMessage>,
        told: BTreeMap<u32, KvmMessage>,
    }

    impl Naive {
        fn compare(&self, table: &RouteTable) {
            let messages = self.wanted.iter().map(|(&gsi, &msi)| RouteEntry::Msi { gsi, msi });
            let mut plan = table.plan().to_vec();
            let kept: Vec<_> = plan.drain(..self.kept.len()).collect();
            plan.sort_unstable_by_key(|entry| entry.gsi());
            assert_eq!((kept, plan), (self.kept.clone(), messages.collect::<Vec<_>>()));
            let is_current = |gsi| self.told.get(gsi) == self.wanted.get(gsi);
            assert!(self.wanted.keys().all(|gsi| table.is_current(*gsi) == is_current(gsi)));
            let stale = self.wanted.keys().filter(|gsi| !is_current(gsi)).count();
            assert_eq!((table.stale(), table.taken()), (stale, self.wanted.len()));
        }
    }

    #[test]
    fn the_plan_that_is_kept_up_is_the_one_made_anew() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut table, mut naive) = (table(Vec::new(), 4096), Naive::default());
            for _ in 0..300 {
                let any = random.choice(naive.wanted.keys().copied());
                let message = msi(random.u32(0..3));
                match (random.u8(0..12), any) {
                    (0..4, _) => {
                        let gsi = table.claim(message, None).unwrap();
                        assert_eq!(naive.wanted.insert(gsi, message), None);
                    }
                    (4..8, Some(gsi)) => {
                        table.set(gsi, message);
                        naive.wanted.insert(gsi, message);
                    }
                    (8..10, Some(gsi)) => {
                        table.give_back(gsi);
                        naive.wanted.remove(&gsi);
                        naive.told.remove(&gsi);
                    }
                    (10, _) => {
                        let pin = |gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: gsi };
                        let kept: Vec<_> = (0..random.u32(0..24)).map(pin).collect();
                        assert_eq!(table.keep(kept.clone()), Ok(naive.kept));
                        naive.kept = kept;
                    }
                    _ => {
                        table.committed();
                        naive.told = naive.wanted.clone();
                    }
                }
                naive.compare(&table);
            }
        }
    }
}
