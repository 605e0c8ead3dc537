//! Counts of vectors, and the events for who looks from outside.

use super::{PATIENT, World};
use crate::kvm::{Deferral, VectorCounters, VmCall};
use msix_core::Vector;

fn counters(world: &World, vector: usize) -> VectorCounters {
    world.function.vector_counters()[vector]
}

#[test]
fn an_event_is_counted_by_who_took_it_and_what_became_of_it() {
    let world = World::new(2, PATIENT);
    // Masked, twice; unmasked, which sends.
    world.fire(1);
    world.fire(1);
    let pending = VectorCounters { taken: 2, pending: 2, ..VectorCounters::default() };
    assert_eq!(counters(&world, 1), pending);
    world.mask(1, false);
    assert_eq!(counters(&world, 1), VectorCounters { sent: 1, ..pending });
    // KVM has it.
    world.routes.flush();
    world.fire(1);
    world.fire(1);
    let given = VectorCounters { sent: 1, given: 2, ..pending };
    assert_eq!(counters(&world, 1), given);
    // Written by others while KVM has it: not seen; while masked: taken, when the guest looks.
    let eventfd = world.function.eventfd(Vector::new(1)).unwrap();
    eventfd.write(1).unwrap();
    assert_eq!(counters(&world, 1), given);
    assert_eq!(counters(&world, 0), VectorCounters::default());
    world.function.unclaim(Vector::new(0)).unwrap();
    world.fire(0);
    let dropped = VectorCounters { taken: 1, dropped: 1, ..VectorCounters::default() };
    assert_eq!(counters(&world, 0), dropped);
    world.function.reset();
    assert_eq!(counters(&world, 0), dropped, "a reset leaves them alone");
}

#[test]
fn what_the_kernel_refuses_is_counted() {
    let world = World::new(1, Deferral::NONE);
    world.fake.fail(|_, call| !matches!(call, VmCall::Deassign(_)));
    world.mask(0, false);
    world.fire(0);
    let refused = VectorCounters { taken: 1, refused: 1, fallbacks: 1, ..Default::default() };
    assert_eq!(counters(&world, 0), refused);
    world.fake.heal();
    world.routes.flush();
    assert_eq!(counters(&world, 0), VectorCounters { sent: 1, ..refused });
}

#[cfg(feature = "tracing")]
mod events {
    use super::super::{World, is_fallback, save_and_load};
    use crate::kvm::{Deferral, VmCall};
    use std::fmt::{Debug, Write as _};
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber, subscriber};

    /// Keeps the events of this crate as text, or panics at each.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>, bool);

    impl Log {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "msix_backends"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            assert!(!self.1, "a subscriber that panics");
            let mut fields = Fields(event.metadata().level().to_string());
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn commits_failures_fallbacks_and_restores_are_told() {
        let log = Log::default();
        subscriber::with_default(log.clone(), || {
            let world = World::new(2, Deferral::NONE);
            let number = world.function.number();
            assert_eq!(log.take(), [""; 0], "nothing was asked of the kernel");
            world.mask(0, false);
            assert_eq!(log.take(), ["DEBUG message=routes committed routes=41 generation=1"]);
            world.fire(0);
            assert_eq!(log.take(), [""; 0], "not for each event");
            world.fake.fail(|_, call| matches!(call, VmCall::Assign(_)));
            world.mask(1, false);
            assert_eq!(
                log.take(),
                [
                    "DEBUG message=routes committed routes=42 generation=2".to_owned(),
                    "WARN message=system call failed call=\"KVM_IRQFD, assign\" error=Invalid \
                     argument (os error 22)"
                        .to_owned(),
                    format!(
                        "WARN message=vector fell back to userspace function={number} mode=MsiX \
                         vector=1"
                    ),
                ]
            );
            world.fake.heal();
            save_and_load(&world.function, true);
            let told = log.take();
            assert_eq!(
                told.first().unwrap(),
                &format!("INFO message=snapshot loaded function={number}")
            );
            assert_eq!(told.last().unwrap(), &format!("INFO message=resumed function={number}"));
            world.function.load(&[0; 8]).unwrap_err();
            let refused = log.take();
            let expected = format!("WARN message=snapshot refused function={number} error=");
            assert!(refused.len() == 1 && refused[0].starts_with(&expected), "{refused:?}");
        });
    }

    #[test]
    fn a_subscriber_that_panics_costs_nothing_but_the_event() {
        subscriber::with_default(Log(Arc::default(), true), || {
            let world = World::new(2, Deferral::NONE);
            world.mask(0, false);
            world.fake.fail(|_, call| matches!(call, VmCall::Assign(_)));
            world.mask(1, false);
            assert!(is_fallback(&world.function, 1));
            save_and_load(&world.function, false);
            world.fire(0);
            world.fire(1);
            assert_eq!(world.delivered(), [0x40, 0x41]);
        });
    }
}
