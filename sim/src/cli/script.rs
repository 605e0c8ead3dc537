//! `msix replay` of a script: the engine alone, input by input.

mod function;
mod msix;
mod words;

use super::input::Twice;
use super::output::{self, Output, interrupted, status};
use crate::plural::counted;
use function::Whole;
use msix::Alone;
use msix_core::{IntxSource, Policy};
use msix_explorer::script::{ScriptError, ScriptInput, ScriptKind, ScriptReader};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a script is given to.
trait Subject: Sized {
    /// What its scripts are of.
    type Input: ScriptInput;

    /// Makes it as the head of a script says.
    fn new(vectors: u16, policy: Policy, pin: IntxSource) -> Result<Self, String>;

    /// Gives it an input.
    fn step(&mut self, input: &Self::Input) -> Step;

    /// The first thing that must not be.
    fn violation(&self) -> Option<&str>;
}

/// One input.
#[derive(Debug, Serialize)]
struct Step {
    input: String,
    effects: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// Reads all of `text` until `stop` is set, to find what is wrong with it. Returns it from the start.
pub(super) fn checked<'a, I: ScriptInput>(
    text: &'a mut dyn Twice,
    stop: &AtomicBool,
) -> Result<ScriptReader<&'a mut dyn Twice, I>, String> {
    let failed = |error: ScriptError| error.to_string();
    for input in ScriptReader::<_, I>::begin(&mut *text).map_err(failed)? {
        input.map_err(failed)?;
        if stop.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
    }
    text.rewind().map_err(|error| format!("cannot be read again: {error}"))?;
    ScriptReader::begin(text).map_err(failed)
}

/// Runs the script `text` of file `name` and prints every input with what it led to.
///
/// Exit status: 0 all invariants hold, 1 one does not, 3 ended by a signal.
pub(super) fn run(
    kind: ScriptKind,
    name: &str,
    text: &mut dyn Twice,
    json: bool,
    stop: &AtomicBool,
) -> Result<ExitCode, String> {
    match kind {
        ScriptKind::Msix => run_on::<Alone>(name, text, json, stop),
        ScriptKind::Function => run_on::<Whole>(name, text, json, stop),
    }
}

fn run_on<S: Subject>(
    name: &str,
    text: &mut dyn Twice,
    json: bool,
    stop: &AtomicBool,
) -> Result<ExitCode, String> {
    let stopped = || stop.load(Ordering::Relaxed);
    let script = match checked::<S::Input>(text, stop) {
        Err(_) if stopped() => return interrupted(json),
        checked => checked.map_err(|error| format!("{name}: {error}"))?,
    };
    let (vectors, policy) = (script.vectors(), script.policy());
    let kept = if policy == "qemu" { Policy::QEMU } else { Policy::SPEC };
    let mut subject = S::new(vectors, kept, script.pin())?;
    let pin = S::Input::HAS_PIN.then_some(match script.pin() {
        IntxSource::Physical => "physical",
        _ => "emulated",
    });
    let mut output = Output::default();
    if json {
        let pin = pin.map_or(String::new(), |pin| format!("\"pin\":\"{pin}\","));
        let head = format!("{{\"vectors\":{vectors},\"policy\":\"{policy}\",{pin}\"steps\":[");
        output.part(&head)?;
    } else {
        let pin = pin.map_or(String::new(), |pin| format!(", pin {pin}"));
        output.part(&format!("{}, policy {policy}{pin}\n", counted(vectors, "vector")))?;
    }
    let mut count = 0_u64;
    let mut interrupted = false;
    for input in script {
        interrupted = stopped();
        if interrupted {
            break;
        }
        let step = subject.step(&input.map_err(|error| format!("{name}: {error}"))?);
        if json {
            output.part(if count == 0 { "" } else { "," })?;
            output.json_part(&step)?;
        } else {
            output.part(&shown(&step))?;
        }
        count += 1;
        if subject.violation().is_some() {
            break;
        }
    }
    let violation = subject.violation();
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
