//! `msix replay` of a script: the engine alone, input by input.

use super::input::Twice;
use super::output::{self, Output, interrupted, status};
use crate::plural::counted;
use msix_core::operation::{Answer, Operation};
use msix_core::{
    Access, BarIndex, Boxed, Delivery, DropReason, Effect, Effects, Layout, MAX_EFFECTS, Msix,
    Policy, Vector, Vectors,
};
use msix_explorer::script::{self, ScriptError, ScriptReader};
use serde::Serialize;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// One input.
#[derive(Debug, Serialize)]
struct Step {
    input: String,
    effects: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// Reads all of `text` until `stop` is set, to find what is wrong with it. Returns it from the start.
pub(super) fn checked<'a>(
    text: &'a mut dyn Twice,
    stop: &AtomicBool,
) -> Result<ScriptReader<&'a mut dyn Twice>, String> {
    let failed = |error: ScriptError| error.to_string();
    for operation in ScriptReader::new(&mut *text).map_err(failed)? {
        operation.map_err(failed)?;
        if stop.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
    }
    text.rewind().map_err(|error| format!("cannot be read again: {error}"))?;
    ScriptReader::new(text).map_err(failed)
}

/// Runs the script `text` of file `name` and prints every input with what it led to.
///
/// Exit status: 0 all invariants hold, 1 one does not, 3 ended by a signal.
pub(super) fn run(
    name: &str,
    text: &mut dyn Twice,
    json: bool,
    stop: &AtomicBool,
) -> Result<ExitCode, String> {
    let stopped = || stop.load(Ordering::Relaxed);
    let script = match checked(text, stop) {
        Err(_) if stopped() => return interrupted(json),
        checked => checked.map_err(|error| format!("{name}: {error}"))?,
    };
    let (vectors, policy) = (script.vectors(), script.policy());
    let mut engine = Engine::new(vectors, policy)?;
    let mut output = Output::default();
    if json {
        output.part(&format!("{{\"vectors\":{vectors},\"policy\":\"{policy}\",\"steps\":["))?;
    } else {
        output.part(&format!("{}, policy {policy}\n", counted(vectors, "vector")))?;
    }
    let mut count = 0_u64;
    let mut interrupted = false;
    for operation in script {
        interrupted = stopped();
        if interrupted {
            break;
        }
        let step = engine.step(&operation.map_err(|error| format!("{name}: {error}"))?);
        if json {
            output.part(if count == 0 { "" } else { "," })?;
            output.json_part(&step)?;
        } else {
            output.part(&shown(&step))?;
        }
        count += 1;
        if engine.violation.is_some() {
            break;
        }
    }
    let violation = engine.violation;
    if json {
        output.part("],\"violation\":")?;
        output.json_part(&violation)?;
        output.line(&format!(",\"interrupted\":{interrupted}}}"))?;
    } else {
        let inputs = counted(count, "input");
        output.line(&match &violation {
            None if interrupted => format!("interrupted after {inputs}, all invariants hold"),
            None => format!("{inputs}, all invariants hold"),
            Some(violation) => format!("{inputs}, then: {violation}"),
        })?;
        if let Some(violation) = &violation {
            output::errors(&format!("{name}: {violation}\n"));
        }
    }
    Ok(status(violation.is_some(), interrupted))
}

/// The engine that a script is given to.
struct Engine {
    msix: Msix<Boxed>,
    fx: Effects<MAX_EFFECTS>,
    scratch: Vec<u8>,
    armed: BTreeSet<Vector>,
    /// The first thing that must not be.
    violation: Option<String>,
}

impl Engine {
    fn new(vectors: u16, policy: &str) -> Result<Self, String> {
        let policy = if policy == "qemu" { Policy::QEMU } else { Policy::SPEC };
        let bar = BarIndex::new(0).map_err(|error| error.to_string())?;
        let layout = Layout::exclusive_bar(vectors.into(), bar);
        let layout = layout.map_err(|error| error.to_string())?;
        let msix = Msix::<Boxed>::new(layout, policy).map_err(|error| error.to_string())?;
        let scratch = vec![0; msix.saved_len()];
        let (fx, armed) = (Effects::new(), BTreeSet::new());
        Ok(Self { msix, fx, scratch, armed, violation: None })
    }

    fn step(&mut self, operation: &Operation) -> Step {
        let Self { msix, fx, scratch, armed, violation } = self;
        let answer = operation.apply(msix, scratch, fx);
        let mut effects = Vec::new();
        while let Some(effect) = fx.take() {
            *violation = violation.take().or_else(|| misused(msix, effect, armed));
            effects.push(effect_text(msix, effect));
        }
        if let Err(broken) = msix.check() {
            violation.get_or_insert(format!("{broken:?}"));
        }
        Step { input: script::line(operation), effects, answer: answer_text(answer) }
    }
}

/// What is wrong with an effect, if anything: Arm and Disarm alternate (H1), and only what can be
/// delivered is sent (I3).
fn misused(msix: &Msix<Boxed>, effect: Effect, used: &mut BTreeSet<Vector>) -> Option<String> {
    let wrong = |v: &Vector| match effect {
        Effect::Arm(_) => !used.insert(*v),
        Effect::Disarm(_) => !used.remove(v),
        Effect::Reroute(_) => !used.contains(v),
        Effect::Send(_) => {
            msix.is_deliverable(*v) != Some(true) || msix.claims(*v).unwrap_or(0) == 0
        }
        _ => false,
    };
    let wrong: Vec<Vector> = effect.vectors().iter().filter(wrong).collect();
    (!wrong.is_empty()).then(|| format!("{effect:?} must not speak of {wrong:?}"))
}

fn effect_text(msix: &Msix<Boxed>, effect: Effect) -> String {
    let message = |v: Vector| {
        let message = msix.message(v).unwrap_or_default();
        format!("{v} ({:#x} <- {:#x})", message.address, message.data)
    };
    match effect {
        Effect::IntxDeassert => "INTx: deassert".to_owned(),
        Effect::IntxReevaluate => "INTx: re-evaluate".to_owned(),
        Effect::Poll(set) => format!("poll {}", listed(set, |v| v.to_string())),
        Effect::Disarm(set) => format!("disarm {}", listed(set, |v| v.to_string())),
        Effect::Drain(set) => format!("drain {}", listed(set, |v| v.to_string())),
        Effect::Snoop(set) => format!("snoop {}", listed(set, |v| v.to_string())),
        Effect::Arm(set) => format!("arm {}", listed(set, message)),
        Effect::Reroute(set) => format!("reroute {}", listed(set, message)),
        Effect::Send(set) => format!("send {}", listed(set, message)),
    }
}

/// The members of a set; more than four as a mask of their word.
fn listed(set: Vectors, name: impl FnMut(Vector) -> String) -> String {
    if set.bits().count_ones() > 4 {
        return format!(
            "{} vectors: {:#x} of word {}",
            set.bits().count_ones(),
            set.bits(),
            set.word()
        );
    }
    set.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn answer_text(answer: Answer) -> Option<String> {
    let access = |access| match access {
        Access::Done => "done",
        Access::Unsupported => "ignored: undefined width or alignment",
        Access::OutOfRange => "ignored: past the end",
        Access::ReadOnly => "ignored: read-only",
    };
    Some(match answer {
        Answer::Nothing => return None,
        Answer::Written(Access::Done) => return None,
        Answer::Written(how) => access(how).to_owned(),
        Answer::Read(Access::Done, value) => format!("reads {value:#x}"),
        Answer::Read(how, value) => format!("reads {value:#x}, {}", access(how)),
        Answer::Withdrawn(true) => "was pending".to_owned(),
        Answer::Withdrawn(false) => "was not pending".to_owned(),
        Answer::Event(Delivery::Sent) => "sent".to_owned(),
        Answer::Event(Delivery::Pending) => "pending".to_owned(),
        Answer::Event(Delivery::Coalesced) => "pending already".to_owned(),
        Answer::Event(Delivery::Intx) => "left to INTx".to_owned(),
        Answer::Event(Delivery::Dropped(reason)) => match reason {
            DropReason::Unclaimed => "dropped: the vector is not claimed".to_owned(),
            DropReason::Disabled => "dropped: disabled".to_owned(),
            DropReason::BusMaster => "dropped: bus master is off".to_owned(),
        },
    })
}

fn shown(step: &Step) -> String {
    let mut text = step.input.clone();
    if let Some(answer) = &step.answer {
        text.push_str(&format!("  # {answer}"));
    }
    text.push('\n');
    for effect in &step.effects {
        text.push_str(&format!("    {effect}\n"));
    }
    text
}
