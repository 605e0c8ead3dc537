//! Random histories of a guest that switches modes and allocations, with random failures: every event
//! is delivered in the end, or left to the pin, and none more often than it was fired.

use super::both::{MSI, World};
use super::save_and_load;
use crate::kvm::{EventfdOrigin, Irqchip, RouteOptions, VmCall};
use fastrand::Rng;
use msix_core::{Delivery, Function as Engine, Policy};

struct History {
    world: World,
    random: Rng,
    fired: usize,
    got: usize,
    /// By device vector: fired, and nothing delivered since that stands for it.
    owed: [bool; MSI as usize],
    /// A message that was sent late, or by an eventfd that KVM did not let go of, has the number of
    /// an allocation that is gone: which events it stands for is unknown here.
    is_vague: bool,
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let limit = match seed % 7 {
            0 => 42,
            1 => 0,
            _ => 4096,
        };
        let options = RouteOptions { limit, ..RouteOptions::new(Irqchip::Full) };
        let world = World::with(EventfdOrigin::Own, Policy::SPEC, options);
        let log = vec![format!("seed {seed}")];
        let random = Rng::with_seed(seed);
        Self { world, random, fired: 0, got: 0, owed: [false; MSI as usize], is_vague: false, log }
    }

    fn step(&mut self) {
        let vector = self.random.u16(0..MSI);
        let step = self.random.u8(0..24);
        self.log.push(format!("{step} on v{vector}"));
        let world = &self.world;
        match step {
            0..6 => self.fire(vector),
            6..10 => self.write_eventfd(vector),
            10..13 => world.msi(self.random.u8(0..4)),
            13 => world.msi_off(),
            14..16 => world.msix(true),
            16..18 => world.msix(false),
            18 => world.function.write_msi(12, &[self.random.u8(..)]),
            19 => {
                let masked = u32::from(self.random.bool());
                world.function.write_table(u64::from(vector % 4) * 16 + 12, &masked.to_le_bytes());
            }
            20 => world.routes.flush(),
            21 => {
                save_and_load(&world.function, self.random.bool());
            }
            22 => {
                world.function.detach();
                world.function.attach();
            }
            _ => {
                let broken: [fn(VmCall) -> bool; 4] = [
                    |call| call == VmCall::SetRoutes,
                    |call| matches!(call, VmCall::Assign(_)),
                    |call| matches!(call, VmCall::Signal(_)),
                    |call| matches!(call, VmCall::Deassign(_)),
                ];
                let chosen = self.random.usize(0..4);
                let broken = Some(broken[chosen]).filter(|_| self.random.bool());
                self.is_vague |= broken.is_some() && chosen >= 2;
                world.fake.fail(move |_, call| broken.is_some_and(|broken| broken(call)));
            }
        }
        self.look();
    }

    fn fire(&mut self, vector: u16) {
        let of_msix = self.world.function.inspect(|engine| engine.mode() == msix_core::Mode::MsiX);
        if of_msix && vector >= 4 {
            return; // MSI-X has no such vector
        }
        match self.world.fire(vector) {
            Delivery::Intx => {}
            _ => self.owe(vector),
        }
    }

    fn write_eventfd(&mut self, vector: u16) {
        self.world.eventfd(vector).write(1).unwrap();
        self.owe(vector);
    }

    fn owe(&mut self, vector: u16) {
        self.fired += 1;
        self.owed[usize::from(vector)] = true;
    }

    fn look(&mut self) {
        let allocated = self.world.function.inspect(|engine| engine.msi().unwrap().allocated());
        for data in self.world.delivered() {
            self.got += 1;
            let number = data as usize & 0xf;
            if data < 0x50 {
                self.owed[number] = false;
                continue;
            }
            let folded = self.owed.iter_mut().skip(number).step_by(allocated.into());
            folded.for_each(|owed| *owed = false);
        }
        assert!(self.got <= self.fired, "{} of {}: {:?}", self.got, self.fired, self.log);
        assert!(self.world.function.inspect(Engine::check), "{:?}", self.log);
    }

    /// The guest lets everything through in both modes, and the kernel works again.
    fn end(mut self) {
        self.world.fake.heal();
        self.world.routes.flush();
        self.look();
        self.world.function.write_msi(12, &[0]);
        self.look();
        for vector in 0..4 {
            self.world.function.write_table(vector * 16 + 12, &[0; 4]);
        }
        self.look();
        self.world.msi(3);
        self.look();
        self.world.msix(true);
        self.world.routes.flush();
        self.look();
        self.world.msix(false);
        self.world.routes.flush();
        self.look();
        for (vector, owed) in self.owed.iter().enumerate() {
            assert!(!owed || self.is_vague, "an event of v{vector} is lost: {:?}", self.log);
        }
        let World { fake, routes, function, .. } = self.world;
        drop(function);
        assert_eq!((routes.stats().gsis, fake.armed()), (0, 0), "{:?}", self.log);
    }
}

#[test]
fn every_event_is_delivered_in_the_end_whatever_modes_it_meets() {
    for seed in 0..3000 {
        let mut history = History::new(seed);
        (0..60).for_each(|_| history.step());
        history.end();
    }
}
