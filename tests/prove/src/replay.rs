//! A counterexample of MSI-X as a script for `msix replay`: ordinary inputs that lead to its state, if any
//! do, and then its input.

#[path = "../../../sim/explorer/src/script/line.rs"]
mod line;

use crate::case::Case;
use crate::engine::{EXEMPT, Engine};
use crate::sink::{Kinds, Sink};
use msix_core::operation::Operation;
use msix_core::policy::Policy;
use msix_core::prove::{Lane, Whole};
use msix_core::{BarIndex, Boxed, Layout, Msix, Vector, Vectors};
use std::cell::RefCell;
use std::collections::HashSet;

/// What of a state matters to one vector.
type State = (Whole, Lane);

/// The most states that are looked at.
const MOST: usize = 200_000;

/// A counterexample, as far as it is known.
struct Given {
    policy: Policy,
    vectors: u16,
    vector: Vector,
    state: State,
    input: Option<Operation>,
}

thread_local! {
    static GIVEN: RefCell<Option<Given>> = const { RefCell::new(None) };
}

/// Notes the state in which a harness begins.
pub fn begun(engine: &Engine<'_>, vector: Vector, case: &Case) {
    let state = (case.whole, case.lane);
    let (policy, vectors) = (case.policy, engine.vectors());
    GIVEN.set(Some(Given { policy, vectors, vector, state, input: None }));
}

/// Notes the input of a harness; none if a script has no words for it.
pub fn input(operation: impl FnOnce() -> Option<Operation>) {
    GIVEN.with_borrow_mut(|given| {
        if let Some(given) = given {
            given.input = operation();
        }
    });
}

/// Prints the script, given what the input led to.
pub fn ended(now: &Case, kinds: Kinds) {
    let Some(given) = GIVEN.take().filter(|_| crate::show::wanted()) else { return };
    match script(&given, (now.whole, now.lane), kinds) {
        Ok(script) => {
            println!("    script for `msix replay`, without the spaces in front:\n{script}")
        }
        Err(why) => println!("    no script for `msix replay`: {why}"),
    }
}

fn script(given: &Given, got: State, kinds: Kinds) -> Result<String, String> {
    let policy = match given.policy {
        Policy::SPEC => "spec",
        Policy::QEMU => "qemu",
        _ => return Err("its policy is neither spec nor qemu".to_owned()),
    };
    if EXEMPT.is_some() {
        return Err("messages are exempt from masks".to_owned());
    }
    let input = given.input.ok_or("it has no words for the input")?;
    let (mut engine, mut inputs) = search(given)?;
    let mut fx = Sink::new(given.vectors, given.vector);
    let mut scratch = scratch(&engine);
    input.apply(&mut engine, &mut scratch, &mut fx);
    if (state(&engine, given.vector), fx.kinds) != (got, kinds) {
        return Err("the state of other vectors matters, which is as after reset there".to_owned());
    }
    inputs.push(input);
    let mut text = format!("msix-script 1\nvectors {}\npolicy {policy}", given.vectors);
    inputs.iter().for_each(|input| text += &format!("\n{}", line::line(input)));
    Ok(text)
}

fn state(engine: &Msix<Boxed>, vector: Vector) -> State {
    (engine.whole(), engine.lane(vector))
}

fn scratch(engine: &Msix<Boxed>) -> Vec<u8> {
    vec![0; engine.saved_len()]
}

/// Searches the states that inputs about the vector lead to, those after few inputs first. Returns an
/// engine in the state that is given, and the inputs.
fn search(given: &Given) -> Result<(Msix<Boxed>, Vec<Operation>), String> {
    let bar = BarIndex::new(0).map_err(|error| error.to_string())?;
    let layout = Layout::exclusive_bar(given.vectors.into(), bar);
    let layout = layout.map_err(|error| error.to_string())?;
    let first = Msix::<Boxed>::new(layout, given.policy).map_err(|error| error.to_string())?;
    let alphabet = alphabet(given);
    let mut seen = HashSet::from([state(&first, given.vector)]);
    let mut scratch = scratch(&first);
    let mut reached = vec![(first, None)];
    let mut at = 0;
    while let Some((engine, _)) = reached.get(at) {
        if state(engine, given.vector) == given.state {
            let (engine, mut inputs) = (engine.clone(), Vec::new());
            while let Some((_, Some((before, input)))) = reached.get(at) {
                inputs.push(*input);
                at = *before;
            }
            inputs.reverse();
            return Ok((engine, inputs));
        }
        if seen.len() > MOST {
            return Err(format!("none of the first {MOST} states that inputs lead to is this one"));
        }
        let engine = engine.clone();
        for input in &alphabet {
            let mut next = engine.clone();
            let mut fx = Sink::new(given.vectors, given.vector);
            input.apply(&mut next, &mut scratch, &mut fx);
            let (_, lane) = state(&next, given.vector);
            if lane.claims <= given.state.1.claims.max(1) && seen.insert(state(&next, given.vector))
            {
                reached.push((next, Some((at, *input))));
            }
        }
        at += 1;
    }
    let all = seen.len();
    Err(format!("none of the {all} states that inputs about the vector lead to is this one"))
}

/// Returns the inputs that may lead to the state.
fn alphabet(given: &Given) -> Vec<Operation> {
    let v = given.vector;
    let one = Vectors::new(v.index() / 64, 1 << (v.index() % 64));
    let [low, high, data, control] = given.state.1.entry;
    let mut inputs = vec![
        Operation::Claim(v),
        Operation::Unclaim(v),
        Operation::Notify(v),
        Operation::Attach,
        Operation::Detach,
        Operation::ReportFailed(one),
        Operation::ReportHeld(one),
        Operation::SetBusMaster(false),
        Operation::SetBusMaster(true),
        Operation::PrepareSave,
        Operation::SaveAndLoad,
        Operation::SaveAndLoadQemu,
        Operation::Resume,
    ];
    for value in [0, 0x4000, 0x8000, 0xc000] {
        inputs.push(Operation::WriteConfig { offset: 2, len: 2, value });
    }
    // Another message is told before the one that is stale.
    let dwords = [(0, low), (4, high), (8, data), (8, data ^ 1), (12, control), (12, control | 1)];
    for (at, value) in dwords {
        let offset = v.index().wrapping_mul(16).wrapping_add(at);
        inputs.push(Operation::WriteTable { offset, len: 4, value: value.into() });
    }
    inputs
}
