//! The host, as the engine sees it.

use crate::panics::Panics;
use msix_core::{Effect, Effects, Message, Msix, Storage, Vector, Vectors};
use smallvec::SmallVec;
use std::mem::discriminant;

/// A vector and the message it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The vector.
    pub vector: Vector,
    /// Its message, complete.
    pub message: Message,
}

/// What a host does for a function's vectors: one method for each kind of effect. No method has a
/// default: a forgotten handler loses interrupts, so it must not compile.
///
/// # When it is called
/// By [`carry_out`], in the thread that calls that, after the input that emitted the effects and before
/// the next one. The effects of one kind that an input emits arrive in one call, so that a host can
/// answer them with one system call (C38); the kinds come in the order of [`Effect`] (I5). For each
/// vector, [`arm`](Self::arm) and [`disarm`](Self::disarm) alternate; [`reroute`](Self::reroute) comes
/// only in between, and [`poll`](Self::poll) and [`drain`](Self::drain) only outside, for events that
/// the host holds. A vector is named once in a call.
///
/// The engine is borrowed meanwhile, so a handler cannot use it: a message that the guest aimed at the
/// function's own table must be dispatched after [`carry_out`] has returned.
///
/// # A host that only sends
/// It refuses to deliver by itself; the engine then asks for every message.
///
/// ```
/// use msix_backends::{Host, Route, carry_out};
/// use msix_core::*;
///
/// #[derive(Default)]
/// struct Sender(Vec<Message>);
///
/// impl Host for Sender {
///     fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
///         routes.iter().map(|route| route.vector).collect()
///     }
///     fn disarm(&mut self, _: &[Vectors]) {}
///     fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
///         self.arm(routes)
///     }
///     fn send(&mut self, route: Route) {
///         self.0.push(route.message); // to the interrupt controller, or to memory
///     }
///     fn poll(&mut self, _: &[Vectors]) -> Vec<Vectors> {
///         vec![] // it holds no events
///     }
///     fn drain(&mut self, _: &[Vectors]) {}
///     fn snoop(&mut self, _: Route) {}
///     fn intx_deassert(&mut self) {}
///     fn intx_reevaluate(&mut self) {}
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = Layout::exclusive_bar(1, BarIndex::new(0)?)?;
/// let mut msix = Msix::<Inline<1, 1>>::new(layout, Policy::SPEC)?;
/// let (mut fx, mut host) = (Effects::<5>::new(), Sender::default());
/// msix.claim(Vector::new(0), &mut fx)?;
/// msix.attach(&mut fx)?;
/// msix.write_config(2, &[0x00, 0x80], &mut fx)?; // MSI-X Enable
/// carry_out(&mut msix, &mut fx, &mut host);
/// msix.write_table(0xc, &0_u32.to_le_bytes(), &mut fx)?; // unmasked
/// carry_out(&mut msix, &mut fx, &mut host);
/// msix.notify(Vector::new(0), &mut fx)?;
/// carry_out(&mut msix, &mut fx, &mut host);
/// assert_eq!(host.0, [Message { address: 0, data: 0 }]); // the guest programmed no other
/// # Ok(())
/// # }
/// ```
#[cfg_attr(test, mockall::automock)]
pub trait Host {
    /// Delivers these from now on: routes, then arms them (K6). Returns those it cannot deliver,
    /// which the engine then sends through [`send`](Self::send) (H11).
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector>;
    /// Stops delivering these (H1). Must not fail; from now on the host holds their events, until a
    /// poll or the next Arm.
    fn disarm(&mut self, vectors: &[Vectors]);
    /// Changes the messages of these live vectors (H4). Returns those it cannot reroute, which it
    /// must no longer deliver: the guest has replaced the old message.
    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector>;
    /// Sends one message now, from userspace. If that fails, the host must send it later or give it
    /// back through a poll, because the engine has forgotten it.
    fn send(&mut self, route: Route);
    /// Returns which of these have held events, and takes the events from where they are held (K8,
    /// H13).
    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors>;
    /// Throws away the held events of these (H8).
    fn drain(&mut self, vectors: &[Vectors]);
    /// Notes that the guest wrote an entry (Xen, G2).
    fn snoop(&mut self, route: Route);
    /// Lowers the INTx line: MSI-X was enabled (A10).
    fn intx_deassert(&mut self);
    /// Drives the INTx line as the device's status says: MSI-X was disabled (A10, H17).
    fn intx_reevaluate(&mut self);
}

/// Carries out `fx` on `host` in order, reports the host's answers to `msix`, and carries out what
/// that emits, until nothing is left. It ends, because an answer can only cause Send.
///
/// # Panics
/// When the host does, after the rest was carried out: no effect is lost. Vectors that it did not
/// arm or reroute for that are reported as failed.
pub fn carry_out<S: Storage, H: Host, const CAP: usize>(
    msix: &mut Msix<S>,
    fx: &mut Effects<CAP>,
    host: &mut H,
) {
    let (mut held, mut panics) = (Vec::new(), Panics::default());
    run(msix, fx, host, &mut held, &mut panics);
    for vectors in held {
        if msix.report_held(vectors, fx).is_ok() {
            run(msix, fx, host, &mut Vec::new(), &mut panics);
        }
    }
    panics.resume();
}

fn run<S: Storage, H: Host, const CAP: usize>(
    msix: &mut Msix<S>,
    fx: &mut Effects<CAP>,
    host: &mut H,
    held: &mut Vec<Vectors>,
    panics: &mut Panics,
) {
    let mut next = fx.take();
    while let Some(effect) = next {
        // The sets of one kind stand together in a list (I5).
        let mut sets = Sets::from_buf([effect.vectors()]);
        next = loop {
            match fx.take() {
                Some(more) if discriminant(&more) == discriminant(&effect) => {
                    sets.push(more.vectors());
                }
                other => break other,
            }
        };
        match one_kind(host, effect, &sets, |vector| msix.message(vector), panics) {
            HostAnswer::Done => {}
            HostAnswer::Failed(vectors) => {
                vectors.into_iter().for_each(|vector| msix.report_failed(Vectors::one(vector)));
            }
            HostAnswer::Held(sets) => held.extend(sets),
        }
    }
}

/// Sets of one kind of effect.
pub(crate) type Sets = SmallVec<[Vectors; 1]>;

/// A host's answer to effects of one kind.
#[derive(Debug)]
pub(crate) enum HostAnswer {
    /// They need none.
    Done,
    /// Vectors that it could not arm or reroute.
    Failed(Vec<Vector>),
    /// Vectors with events that it held.
    Held(Vec<Vectors>),
}

/// Carries out one kind of effect for all its sets. A vector that a panic of the host left out is one
/// that the host could not arm or reroute.
#[inline(always)]
pub(crate) fn one_kind<H: Host>(
    host: &mut H,
    effect: Effect,
    sets: &[Vectors],
    message: impl Fn(Vector) -> Option<Message>,
    panics: &mut Panics,
) -> HostAnswer {
    match effect {
        Effect::Poll(_) => {
            let held = panics.catch(|| host.poll(sets));
            return HostAnswer::Held(held.unwrap_or_default());
        }
        Effect::Arm(_) | Effect::Reroute(_) | Effect::Send(_) | Effect::Snoop(_) => {
            let route = |vector| message(vector).map(|message| Route { vector, message });
            let (one, many);
            let routes = match only(sets) {
                Some(vector) => {
                    one = route(vector);
                    one.as_slice()
                }
                None => {
                    many = collect(sets, route);
                    &many
                }
            };
            return with_messages(host, effect, sets, routes, panics);
        }
        Effect::Disarm(_) => _ = panics.catch(|| host.disarm(sets)),
        Effect::Drain(_) => _ = panics.catch(|| host.drain(sets)),
        Effect::IntxDeassert => _ = panics.catch(|| host.intx_deassert()),
        Effect::IntxReevaluate => _ = panics.catch(|| host.intx_reevaluate()),
    }
    HostAnswer::Done
}

/// Carries out a kind of effect for which the host needs the messages of the vectors in `sets`.
#[inline(always)]
fn with_messages<H: Host>(
    host: &mut H,
    effect: Effect,
    sets: &[Vectors],
    routes: &[Route],
    panics: &mut Panics,
) -> HostAnswer {
    let failed = match effect {
        Effect::Arm(_) => panics.catch(|| host.arm(routes)),
        Effect::Reroute(_) => panics.catch(|| host.reroute(routes)),
        Effect::Send(_) => {
            routes.iter().for_each(|route| _ = panics.catch(|| host.send(*route)));
            return HostAnswer::Done;
        }
        // Snoop, the last of them.
        _ => {
            routes.iter().for_each(|route| _ = panics.catch(|| host.snoop(*route)));
            return HostAnswer::Done;
        }
    };
    match failed {
        Some(failed) if failed.is_empty() => HostAnswer::Done,
        Some(failed) => HostAnswer::Failed(failed),
        None => HostAnswer::Failed(sets.iter().flat_map(|set| set.iter()).collect()),
    }
}

/// Returns the only vector of `sets`, as most inputs have it.
#[inline(always)]
fn only(sets: &[Vectors]) -> Option<Vector> {
    let [set] = sets else { return None };
    if set.bits().is_power_of_two() { set.iter().next() } else { None }
}

/// Collects the routes of all vectors of `sets`.
// Apart: most inputs have one vector.
#[inline(never)]
fn collect(sets: &[Vectors], route: impl Fn(Vector) -> Option<Route>) -> Vec<Route> {
    // Room at once: an iterator of bits does not say how long it is.
    let members: u32 = sets.iter().map(|set| set.bits().count_ones()).sum();
    let mut routes = Vec::with_capacity(members as usize);
    routes.extend(sets.iter().flat_map(|set| set.iter()).filter_map(route));
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use mockall::{Sequence, predicate::eq};
    use msix_core::{BarIndex, Delivery, Inline, Layout, MAX_EFFECTS, Policy};

    const V0: Vector = Vector::new(0);
    const V1: Vector = Vector::new(1);

    fn engine() -> (Msix<Inline<2, 1>>, Effects<5>) {
        let layout = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
        let mut msix = Msix::new(layout, Policy::SPEC).unwrap();
        let mut fx = Effects::new();
        for vector in [V0, V1] {
            msix.claim(vector, &mut fx).unwrap();
            msix.write_table(u64::from(vector.index()) * 16, &[0x10, 0xee, 0, 0], &mut fx).unwrap();
        }
        msix.attach(&mut fx).unwrap();
        msix.write_config(3, &[0x80], &mut fx).unwrap();
        while fx.take().is_some() {}
        (msix, fx)
    }

    #[test]
    fn a_vector_that_the_host_cannot_arm_falls_back_alone_and_is_tried_again() {
        let (mut msix, mut fx) = engine();
        let mut host = MockHost::new();
        let mut order = Sequence::new();
        let one = |routes: &[Route]| routes.len() == 1;
        host.expect_arm()
            .withf(one)
            .times(1)
            .in_sequence(&mut order)
            .returning(|routes| vec![routes[0].vector]);
        host.expect_arm().withf(one).times(1).in_sequence(&mut order).returning(|_| Vec::new());
        let message = Message { address: 0xee10, data: 0 };
        host.expect_send().with(eq(Route { vector: V0, message })).times(1).return_const(());
        host.expect_disarm().withf(|sets| sets == [Vectors::one(V0)]).times(1).return_const(());
        host.expect_arm().withf(one).times(1).returning(|_| Vec::new());

        for vector in [V0, V1] {
            msix.set_mask(vector, false, &mut fx).unwrap();
            carry_out(&mut msix, &mut fx, &mut host);
        }
        assert_eq!((msix.is_fallback(V0), msix.is_fallback(V1)), (Some(true), Some(false)));
        msix.notify(V0, &mut fx).unwrap();
        carry_out(&mut msix, &mut fx, &mut host);
        for masked in [true, false] {
            msix.set_mask(V0, masked, &mut fx).unwrap();
            carry_out(&mut msix, &mut fx, &mut host);
        }
        assert_eq!(msix.is_fallback(V0), Some(false));
        assert_eq!(msix.counters().failures, 1);
    }

    #[test]
    fn a_panic_of_the_host_costs_no_other_effect() {
        let (mut msix, mut fx) = engine();
        msix.write_config(3, &[0xc0], &mut fx).unwrap();
        while fx.take().is_some() {}
        for vector in [V0, V1] {
            msix.set_mask(vector, false, &mut fx).unwrap();
            assert_eq!(msix.notify(vector, &mut fx), Ok(Delivery::Pending));
        }
        let mut host = MockHost::new();
        host.expect_arm().times(1).returning(|_| panic!("a bug of the VMM"));
        let sent = |vector| move |route: &Route| route.vector == vector;
        host.expect_send().withf(sent(V0)).times(1).returning(|_| panic!("another one"));
        host.expect_send().withf(sent(V1)).times(1).return_const(());
        msix.write_config(3, &[0x80], &mut fx).unwrap();
        let carried_out = std::panic::AssertUnwindSafe(|| carry_out(&mut msix, &mut fx, &mut host));
        let panic = std::panic::catch_unwind(carried_out).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a bug of the VMM"), "the first one");
        assert_eq!((msix.is_fallback(V0), msix.is_fallback(V1)), (Some(true), Some(true)));
        assert!(fx.is_empty());
    }

    #[test]
    fn an_event_the_host_kept_reaches_the_pba_and_then_the_guest() {
        let (mut msix, mut fx) = engine();
        let mut host = MockHost::new();
        host.expect_poll()
            .withf(|sets| sets == [Vectors::new(0, 0b11)])
            .times(1)
            .returning(|_| vec![Vectors::new(0, 0b10)]);
        msix.poll_pba(0, 8, &mut fx).unwrap();
        carry_out(&mut msix, &mut fx, &mut host);
        let mut pba = [0; 8];
        msix.read_pba(0, &mut pba);
        assert_eq!(pba, [2, 0, 0, 0, 0, 0, 0, 0]);

        host.expect_arm().times(1).returning(|_| Vec::new());
        host.expect_send().withf(|route| route.vector == V1).times(1).return_const(());
        msix.set_mask(V1, false, &mut fx).unwrap();
        carry_out(&mut msix, &mut fx, &mut host);
    }

    #[test]
    fn c38_what_one_input_emits_of_a_kind_is_one_call() {
        let layout = Layout::exclusive_bar(130, BarIndex::new(0).unwrap()).unwrap();
        let mut msix = Msix::<Inline<130, 3>>::new(layout, Policy::SPEC).unwrap();
        let mut fx = Effects::<MAX_EFFECTS>::new();
        for index in [0, 64, 129] {
            msix.claim(Vector::new(index), &mut fx).unwrap();
            msix.set_mask(Vector::new(index), false, &mut fx).unwrap();
            assert_eq!(msix.notify(Vector::new(index), &mut fx), Ok(Delivery::Pending));
        }
        msix.attach(&mut fx).unwrap();
        let mut host = MockHost::new();
        host.expect_intx_deassert().times(1).return_const(());
        let three = |routes: &[Route]| routes.iter().map(|r| r.vector.index()).eq([0, 64, 129]);
        host.expect_arm().withf(three).times(1).returning(|_| Vec::new());
        host.expect_send().times(3).return_const(());
        msix.write_config(3, &[0x80], &mut fx).unwrap();
        carry_out(&mut msix, &mut fx, &mut host);
        host.expect_poll().times(1).returning(|_| Vec::new());
        host.expect_disarm().withf(|sets| sets.len() == 3).times(1).return_const(());
        host.expect_intx_reevaluate().times(1).return_const(());
        msix.write_config(3, &[0], &mut fx).unwrap();
        carry_out(&mut msix, &mut fx, &mut host);
    }
}
