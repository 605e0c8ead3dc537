//! The table of one lane in all its states. By the type of [`step`] it is a proof for every vector.

use super::case::case;
use super::*;
use std::vec::Vec;

/// The arguments of `step`.
type Input = (Told<bool>, Registers<bool>, Switches<bool>, bool);

/// Returns every combination of a lane's facts and the function's.
fn inputs() -> impl Iterator<Item = Input> {
    (0_u32..1 << 14).map(|bits| {
        let bit = |n: u32| bits >> n & 1 != 0;
        (
            Told { live: bit(0), fallback: bit(1), stale: bit(2) },
            Registers { masked: bit(3), exempt: bit(4), pending: bit(5), claimed: bit(6) },
            Switches {
                open: bit(7),
                function_masked: bit(8),
                loading: bit(9),
                attached: bit(10),
                bus_master: bit(11),
                lossy: bit(12),
            },
            bit(13),
        )
    })
}

/// Counts the states of a lane that `transition` answers differently from the rules.
fn differences(transition: impl Fn(Input) -> Step<bool>) -> usize {
    inputs().filter(|input| transition(*input) != case(input.0, input.1, input.2, input.3)).count()
}

fn stepped((told, registers, switches, complete): Input) -> Step<bool> {
    step(told, registers, switches, complete)
}

#[test]
fn every_state_of_a_lane_is_answered_as_the_rules_say() {
    assert_eq!(differences(stepped), 0);
}

#[test]
fn every_seeded_defect_is_found() {
    type Defect = fn(&mut Input);
    // Each makes the transition blind to something, or see something that is not there.
    let blind: [(&str, Defect); 14] = [
        ("ignores the mask bit", |i| i.1.masked = false),
        ("ignores the exemption", |i| i.1.exempt = false),
        ("exempts everything", |i| i.1.exempt = true),
        ("sends without a claim", |i| i.1.claimed = true),
        ("ignores Enable", |i| i.2.open = true),
        ("ignores Function Mask", |i| i.2.function_masked = false),
        ("does not wait for the resume", |i| i.2.loading = false),
        ("tells a host that is gone", |i| i.2.attached = true),
        ("sends without bus master", |i| i.2.bus_master = true),
        ("never loses", |i| i.2.lossy = false),
        ("always loses", |i| i.2.lossy = true),
        ("tells half a message", |i| i.3 = true),
        ("never tells a changed message", |i| i.3 = false),
        ("forgets what it told", |i| i.0.live = false),
    ];
    for (name, defect) in blind {
        let found = differences(|mut input| {
            defect(&mut input);
            stepped(input)
        });
        assert!(found > 0, "{name}");
    }
    type Spoilt = fn(Input, &mut Step<bool>);
    let spoilt: [(&str, Spoilt); 8] = [
        ("keeps the fallback", |i, s| s.told.fallback = i.0.fallback),
        ("keeps a disarmed vector's stale mark", |i, s| s.told.stale = i.0.stale && !s.reroute),
        ("tells a changed message again and again", |i, s| s.told.stale |= i.0.stale && s.reroute),
        ("keeps what it sent pending", |_, s| s.pending |= s.send),
        ("drops pending bits of masked vectors", |_, s| s.pending = false),
        ("reroutes what it arms", |_, s| s.reroute |= s.arm),
        ("disarms without forgetting", |_, s| s.told.live |= s.disarm),
        ("counts nothing as dropped", |_, s| s.dropped = false),
    ];
    for (name, spoil) in spoilt {
        let found = differences(|input| {
            let mut step = stepped(input);
            spoil(input, &mut step);
            step
        });
        assert!(found > 0, "{name}");
    }
}

#[test]
fn claims_matter_only_where_a_vector_is_ready() {
    for (told, registers, switches, complete) in inputs() {
        if !ready(registers, switches) {
            let other = Registers { claimed: !registers.claimed, ..registers };
            assert_eq!(
                step(told, registers, switches, complete),
                step(told, other, switches, complete)
            );
        }
    }
}

/// Returns the facts after a step, to step again.
fn after(step: Step<bool>, registers: Registers<bool>) -> (Told<bool>, Registers<bool>) {
    (step.told, Registers { pending: step.pending, ..registers })
}

#[test]
fn a_second_step_finds_nothing_left_to_do() {
    for (told, registers, switches, complete) in inputs() {
        let first = step(told, registers, switches, complete);
        let (told, registers) = after(first, registers);
        let second = step(told, registers, switches, complete);
        let none = (second.disarm, second.arm, second.reroute) == (false, false, false);
        let sent = second.send || second.dropped || second.lost;
        assert!(none && !sent && (second.told, second.pending) == (told, registers.pending));
    }
}

/// Inputs about all vectors emit kind by kind (I5): they step once for each kind, after carrying
/// out the kinds before it. The result is the same.
#[test]
fn disarming_first_arming_next_and_sending_last_is_the_same_step() {
    for (told, registers, switches, complete) in inputs() {
        let whole = step(told, registers, switches, complete);
        let mut now = told;
        let first = step(now, registers, switches, complete);
        now.live &= !first.disarm;
        now.fallback &= !first.disarm & now.live;
        now.stale &= !first.disarm & now.live;
        let second = step(now, registers, switches, complete);
        assert_eq!((second.disarm, second.arm), (false, whole.arm));
        now.live |= second.arm;
        let last = step(now, registers, switches, complete);
        assert_eq!((last.disarm, last.arm, last.reroute), (false, false, whole.reroute));
        assert_eq!((last.send, last.dropped, last.lost), (whole.send, whole.dropped, whole.lost));
        assert_eq!((last.told, last.pending), (whole.told, whole.pending));
    }
}

/// An input that only opens the function, when I1 held before, disarms nothing; one that only closes
/// it arms and sends nothing.
#[test]
fn opening_never_disarms_and_closing_never_arms_or_sends() {
    for (told, registers, switches, complete) in inputs() {
        let next = step(told, registers, switches, complete);
        if !switches.open {
            assert!(!next.arm && !next.send && !next.dropped && !next.lost);
        }
        if next.disarm {
            let closed = !switches.open || switches.function_masked || switches.loading;
            assert!(closed || !switches.attached || registers.masked);
        }
    }
}

#[test]
fn sixty_four_lanes_step_as_each_does_alone() {
    let all: Vec<Input> = inputs().collect();
    for (start, chunk) in (0_usize..).zip(all.chunks(64)) {
        // Lanes of one word share the function's switches; the rest is mixed over all states.
        let switches = chunk[start % 64].2;
        let lanes: Vec<Input> = (0..64).map(|k| all[(start * 64 + k * 4099) % all.len()]).collect();
        let word = |bit: &dyn Fn(&Input) -> bool| {
            lanes.iter().rev().fold(0_u64, |word, input| word << 1 | u64::from(bit(input)))
        };
        let ones = |bit: bool| if bit { u64::MAX } else { 0 };
        let together = step(
            Told {
                live: word(&|i| i.0.live),
                fallback: word(&|i| i.0.fallback),
                stale: word(&|i| i.0.stale),
            },
            Registers {
                masked: word(&|i| i.1.masked),
                exempt: word(&|i| i.1.exempt),
                pending: word(&|i| i.1.pending),
                claimed: word(&|i| i.1.claimed),
            },
            Switches {
                open: ones(switches.open),
                function_masked: ones(switches.function_masked),
                loading: ones(switches.loading),
                attached: ones(switches.attached),
                bus_master: ones(switches.bus_master),
                lossy: ones(switches.lossy),
            },
            word(&|i| i.3),
        );
        for (k, input) in lanes.iter().enumerate() {
            let alone = step(input.0, input.1, switches, input.3);
            let bit = |word: u64| word >> k & 1 != 0;
            assert_eq!((bit(together.arm), bit(together.disarm)), (alone.arm, alone.disarm));
            assert_eq!((bit(together.send), bit(together.lost)), (alone.send, alone.lost));
            assert_eq!(
                (bit(together.reroute), bit(together.dropped)),
                (alone.reroute, alone.dropped)
            );
            assert_eq!(bit(together.told.live), alone.told.live);
            assert_eq!(bit(together.told.fallback), alone.told.fallback);
            assert_eq!(bit(together.told.stale), alone.told.stale);
            assert_eq!(bit(together.pending), alone.pending);
        }
    }
}
