//! Plans the route table of a VM: what should be in it, and what KVM knows (K1). Pure.

use super::message::KvmMessage;

/// The most GSIs, and the most routes, that a VM can have (K2).
pub(super) const MOST: u32 = 4096;
/// GSIs below this are the pins of the I/O APIC.
pub(super) const FIRST_GSI: u32 = 24;

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
        /// Its GSI, below 24.
        gsi: u32,
        /// KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE or KVM_IRQCHIP_IOAPIC: 0 to 2.
        irqchip: u32,
        /// The pin.
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
}

impl Irqchip {
    /// Returns the routes that KVM itself puts into the table (K1).
    pub(super) fn defaults(self) -> Vec<RouteEntry> {
        match self {
            Self::Split => Vec::new(),
            Self::Full => {
                let pic =
                    (0..16).map(|gsi| RouteEntry::Pin { gsi, irqchip: gsi / 8, pin: gsi % 8 });
                let ioapic =
                    (0..FIRST_GSI).map(|gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: gsi });
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
}

impl RouteSlot {
    fn is_current(&self) -> bool {
        self.told == Some(self.wanted)
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct RouteTable {
    kept: Vec<RouteEntry>,
    /// By GSI, from [`FIRST_GSI`] on.
    slots: Vec<Option<RouteSlot>>,
    /// Slots given back.
    free: Vec<usize>,
    /// Slots taken.
    taken: usize,
    /// Taken slots that KVM does not know with their present message.
    stale: usize,
    limit: u32,
}

impl RouteTable {
    /// Makes a table for a kernel that takes `limit` routes, at most 4096.
    pub(super) fn new(kept: Vec<RouteEntry>, limit: u32) -> Self {
        let limit = limit.min(MOST);
        Self { kept, slots: Vec::new(), free: Vec::new(), taken: 0, stale: 0, limit }
    }

    /// Takes a GSI for a message.
    pub(super) fn claim(&mut self, msi: KvmMessage) -> Result<u32, OutOfRoutes> {
        let out = OutOfRoutes { limit: self.limit };
        if self.kept.len() + self.taken >= self.limit as usize {
            return Err(out);
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None if FIRST_GSI as usize + self.slots.len() < self.limit as usize => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(out),
        };
        self.slots[place] = Some(RouteSlot { wanted: msi, told: None });
        self.taken += 1;
        self.stale += 1;
        Ok(FIRST_GSI + u32::try_from(place).unwrap_or(MOST))
    }

    /// Changes the message of a GSI.
    pub(super) fn set(&mut self, gsi: u32, msi: KvmMessage) {
        let Some(slot) = self.slot_mut(gsi) else { return };
        let before = slot.is_current();
        slot.wanted = msi;
        let after = slot.is_current();
        self.stale += usize::from(before);
        self.stale -= usize::from(after);
    }

    /// Gives a GSI back. Its route leaves the table with the next commit; nothing may be armed on
    /// it (K6).
    pub(super) fn give_back(&mut self, gsi: u32) {
        let Some(slot) = self.slot_mut(gsi) else { return };
        let stale = !slot.is_current();
        let place = (gsi - FIRST_GSI) as usize;
        self.slots[place] = None;
        self.free.push(place);
        self.taken -= 1;
        self.stale -= usize::from(stale);
    }

    /// Returns whether KVM knows the present message of a GSI.
    pub(super) fn is_current(&self, gsi: u32) -> bool {
        let place = gsi.checked_sub(FIRST_GSI).map(|place| place as usize);
        let slot = place.and_then(|place| self.slots.get(place));
        slot.is_some_and(|slot| slot.is_some_and(|slot| slot.is_current()))
    }

    /// Replaces the routes that belong to no vector: GSIs below 24, and no more than fit.
    pub(super) fn keep(&mut self, entries: Vec<RouteEntry>) -> Result<Vec<RouteEntry>, KeepError> {
        if let Some(entry) = entries.iter().find(|entry| entry.gsi() >= FIRST_GSI) {
            return Err(KeepError::Gsi(entry.gsi()));
        }
        if entries.len() + self.taken > self.limit as usize {
            return Err(KeepError::OutOfRoutes(OutOfRoutes { limit: self.limit }));
        }
        Ok(std::mem::replace(&mut self.kept, entries))
    }

    /// Returns everything that should be in the table.
    pub(super) fn plan(&self) -> Vec<RouteEntry> {
        let mut plan = Vec::with_capacity(self.kept.len() + self.taken);
        plan.extend_from_slice(&self.kept);
        for (gsi, slot) in (FIRST_GSI..).zip(&self.slots) {
            plan.extend(slot.map(|slot| RouteEntry::Msi { gsi, msi: slot.wanted }));
        }
        plan
    }

    /// Notes that KVM has taken the plan.
    pub(super) fn committed(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.told = Some(slot.wanted);
        }
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

    fn slot_mut(&mut self, gsi: u32) -> Option<&mut RouteSlot> {
        let place = gsi.checked_sub(FIRST_GSI)? as usize;
        self.slots.get_mut(place)?.as_mut()
    }
}

/// Why routes cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// GSIs from 24 on are for vectors.
    #[error("GSI {0}: those from {FIRST_GSI} on are given to vectors")]
    Gsi(u32),
    /// The routes do not fit.
    #[error(transparent)]
    OutOfRoutes(#[from] OutOfRoutes),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn msi(data: u32) -> KvmMessage {
        KvmMessage { address_lo: 0xfee0_0000, address_hi: 0, data, device: None }
    }

    #[test]
    fn c1_the_controllers_pins_stay_in_every_plan() {
        let mut table = RouteTable::new(Irqchip::Full.defaults(), 4096);
        assert_eq!(table.plan().len(), 40);
        let gsi = table.claim(msi(0x41)).unwrap();
        assert_eq!(gsi, FIRST_GSI);
        let plan = table.plan();
        assert_eq!(plan[15], RouteEntry::Pin { gsi: 15, irqchip: 1, pin: 7 });
        assert_eq!(plan[39], RouteEntry::Pin { gsi: 23, irqchip: 2, pin: 23 });
        assert_eq!(plan[40], RouteEntry::Msi { gsi, msi: msi(0x41) });
    }

    #[test]
    fn a_message_is_current_once_kvm_knows_it() {
        let mut table = RouteTable::new(Vec::new(), 4096);
        let gsi = table.claim(msi(1)).unwrap();
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
        let again = table.claim(msi(1)).unwrap();
        assert_eq!((again, table.stale()), (gsi, 1), "its old route may be another's message");
        table.give_back(7); // not a vector's
        table.set(99, msi(1)); // nothing's
        assert_eq!(table.taken(), 1);
    }

    #[test]
    fn c2_neither_routes_nor_gsis_pass_the_limit() {
        for (irqchip, most) in [(Irqchip::Full, 4096 - 40), (Irqchip::Split, 4096 - 24)] {
            let mut table = RouteTable::new(irqchip.defaults(), u32::MAX);
            let claimed = std::iter::from_fn(|| table.claim(msi(1)).ok()).collect::<Vec<_>>();
            assert_eq!(claimed.len(), most);
            assert!(claimed.iter().all(|gsi| *gsi < 4096));
            assert_eq!(table.claim(msi(1)), Err(OutOfRoutes { limit: 4096 }));
            assert!(table.plan().len() <= 4096);
            table.give_back(claimed[5]);
            assert_eq!(table.claim(msi(2)), Ok(claimed[5]));
        }
    }

    #[test]
    fn only_pins_below_24_can_be_kept() {
        let mut table = RouteTable::new(Vec::new(), 26);
        table.claim(msi(1)).unwrap();
        let pin = |gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: 0 };
        assert_eq!(table.keep(vec![pin(23), pin(24)]), Err(KeepError::Gsi(24)));
        let many: Vec<RouteEntry> = (0..23).chain(0..3).map(pin).collect();
        assert!(matches!(table.keep(many), Err(KeepError::OutOfRoutes(_))));
        assert_eq!(table.keep(vec![pin(3)]), Ok(Vec::new()));
        assert_eq!(table.plan().len(), 2);
    }
}
