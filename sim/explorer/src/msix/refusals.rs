//! What must be refused in every state: it changes nothing and emits nothing (I7).

use super::alphabet::{Event, OTHER};
use super::engine::{Input, List};
use super::node::Node;
use super::property::{Found, Property};
use super::snapshots::Snapshot;
use super::tampering::SeededEngine;
use super::way::Way;
use super::world::MsixWorld;
use msix_core::operation::{Answer, Operation};
use msix_core::policy::{Policy, TableAccess};
use msix_core::{Access, Effect, EffectSink, Storage, Vector, Vectors};

/// What is refused whatever the state is.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    inputs: Vec<Operation>,
    /// Inputs that are refused only while the list of the last one is not carried out.
    early: Vec<Operation>,
    broken: Vec<Broken>,
}

/// Bytes that are no snapshot.
#[derive(Debug, Clone)]
struct Broken {
    name: &'static str,
    /// Message Control, when they would be in QEMU's encoding.
    control: Option<u16>,
    bytes: Vec<u8>,
}

impl Refusals {
    pub(crate) fn new(
        vectors: u16,
        at: &[Vector],
        policy: &Policy,
        events: &[Event],
        snapshots: &[Snapshot],
    ) -> Self {
        let inputs = events.iter().filter_map(|event| match event {
            Event::Input(operation) => Some(*operation),
            _ => None,
        });
        Self {
            early: inputs.take(EARLY).collect(),
            inputs: inputs_refused(vectors, at, policy),
            broken: broken(vectors, snapshots),
        }
    }
}

/// Checks that all of it is refused in `node`.
pub(crate) fn check<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Way> {
    // At once, because nearly always it is; what was not is found by trying each alone.
    let mut engine = node.engine.clone();
    let refused = inputs(world, node).all(|input| ignored(&mut engine, input))
        && all_wait(world, &mut engine)
        && !world.refusals.broken.iter().any(|bytes| bytes.loads(&mut engine));
    if refused && engine == node.engine { Ok(()) } else { Err(not_refused(world, node)) }
}

fn not_refused<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Way {
    let found = |detail: String| Found { property: Property::Refused, detail };
    for operation in inputs(world, node) {
        let mut engine = node.engine.clone();
        if !ignored(&mut engine, operation) || engine != node.engine {
            let found = found("an input that must be ignored is not".to_owned());
            return Way { found, steps: vec![(Event::Input(operation), 0)], tried: None };
        }
    }
    for bytes in &world.refusals.broken {
        let mut engine = node.engine.clone();
        if bytes.loads(&mut engine) || engine != node.engine {
            let found = found(format!("a load of {} is taken or changes something", bytes.name));
            let tried = Some(format!("load {}", bytes.name));
            return Way { found, steps: Vec::new(), tried };
        }
    }
    let mut engine = node.engine.clone();
    let early = "an input was carried out although the list of the last one was not";
    let several = "inputs that must be ignored are not, but each alone is";
    let waited = all_wait(world, &mut engine) && engine == node.engine;
    Way::from(found(if waited { several } else { early }.to_owned()))
}

/// Whether `operation` has no effect and is not answered as if it had one.
fn ignored<S: Storage>(engine: &mut SeededEngine<S>, operation: Operation) -> bool {
    let mut fx = List::new();
    let answer = engine.input(Input::Operation(operation), &mut fx);
    fx.is_empty() && !matches!(answer, Answer::Written(Access::Done))
}

/// Whether inputs add nothing to a list that is not carried out.
fn all_wait<S: Storage>(world: &MsixWorld<S>, engine: &mut SeededEngine<S>) -> bool {
    let mut fx = List::new();
    fx.push(Effect::IntxDeassert);
    for operation in &world.refusals.early {
        engine.input(Input::Operation(*operation), &mut fx);
    }
    fx.iter().count() == 1
}

impl Broken {
    /// Whether `engine` takes it.
    fn loads<S: Storage>(&self, engine: &mut SeededEngine<S>) -> bool {
        match self.control {
            None => engine.load_native(&self.bytes),
            Some(control) => engine.load_qemu(control, &self.bytes),
        }
    }
}

/// The inputs that are refused in `node`.
fn inputs<S: Storage + Clone>(
    world: &MsixWorld<S>,
    node: &Node<S>,
) -> impl Iterator<Item = Operation> {
    let lines = world.at.iter().zip(&node.host.lines).zip(&node.registers.entries);
    let here = lines.flat_map(|((v, line), entry)| {
        let late = (!line.armed).then_some(Operation::ReportFailed(Vectors::one(*v)));
        let unclaimed = entry.claims == 0 && !world.policy.drain;
        late.into_iter().chain(unclaimed.then_some(Operation::Unclaim(*v)))
    });
    world.refusals.inputs.iter().copied().chain(here)
}

/// The inputs that are refused in every state.
fn inputs_refused(n: u16, at: &[Vector], policy: &Policy) -> Vec<Operation> {
    let past = Vector::new(n);
    let mut inputs = vec![
        Operation::WriteConfig { offset: 0, len: 3, value: u64::MAX },
        Operation::WriteConfig { offset: 4, len: 8, value: u64::MAX },
        Operation::WriteConfig { offset: 12, len: 4, value: u64::MAX },
        Operation::WriteTable { offset: n * 16, len: 4, value: u64::MAX },
        Operation::WritePba { offset: 0, len: 8 },
        Operation::Notify(past),
        Operation::Withdraw(past),
        Operation::Claim(past),
        Operation::Unclaim(past),
        Operation::SetMask(past, false),
        Operation::SetMessage(past, OTHER),
        Operation::ReportHeld(Vectors::new(n.div_ceil(64), u64::MAX)),
        Operation::ReportFailed(Vectors::new(n.div_ceil(64), u64::MAX)),
    ];
    for v in at {
        let entry = v.index() * 16;
        let write =
            |(offset, len)| Operation::WriteTable { offset: entry + offset, len, value: u64::MAX };
        inputs.extend([(0, 1), (8, 2), (12, 1), (13, 2), (10, 4)].map(write));
        if policy.table_access == TableAccess::Aligned {
            inputs.extend([(4, 8), (11, 8), (9, 7)].map(write));
        }
    }
    inputs
}

/// Bytes that are no snapshot of `n` vectors, made of some that are.
fn broken(n: u16, snapshots: &[Snapshot]) -> Vec<Broken> {
    let [_, native, qemu] = snapshots else { return Vec::new() };
    let mut flipped = native.bytes().to_vec();
    if let Some(byte) = flipped.get_mut(12) {
        *byte ^= 1;
    }
    let short = |bytes: &[u8]| bytes.get(1..).unwrap_or_default().to_vec();
    let control = n - 1;
    [
        ("a snapshot with a wrong checksum", None, flipped),
        ("a snapshot cut short", None, short(native.bytes())),
        ("a QEMU field cut short", Some(control), short(qemu.bytes())),
        ("a QEMU field with a reserved control bit", Some(control | 0x800), qemu.bytes().to_vec()),
        ("a QEMU field of another size", Some(control ^ 1), qemu.bytes().to_vec()),
    ]
    .into_iter()
    .map(|(name, control, bytes)| Broken { name, control, bytes })
    .collect()
}

/// How many inputs are tried with a list that is not carried out.
const EARLY: usize = 8;
