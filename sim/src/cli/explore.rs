//! `msix explore`.

use super::output::{self, Output, UNFINISHED, status};
use super::output_file::OutputFile;
use super::{signals, size};
use crate::plural::counted;
use crate::replay::Peer;
use crate::report_table::wrapped;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use msix_explorer::{
    self as explorer, Extent, FunctionDefect, FunctionOptions, FunctionOutcome, MsixDefect,
    MsixOptions, MsixOutcome, Reached,
};
use std::io::{IsTerminal, stderr};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
#[cfg(feature = "stateright")]
use std::{thread, time::Duration};

/// Visit every reachable state of the engine and the world around it.
///
/// The world is a host that fails, holds events and answers late, a guest that writes everything, and a
/// platform that saves, loads and resets at any point.
///
/// Exit status: 0 nothing is violated, 1 something is (a script for `msix replay` is printed), 2
/// unusable arguments, 3 ended by a signal before all was seen, 4 stopped at --max-states before all was
/// seen. With 3 and 4 nothing is violated so far.
#[derive(Debug, Args)]
pub(super) struct ExploreArguments {
    /// How many vectors are explored.
    #[arg(long, default_value_t = 1, value_name = "V",
          value_parser = clap::value_parser!(u8).range(1..=3))]
    vectors: u8,
    /// Which vectors of the table these are, below 66; the others must stay as they are.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', conflicts_with = "vectors")]
    at: Vec<u16>,
    /// What the engine does where the specification leaves a choice.
    #[arg(long, value_enum, default_value_t = Peer::Spec)]
    policy: Peer,
    /// Take states that differ only in the order of the vectors for one; always so for three.
    #[arg(long)]
    symmetry: bool,
    /// Stop after this many states; without it, after 4294967295. Suffixes: k, M, G.
    #[arg(long, default_value_t = u32::MAX.into(), hide_default_value = true, value_name = "N",
          value_parser = size::count(0..=u32::MAX.into()))]
    max_states: u64,
    /// Put a defect into the engine, to see it found.
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true)]
    defect: Option<MsixDefect>,
    /// Explore a whole function instead: INTx, MSI and MSI-X with this many vectors each (1 or 2), and
    /// the switching between them.
    #[arg(long, conflicts_with_all = ["at", "symmetry", "defect", "serve"])]
    function: bool,
    /// With --function: the pin is a passed-through device's, which is masked when it fires.
    #[arg(long, requires = "function")]
    physical: bool,
    /// With --function: put a defect into the function, to see it found.
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        requires = "function",
        hide_possible_values = true
    )]
    function_defect: Option<FunctionDefect>,
    /// Write the script of a violation to this file, in place of what it held, for `msix replay`.
    #[arg(long, value_name = "FILE", conflicts_with = "serve")]
    script: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Serve a page to walk through the states with a browser, until a signal comes; needs a build with
    /// the feature `stateright`. Whoever reaches the address can use it.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, conflicts_with_all = ["json", "max_states"],
          default_missing_value = "127.0.0.1:3000")]
    serve: Option<SocketAddr>,
}

/// Runs it.
pub(super) fn explore(arguments: &ExploreArguments) -> Result<ExitCode, String> {
    if arguments.function {
        return function(arguments);
    }
    let at = if arguments.at.is_empty() {
        explorer::placed(usize::from(arguments.vectors))
    } else {
        arguments.at.clone()
    };
    let mut options = MsixOptions::default();
    options.symmetry = arguments.symmetry || at.len() > 2;
    options.at = at;
    options.policy = arguments.policy;
    options.max_states = usize::try_from(arguments.max_states).unwrap_or(usize::MAX);
    options.defect = arguments.defect;
    if let Some(address) = arguments.serve {
        return served(&options, address);
    }
    let file = arguments.script.as_ref().map(|path| OutputFile::new(path, None)).transpose()?;
    let outcome = watched(|go_on| explorer::explore_msix(&options, go_on))?;
    let outcome = outcome.map_err(|error| error.to_string())?;
    Output::default().either(arguments.json, &outcome, msix_text)?;
    if let (Some(file), Some(violation)) = (file, &outcome.violation) {
        file.write(violation.script.as_bytes())?;
    }
    Ok(ended(outcome.violation.is_some(), &outcome.extent))
}

fn function(arguments: &ExploreArguments) -> Result<ExitCode, String> {
    if arguments.vectors > 2 {
        return Err("1 or 2 vectors can be explored with --function".to_owned());
    }
    let mut options = FunctionOptions::default();
    options.vectors = arguments.vectors;
    options.policy = arguments.policy;
    options.physical = arguments.physical;
    options.max_states = usize::try_from(arguments.max_states).unwrap_or(usize::MAX);
    options.defect = arguments.function_defect;
    let file = arguments.script.as_ref().map(|path| OutputFile::new(path, None)).transpose()?;
    let outcome = watched(|go_on| explorer::explore_function(&options, go_on))?;
    Output::default().either(arguments.json, &outcome, function_text)?;
    if let (Some(file), Some(violation)) = (file, &outcome.violation) {
        file.write(violation.script.as_bytes())?;
    }
    Ok(ended(outcome.violation.is_some(), &outcome.extent))
}

/// The exit status of an exploration.
fn ended(violated: bool, extent: &Extent) -> ExitCode {
    if violated || extent.complete || extent.interrupted {
        status(violated, extent.interrupted)
    } else {
        ExitCode::from(UNFINISHED)
    }
}

fn function_text(outcome: &FunctionOutcome) -> String {
    let head = format!(
        "INTx ({}), MSI and MSI-X, vectors of each: {}, policy {}{}",
        outcome.pin,
        outcome.vectors,
        outcome.policy,
        seeded(outcome.defect),
    );
    let violated = outcome.violation.as_ref().map(|violation| {
        violated(violation.property, &violation.detail, violation.steps, &violation.script)
    });
    format!("{head}\n{}\n{}", seen(&outcome.extent), verdict(&outcome.extent, violated))
}

#[cfg(not(feature = "stateright"))]
fn served(_: &MsixOptions, _: SocketAddr) -> Result<ExitCode, String> {
    Err("--serve needs a build with the feature `stateright`, which this one lacks: \
         `cargo run --features stateright -- explore --serve`"
        .to_owned())
}

#[cfg(feature = "stateright")]
fn served(options: &MsixOptions, address: SocketAddr) -> Result<ExitCode, String> {
    let stop = signals::stop()?;
    // The server itself ends the program with a panic when the address is taken.
    std::net::TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    if !address.ip().to_canonical().is_loopback() {
        output::errors(&format!(
            "warning: {address} can be reached from other machines: whoever reaches it sees the page \
             and makes this machine compute\n"
        ));
    }
    output::errors(&format!("http://{address} shows the states; end with Ctrl-C\n"));
    let options = options.clone();
    let server = thread::spawn(move || explorer::serve_with_stateright(&options, address));
    while !stop.load(Ordering::Relaxed) {
        if server.is_finished() {
            let ended = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.map_err(|error| error.to_string())?;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(ExitCode::SUCCESS)
}

/// Explores until a signal comes, and shows how far it is.
fn watched<T>(explore: impl FnOnce(&mut dyn FnMut(Reached) -> bool) -> T) -> Result<T, String> {
    let stop = signals::stop()?;
    let spinner = spinner();
    let outcome = explore(&mut |Reached { states, frontier, depth }| {
        spinner.set_message(format!(
            "{}, {frontier} to leave, depth {depth}",
            counted(states, "state")
        ));
        spinner.tick();
        !stop.load(Ordering::Relaxed)
    });
    spinner.finish_and_clear();
    Ok(outcome)
}

/// A line on the standard error, if that is a terminal.
fn spinner() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn msix_text(outcome: &MsixOutcome) -> String {
    let at: Vec<String> = outcome.at.iter().map(u16::to_string).collect();
    let head = format!(
        "vectors {} of {}, policy {}{}{}",
        at.join(", "),
        outcome.vectors,
        outcome.policy,
        if outcome.symmetry { ", up to the order of the vectors" } else { "" },
        seeded(outcome.defect),
    );
    let violated = outcome.violation.as_ref().map(|violation| {
        violated(violation.property, &violation.detail, violation.steps, &violation.script)
    });
    let (extent, properties) = (&outcome.extent, outcome.properties.join(", "));
    let checked = wrapped(&format!("checked: {properties}"));
    format!("{head}\n{}\n{checked}\n{}", seen(extent), verdict(extent, violated))
}

/// Says what is violated, on the standard error as well.
fn violated(property: &str, detail: &str, steps: usize, script: &str) -> String {
    output::errors(&format!("{property}: {detail}\n"));
    let steps = counted(steps, "step");
    format!("`{property}` is violated after {steps}; a script for `msix replay FILE`:\n\n{script}")
}

fn seeded(defect: Option<&str>) -> String {
    defect.map_or(String::new(), |defect| format!(", seeded defect: {defect}"))
}

fn seen(extent: &Extent) -> String {
    let Extent { states, transitions, depth, seconds, .. } = extent;
    let (states, transitions) = (counted(*states, "state"), counted(*transitions, "transition"));
    format!("{states}, {transitions}, depth {depth}, {seconds:.1} s")
}

fn verdict(extent: &Extent, violated: Option<String>) -> String {
    let nothing = match (extent.complete, extent.interrupted) {
        (true, _) => "every reachable state was seen, nothing is violated",
        (false, true) => "interrupted: nothing is violated so far; not every state was seen",
        (false, false) => "nothing is violated so far; not every state was seen",
    };
    violated.unwrap_or_else(|| nothing.to_owned())
}
