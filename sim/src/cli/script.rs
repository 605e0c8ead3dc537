//! `msix replay` of a script: the engine alone, input by input.

use super::input::Input;
use super::output::{self, MISMATCH, Output};
use msix_core::operation::Answer;
use msix_core::{
    Access, BarIndex, Boxed, Delivery, DropReason, Effect, Effects, Layout, MAX_EFFECTS, Msix,
    Policy, Vector, Vectors,
};
use msix_explorer::script::{self, Script};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::process::ExitCode;

/// The text of `input`, when it begins as a script does.
pub(super) fn text_of(input: &mut Input) -> std::io::Result<Option<String>> {
    let Input::File(file, _) = input else { return Ok(None) };
    let mut start = Vec::new();
    file.rewind()?; // what came through a pipe was just written
    file.by_ref().take(START).read_to_end(&mut start)?;
    file.rewind()?;
    if !Script::is_script(&start) {
        return Ok(None);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Bytes enough to tell a script.
const START: u64 = 64;

/// What running a script showed.
#[derive(Debug, Serialize)]
struct Run {
    vectors: u16,
    policy: String,
    steps: Vec<Step>,
    /// The invariant that does not hold after the last step.
    violation: Option<String>,
}

/// One input.
#[derive(Debug, Serialize)]
struct Step {
    input: String,
    effects: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// Runs the script `text` of file `name` and prints every input with what it led to.
///
/// Exit status: 0 all invariants hold, 1 one does not.
pub(super) fn run(name: &str, text: &str, json: bool) -> Result<ExitCode, String> {
    let script = Script::parse(text).map_err(|error| format!("{name}: {error}"))?;
    let run = executed(&script)?;
    let mut output = Output::default();
    if json {
        output.json(&run)?;
    } else {
        output.line(&shown(&run))?;
        if let Some(violation) = &run.violation {
            output::errors(&format!("{name}: {violation}\n"));
        }
    }
    Ok(if run.violation.is_some() { ExitCode::from(MISMATCH) } else { ExitCode::SUCCESS })
}

fn executed(script: &Script) -> Result<Run, String> {
    let policy = if script.policy == "qemu" { Policy::QEMU } else { Policy::SPEC };
    let bar = BarIndex::new(0).map_err(|error| error.to_string())?;
    let layout = Layout::exclusive_bar(script.vectors.into(), bar);
    let layout = layout.map_err(|error| error.to_string())?;
    let msix = Msix::<Boxed>::new(layout, policy);
    let mut msix = msix.map_err(|error| error.to_string())?;
    let mut run = Run {
        vectors: script.vectors,
        policy: script.policy.clone(),
        steps: Vec::new(),
        violation: None,
    };
    let mut scratch = vec![0; msix.saved_len()];
    let mut fx = Effects::<MAX_EFFECTS>::new();
    let mut used = BTreeSet::new();
    for operation in &script.operations {
        let answer = operation.apply(&mut msix, &mut scratch, &mut fx);
        let mut effects = Vec::new();
        while let Some(effect) = fx.take() {
            run.violation = run.violation.or_else(|| misused(&msix, effect, &mut used));
            effects.push(effect_text(&msix, effect));
        }
        let input = script::line(operation);
        run.steps.push(Step { input, effects, answer: answer_text(answer) });
        if let Err(violation) = msix.check() {
            run.violation = run.violation.or(Some(format!("{violation:?}")));
        }
        if run.violation.is_some() {
            break;
        }
    }
    Ok(run)
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

fn shown(run: &Run) -> String {
    let mut text = format!("{} vectors, policy {}\n", run.vectors, run.policy);
    for step in &run.steps {
        text.push_str(&step.input);
        if let Some(answer) = &step.answer {
            text.push_str(&format!("  # {answer}"));
        }
        text.push('\n');
        for effect in &step.effects {
            text.push_str(&format!("    {effect}\n"));
        }
    }
    let count = run.steps.len();
    text.push_str(&match &run.violation {
        None => format!("{count} inputs, all invariants hold"),
        Some(violation) => format!("{count} inputs, then: {violation}"),
    });
    text
}
