//! The invariants I1 to I7, for any sequence of inputs under any policy.

use msix_core::operation::{Answer, Operation};
use msix_core::policy::{PendingOnDisable, UnclaimedPending};
use msix_core::{
    Boxed, Effect, EffectSink, Effects, MAX_EFFECTS, Message, Msix, NotCarriedOut, Policy,
    Snapshot, Vector, VectorError, Vectors,
};
use msix_tests::lockstep::engine;
use msix_tests::lone_engine::LoneEngine;
use msix_tests::reference::Reference;
use msix_tests::strategy::{counts, operation, operations, policies};
use msix_tests::vector_effects::VectorEffect;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn config() -> ProptestConfig {
    // A failure is reported with its shrunk sequence; the sequence becomes a test of its own.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn cases() -> impl Strategy<Value = (u16, Vec<Operation>)> {
    counts().prop_flat_map(|n| (Just(n), operations(n)))
}

/// A history, and one input after it.
fn cases_and_one_more() -> impl Strategy<Value = (u16, Vec<Operation>, Operation)> {
    counts().prop_flat_map(|n| (Just(n), operations(n), operation(n)))
}

/// The vectors of the table that are in `set`.
fn members(set: Vectors, n: u16) -> Vec<u16> {
    (0..n).filter(|v| set.iter().any(|member| member.index() == *v)).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn after_every_input_the_engine_finds_nothing_wrong_with_itself(
        (n, operations) in cases(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        for operation in &operations {
            subject.apply(operation);
            prop_assert_eq!(subject.engine.check(), Ok(()), "after {:?}", operation);
        }
    }

    // I1, H1
    #[test]
    fn arms_and_disarms_of_a_vector_alternate(
        (n, operations) in cases(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        let mut live = BTreeSet::new();
        let (mut arms, mut disarms) = (0, 0);
        for operation in &operations {
            for effect in subject.apply_by_vector(operation).1 {
                match effect {
                    VectorEffect::Arm(v, _) => {
                        arms += 1;
                        prop_assert!(live.insert(v), "{v} armed twice, by {operation:?}");
                    }
                    VectorEffect::Disarm(v) => {
                        disarms += 1;
                        prop_assert!(live.remove(&v), "{v} disarmed unarmed, by {operation:?}");
                    }
                    _ => {}
                }
            }
            let believed: BTreeSet<u16> = subject.state().live.into_iter().collect();
            prop_assert_eq!(&believed, &live, "after {:?}", operation);
        }
        let counters = subject.engine.counters();
        prop_assert_eq!((counters.arms, counters.disarms), (arms, disarms));
    }

    // I2, I3, A7, A10: judged by the registers of the model
    #[test]
    fn exactly_the_pending_deliverable_claimed_vectors_send(
        (n, operations) in cases(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        let mut model = Reference::new(n, policy);
        for operation in &operations {
            let (_, effects) = subject.apply_by_vector(operation);
            model.apply(operation);
            for effect in effects {
                if let VectorEffect::Send(v, message) = effect {
                    let slot = usize::from(v);
                    prop_assert!(model.deliverable(slot), "{v} is not, {operation:?}");
                    prop_assert!(model.claims(slot) > 0, "{v} has no claim, {operation:?}");
                    prop_assert_eq!(message, model.message(slot));
                }
            }
            for v in 0..n {
                let slot = usize::from(v);
                let stuck = subject.engine.is_pending(Vector::new(v)) == Some(true)
                    && model.deliverable(slot)
                    && model.claims(slot) > 0;
                prop_assert!(!stuck, "{v} is, after {operation:?}");
            }
        }
    }

    // I4, A8, H9
    #[test]
    fn a_pending_bit_goes_only_with_a_send_or_for_a_named_reason(
        (n, operations) in cases(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        let mut bus_master = true;
        for operation in &operations {
            let before = subject.engine.clone();
            let (_, effects) = subject.apply_by_vector(operation);
            let after = &subject.engine;
            if let Operation::SetBusMaster(on) = operation {
                bus_master = *on;
            }
            for v in (0..n).map(Vector::new) {
                let gone = before.is_pending(v) == Some(true) && after.is_pending(v) == Some(false);
                let send = |effect: &VectorEffect| matches!(effect, VectorEffect::Send(s, _) if *s == v.index());
                let sent = effects.iter().any(send);
                let unclaimed = after.claims(v) == Some(0);
                let disabled = before.is_enabled() && !after.is_enabled();
                let named = match operation {
                    Operation::Withdraw(named) => *named == v,
                    Operation::Unclaim(named) => *named == v && unclaimed,
                    Operation::UnclaimAll | Operation::Reset => true,
                    Operation::WriteConfig { .. } if disabled =>
                        policy.pending_on_disable == PendingOnDisable::Drop,
                    _ => false,
                };
                let deliverable = after.is_deliverable(v) == Some(true);
                let lost = deliverable && unclaimed && policy.unclaimed_pending == UnclaimedPending::Lose;
                let thrown_away = deliverable && !bus_master;
                prop_assert!(!gone || sent || named || lost || thrown_away, "{v}, {operation:?}");
            }
        }
    }

    // I5, K6
    #[test]
    fn every_list_is_in_order_and_names_no_vector_twice(
        (n, operations) in cases(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        for operation in &operations {
            let (_, list) = subject.apply(operation);
            let place = |effect: &Effect| (rank(effect), effect.vectors().word());
            prop_assert!(list.is_sorted_by(|a, b| place(a) < place(b)), "{operation:?}: {list:?}");
            for effect in &list {
                let set = effect.vectors();
                let inside = members(set, n).len();
                let is_set = !matches!(effect, Effect::IntxDeassert | Effect::IntxReevaluate);
                prop_assert_eq!(is_set, set.bits() != 0, "{:?}: {:?}", operation, list);
                prop_assert_eq!(inside, usize::try_from(set.bits().count_ones()).unwrap(), "{:?}", list);
            }
        }
    }

    // I6, H22
    #[test]
    fn lists_keep_to_their_bounds((n, operations) in cases(), policy in policies()) {
        let mut subject = LoneEngine::new(n, policy);
        for operation in &operations {
            let one_vector = match operation {
                Operation::WriteTable { offset, len, .. } => offset % 16 + u16::from(*len) <= 16,
                Operation::Notify(_) | Operation::Withdraw(_) | Operation::Claim(_)
                | Operation::Unclaim(_) | Operation::SetMask(..) | Operation::SetMessage(..) => true,
                _ => false,
            };
            let bound = if one_vector { 4 } else { 2 + 3 * usize::from(n).div_ceil(64) };
            let (_, list) = subject.apply(operation);
            prop_assert!(list.len() <= bound, "{operation:?}: {} effects", list.len());
        }
    }

    // I7, C25, C07
    #[test]
    fn what_is_outside_the_table_changes_nothing(
        (n, operations) in cases(), policy in policies(),
        beyond in 0..40_u16, value in any::<u64>(), bits in any::<u64>(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&operations);
        let vector = Vector::new(n.saturating_add(beyond));
        let offset = (16 * n).saturating_add(beyond);
        let len = u8::try_from(beyond % 10).unwrap();
        let past = Vectors::new(n.div_ceil(64).saturating_add(beyond), bits);
        let tail = Vectors::new(n / 64, bits & u64::MAX << (n % 64));
        let message = Message { address: value, data: 7 };
        let before = subject.state();
        for operation in [
            Operation::Notify(vector), Operation::Withdraw(vector), Operation::Claim(vector),
            Operation::Unclaim(vector), Operation::SetMask(vector, value % 2 == 0),
            Operation::SetMessage(vector, message), Operation::ReportFailed(past),
            Operation::ReportHeld(past), Operation::ReportFailed(tail), Operation::ReportHeld(tail),
            Operation::WriteTable { offset, len, value },
            Operation::WriteConfig { offset: 12 + len, len, value },
            Operation::WriteConfig { offset: 4 + len, len, value }, // read-only
            Operation::WritePba { offset: beyond, len },
        ] {
            let (_, list) = subject.apply(&operation);
            prop_assert_eq!(&subject.state(), &before, "{:?}", operation);
            prop_assert!(list.is_empty(), "{operation:?}: {list:?}");
        }
    }

    #[test]
    fn no_event_is_lost_or_doubled((n, operations) in cases(), policy in policies()) {
        let mut subject = LoneEngine::new(n, policy);
        let mut events = 0;
        let pending = |subject: &LoneEngine| {
            subject.engine.pending().map(|set| u64::from(set.bits().count_ones())).sum::<u64>()
        };
        for operation in &operations {
            let (answer, _) = subject.apply(operation);
            events += match operation {
                Operation::Notify(_) if matches!(answer, Answer::Event(_)) => 1,
                Operation::ReportHeld(set) => members(*set, n).len() as u64,
                // The snapshot brings the events that its pending bits stand for.
                Operation::SaveAndLoad | Operation::SaveAndLoadQemu => pending(&subject),
                _ => 0,
            };
            let c = subject.engine.counters();
            let ended = c.sent + c.coalesced + c.withdrawn + c.to_intx + c.dropped();
            prop_assert_eq!(events, ended + pending(&subject), "after {:?}: {:?}", operation, c);
        }
    }

    #[test]
    fn an_input_is_refused_while_the_last_list_is_not_carried_out(
        (n, operations, one_more) in cases_and_one_more(), policy in policies(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&operations);
        let before = subject.state();
        let mut fx = Effects::<MAX_EFFECTS>::new();
        fx.push(Effect::IntxDeassert);
        let answer = subject.apply_with(&one_more, &mut fx);
        match one_more {
            // These need no list.
            Operation::ReadConfig { .. } | Operation::ReadTable { .. } | Operation::ReadPba { .. }
            | Operation::WritePba { .. } | Operation::ReportFailed(_) | Operation::SaveAndLoad
            | Operation::SaveAndLoadQemu => {}
            _ => {
                prop_assert_eq!(answer, Answer::Nothing);
                prop_assert_eq!(subject.state(), before);
            }
        }
        prop_assert_eq!(fx.iter().collect::<Vec<_>>(), [Effect::IntxDeassert]);
    }
}

/// Place of the kind in a list, as the documentation of [`Effect`] has it.
fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::IntxDeassert => 0,
        Effect::Poll(_) => 1,
        Effect::Disarm(_) => 2,
        Effect::Drain(_) => 3,
        Effect::Arm(_) => 4,
        Effect::Reroute(_) => 5,
        Effect::Snoop(_) => 6,
        Effect::Send(_) => 7,
        Effect::IntxReevaluate => 8,
    }
}

type Fx = Effects<MAX_EFFECTS>;
type Engine = Msix<Boxed>;
type VectorCall = fn(&mut Engine, Vector, &mut Fx) -> Result<(), VectorError>;
type Call = fn(&mut Engine, &mut Fx) -> Result<(), NotCarriedOut>;

#[test]
fn every_call_about_one_vector_says_which_error_it_was() {
    let calls: [VectorCall; 6] = [
        |engine, v, fx| engine.notify(v, fx).map(|_| ()),
        |engine, v, fx| engine.withdraw(v, fx).map(|_| ()),
        |engine, v, fx| engine.claim(v, fx),
        |engine, v, fx| engine.unclaim(v, fx),
        |engine, v, fx| engine.set_mask(v, false, fx),
        |engine, v, fx| engine.set_message(v, Message::default(), fx),
    ];
    for call in calls {
        let mut engine = engine(65, Policy::SPEC);
        let vector = Vector::new(65);
        let outside = Err(VectorError::OutOfRange { vector, vectors: 65 });
        assert_eq!(call(&mut engine, vector, &mut Fx::new()), outside);
        let mut fx = Fx::new();
        fx.push(Effect::IntxDeassert);
        let refused = Err(VectorError::NotCarriedOut);
        assert_eq!(call(&mut engine, Vector::new(64), &mut fx), refused);
    }
}

#[test]
fn every_call_about_the_function_says_that_the_list_is_not_carried_out() {
    let calls: [Call; 11] = [
        |engine, fx| engine.write_config(2, &[0, 0x80], fx),
        |engine, fx| engine.write_table(0, &[0; 4], fx).map(|_| ()),
        |engine, fx| engine.poll_pba(0, 8, fx),
        |engine, fx| engine.unclaim_all(fx),
        |engine, fx| engine.attach(fx),
        |engine, fx| engine.detach(fx),
        |engine, fx| engine.report_held(Vectors::new(0, 1), fx),
        |engine, fx| engine.set_bus_master(false, fx),
        |engine, fx| engine.reset(fx),
        |engine, fx| engine.prepare_save(fx),
        |engine, fx| engine.resume(fx),
    ];
    for call in calls {
        let mut fx = Fx::new();
        fx.push(Effect::IntxDeassert);
        assert_eq!(call(&mut engine(65, Policy::SPEC), &mut fx), Err(NotCarriedOut));
    }
}

#[test]
fn one_use_too_many_is_refused_and_counts_nothing() {
    let mut subject = LoneEngine::new(1, Policy::SPEC);
    let full = Snapshot { claims: vec![u16::MAX], ..subject.engine.snapshot() };
    subject.engine.load_snapshot(&full).expect("any number of claims is valid");
    let before = subject.state();
    let vector = Vector::new(0);
    let refused = subject.engine.claim(vector, &mut Fx::new());
    assert_eq!(refused, Err(VectorError::TooManyClaims { vector }));
    assert_eq!(subject.state(), before);
}
