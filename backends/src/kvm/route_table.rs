//! Plans the route table of a VM: what should be in it, and what KVM knows (K1). Pure.

use super::gsis::{GsiAllocator, GsiRange, GsiTaken};
use super::message::KvmMessage;
use fixedbitset::FixedBitSet;
use std::collections::BTreeSet;
use std::fmt;

/// The most GSIs, and the most routes, that a VM can have (K2).
pub(super) const MOST: u32 = 4096;

/// The most SPIs that a GIC can have.
pub(super) const MOST_SPIS: u32 = 988;

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

/// What a vector's GSI is routed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteTarget {
    /// A message.
    Msi(KvmMessage),
    /// A pin of an interrupt controller in the kernel.
    Pin { irqchip: u32, pin: u32 },
}

impl RouteTarget {
    const fn entry(self, gsi: u32) -> RouteEntry {
        match self {
            Self::Msi(msi) => RouteEntry::Msi { gsi, msi },
            Self::Pin { irqchip, pin } => RouteEntry::Pin { gsi, irqchip, pin },
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
    /// The place of its route in the plan.
    place: usize,
    /// The route that KVM knows.
    told: Option<RouteEntry>,
    /// Whether that is the one in the plan.
    is_current: bool,
}

/// The table.
pub(super) struct RouteTable {
    /// Everything that should be in the table: first what is kept, then the vectors' in any order.
    plan: Vec<RouteEntry>,
    /// The number of routes that are kept.
    kept: usize,
    /// By GSI.
    slots: Vec<Option<RouteSlot>>,
    /// GSIs with targets that changed since the last commit.
    changed: FixedBitSet,
    gsis: Box<dyn GsiAllocator>,
    /// The range that `gsis` gives out, if that is known.
    range: Option<GsiRange>,
    /// GSIs that sources with fixed ones have.
    reserved: BTreeSet<u32>,
    /// Slots taken.
    taken: usize,
    /// Taken slots that KVM does not know with their present target.
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

    /// Takes a GSI for a vector: this one, which was [`reserve`](Self::reserve)d, or any.
    // Apart: once for a vector, and in the way of `set`.
    #[inline(never)]
    pub(super) fn claim(
        &mut self,
        target: RouteTarget,
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
        self.slots[place] =
            Some(RouteSlot { place: self.plan.len(), told: None, is_current: false });
        self.plan.push(target.entry(gsi));
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

    /// Ends [`reserve`](Self::reserve), when no vector has these GSIs any more.
    pub(super) fn unreserve(&mut self, first: u32, count: u16) {
        (first..first.saturating_add(count.into())).for_each(|gsi| _ = self.reserved.remove(&gsi));
    }

    /// Changes the target of a GSI. Returns whether KVM knows it already.
    pub(super) fn set(&mut self, gsi: u32, target: RouteTarget) -> bool {
        let Some(slot) = self.slots.get_mut(gsi as usize).and_then(Option::as_mut) else {
            return false;
        };
        let entry = target.entry(gsi);
        self.plan[slot.place] = entry;
        self.changed.insert(gsi as usize);
        self.stale += usize::from(slot.is_current);
        slot.is_current = slot.told == Some(entry);
        self.stale -= usize::from(slot.is_current);
        slot.is_current
    }

    /// Gives a GSI back. Its route leaves the table with the next commit; nothing may be armed on
    /// it (K6).
    pub(super) fn give_back(&mut self, gsi: u32) {
        let Some(slot) = self.slot_mut(gsi) else { return };
        let (stale, place) = (!slot.is_current, slot.place);
        self.slots[gsi as usize] = None;
        self.plan.swap_remove(place);
        if let Some(last) = self.plan.get(place).map(|moved| moved.gsi())
            && let Some(moved) = self.slot_mut(last)
        {
            moved.place = place;
        }
        self.taken -= 1;
        self.stale -= usize::from(stale);
        if !self.reserved.contains(&gsi) {
            self.gsis.free(gsi); // it may panic
        }
    }

    /// Returns whether KVM knows the present target of a GSI.
    pub(super) fn is_current(&self, gsi: u32) -> bool {
        self.slot(gsi).is_some_and(|slot| slot.is_current)
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
                slot.told = Some(self.plan[slot.place]);
                slot.is_current = true;
            }
        }
        self.changed.clear();
        self.stale = 0;
    }

    /// Returns the number of targets that KVM does not know.
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
mod tests;
