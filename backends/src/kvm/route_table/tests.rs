use super::*;
use crate::kvm::RouteOptions;
use std::collections::BTreeMap;

fn message(data: u32) -> KvmMessage {
    KvmMessage { address_lo: 0xfee0_0000, address_hi: 0, data, device: None }
}

fn msi(data: u32) -> RouteTarget {
    RouteTarget::Msi(message(data))
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
    assert_eq!(plan[40], RouteEntry::Msi { gsi, msi: message(0x41) });
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
        gsis.map(|gsi| RouteEntry::Msi { gsi, msi: message(gsi) }).collect()
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
    let mut table = RouteTable::with_gsis(kept, 4096, Box::new(Odd(vec![9, 4096, 700, 700, 30])));
    assert_eq!(table.claim(msi(1), None), Ok(30));
    assert_eq!(table.claim(msi(2), None), Ok(700));
    assert!(table.claim(msi(3), None).is_err(), "700 is taken");
    assert!(table.claim(msi(3), None).is_err(), "4096 is none");
    assert_eq!(
        table.keep(vec![RouteEntry::Msi { gsi: 700, msi: message(1) }]),
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
    wanted: BTreeMap<u32, RouteTarget>,
    told: BTreeMap<u32, RouteTarget>,
}

impl Naive {
    fn compare(&self, table: &RouteTable) {
        let vectors = self.wanted.iter().map(|(&gsi, target)| target.entry(gsi));
        let mut plan = table.plan().to_vec();
        let kept: Vec<_> = plan.drain(..self.kept.len()).collect();
        plan.sort_unstable_by_key(|entry| entry.gsi());
        assert_eq!((kept, plan), (self.kept.clone(), vectors.collect::<Vec<_>>()));
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
            let message = match random.u32(0..6) {
                data @ 0..3 => msi(data),
                pin => RouteTarget::Pin { irqchip: 0, pin },
            };
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
