//! Random histories with random failures: every event is delivered in the end, and none more often
//! than it was fired.

use super::{PATIENT, World, mask, program, save_and_load};
use crate::kvm::{Deferral, VmCall};
use fastrand::Rng;
use msix_core::{Function as Engine, Vector};

const VECTORS: u16 = 5;

#[derive(Debug, Default, Clone, Copy)]
struct Account {
    fired: usize,
    got: usize,
    /// Fired, and nothing delivered since.
    owed: bool,
}

struct History {
    world: World,
    random: Rng,
    accounts: [Account; VECTORS as usize],
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let deferral = if seed.is_multiple_of(3) { Deferral::NONE } else { PATIENT };
        let limit = if seed.is_multiple_of(7) { 42 } else { 4096 };
        let world = World::with_limit(VECTORS, deferral, limit);
        // From outside, but for the first two.
        for vector in 2..VECTORS {
            world.function.eventfd(Vector::new(vector)).unwrap();
        }
        let log = vec![format!("seed {seed}")];
        Self { world, random: Rng::with_seed(seed), accounts: Default::default(), log }
    }

    fn step(&mut self) {
        let vector = self.random.u16(0..VECTORS);
        let world = &self.world;
        let step = self.random.u8(0..24);
        self.log.push(format!("{step} on v{vector}"));
        match step {
            0..4 => mask(&world.function, vector, true),
            4..9 => mask(&world.function, vector, false),
            9..14 => {
                if vector < 2 || self.random.u8(0..4) == 0 {
                    world.fire(vector);
                } else {
                    let eventfd = world.function.eventfd(Vector::new(vector)).unwrap();
                    eventfd.write(1).unwrap();
                }
                let account = &mut self.accounts[usize::from(vector)];
                account.fired += 1;
                account.owed = true;
            }
            14 => world.function.write_msix(3, &[0xc0]),
            15 => world.function.write_msix(3, &[0x80]),
            16 => world.function.write_msix(3, &[0]),
            17 => world.routes.flush(),
            18 => _ = world.pba(),
            // Data are 0x40 + vector + a multiple of 8.
            19 => program(&world.function, vector, 0x40 + u32::from(vector) + 8),
            20 => program(&world.function, vector, 0x40 + u32::from(vector)),
            21 => {
                world.function.detach();
                world.function.attach();
            }
            22 => {
                save_and_load(&world.function, self.random.bool());
            }
            _ => {
                let broken: [fn(VmCall) -> bool; 4] = [
                    |call| call == VmCall::SetRoutes,
                    |call| matches!(call, VmCall::Assign(_)),
                    |call| matches!(call, VmCall::Signal(_)),
                    |call| matches!(call, VmCall::Deassign(_)),
                ];
                let broken = self.random.choice(broken).filter(|_| self.random.bool());
                world.fake.fail(move |_, call| broken.is_some_and(|broken| broken(call)));
            }
        }
        self.look();
    }

    fn look(&mut self) {
        for data in self.world.delivered() {
            let account = &mut self.accounts[(data & 7) as usize];
            account.got += 1;
            account.owed = false;
            assert!(account.got <= account.fired, "{data:#x} was sent too often: {:?}", self.log);
        }
        assert!(self.world.function.inspect(Engine::check), "{:?}", self.log);
    }

    /// The guest lets everything through, and the kernel works again.
    fn end(mut self) {
        self.world.fake.heal();
        self.world.function.write_msix(3, &[0x80]);
        (0..VECTORS).for_each(|vector| self.world.mask(vector, false));
        self.world.routes.flush();
        self.look();
        for (account, vector) in self.accounts.iter().zip(0..) {
            assert!(!account.owed, "an event of v{vector} is lost: {:?}", self.log);
        }
        let World { fake, routes, function } = self.world;
        drop(function);
        assert_eq!((routes.stats().gsis, fake.armed()), (0, 0), "{:?}", self.log);
    }
}

#[test]
fn every_event_is_delivered_in_the_end_and_none_too_often() {
    for seed in 0..3000 {
        let mut history = History::new(seed);
        (0..60).for_each(|_| history.step());
        history.end();
    }
}
