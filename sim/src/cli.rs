//! The command line.

mod backend;
#[cfg(feature = "kvm")]
mod demo;
mod diff;
mod explore;
mod input;
mod ivshmem;
mod output;
mod progress;
#[cfg(feature = "kvm")]
mod qtest;
mod script;
mod signals;

use crate::replay::{Peer, replay_on};
use crate::report::ReplayReport;
use crate::{RECORDING, doctor, report_table, timeline};
use backend::Named;
use clap::{Args, Parser, Subcommand};
use diff::DiffArguments;
use explore::ExploreArguments;
use input::{Input, Source};
use output::{MISMATCH, Output};
use progress::Progress;
use std::path::PathBuf;
use std::process::ExitCode;

/// Replays recorded guests through an MSI-X engine and compares: config writes, table writes and
/// raises go in, table reads and messages must come out as the log shows them.
///
/// Without a subcommand the recording that is built in is replayed.
///
/// Exit status: 0 all agree, 1 some mismatch, 2 unusable input or arguments.
#[derive(Debug, Parser)]
#[command(name = "msix", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: ReplayOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay a QEMU trace log, or run a script of inputs (the policy is the script's).
    ///
    /// Record one with: qemu-system-x86_64 ... -trace msix_write_config -trace pci_cfg_write
    /// -trace pci_cfg_read -trace memory_region_ops_read -trace memory_region_ops_write
    /// -trace pci_nvme_irq_msix -trace e1000e_irq_msix_notify_vec -D FILE
    Replay {
        /// The log or script; `-` is the standard input, without one it is the recording.
        file: Option<PathBuf>,
        #[command(flatten)]
        options: ReplayOptions,
    },
    /// Compare the engine with a real QEMU on random inputs.
    Diff(DiffArguments),
    /// Visit every reachable state of the engine and the world around it.
    Explore(ExploreArguments),
    /// Show something.
    #[cfg(feature = "kvm")]
    #[command(subcommand)]
    Demo(demo::Demo),
    IvshmemServer(ivshmem::ServerArguments),
    #[cfg(feature = "kvm")]
    Qtest(qtest::QtestArguments),
    /// Say which backends and test peers this machine has, and how to get the others.
    Doctor {
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ReplayOptions {
    /// What the engine is to agree with.
    #[arg(long, value_enum, default_value_t)]
    policy: Peer,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Write a page with a lane a vector to this file.
    #[arg(long, value_name = "FILE.html")]
    timeline: Option<PathBuf>,
    /// Also deliver through this, and compare what arrives.
    #[arg(long, value_enum)]
    backend: Option<Named>,
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    let result = match command {
        None => replayed(Source::Recording, &options),
        Some(Command::Replay { file, options }) => {
            replayed(file.map_or(Source::Recording, Source::of), &options)
        }
        Some(Command::Diff(options)) => diff::diff(&options),
        Some(Command::Explore(options)) => explore::explore(&options),
        #[cfg(feature = "kvm")]
        Some(Command::Demo(demo)) => demo::demo(&demo),
        Some(Command::IvshmemServer(arguments)) => ivshmem::server(&arguments),
        #[cfg(feature = "kvm")]
        Some(Command::Qtest(options)) => qtest::qtest(options),
        Some(Command::Doctor { json }) => examined(json),
    };
    result.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::from(UNUSABLE)
    })
}

const UNUSABLE: u8 = 2;

fn examined(json: bool) -> Result<ExitCode, String> {
    let checks = doctor::examine();
    Output::default().either(json, &checks, |checks| doctor::text(checks))?;
    Ok(ExitCode::SUCCESS)
}

fn replayed(source: Source, options: &ReplayOptions) -> Result<ExitCode, String> {
    let name = source.name();
    let mut input = source.open()?;
    let failed = |error: std::io::Error| format!("{name}:1: cannot be read: {error}");
    if let Some(text) = script::text_of(&mut input).map_err(failed)? {
        if options.timeline.is_some() {
            return Err(format!("{name}: a script has no timeline"));
        }
        if options.backend.is_some() {
            return Err(format!("{name}: a script has no backend"));
        }
        return script::run(&name, &text, options.json);
    }
    let backend = options.backend.map(Named::open).transpose()?;
    let progress = Progress::new(input.len().saturating_mul(2), &name);
    let watch = options.timeline.is_some();
    let done = |bytes| progress.advance(bytes);
    let result = match input {
        Input::Memory => {
            replay_on(backend, std::io::Cursor::new(RECORDING), options.policy, watch, done)
        }
        Input::File(file, _) => {
            let file = std::io::BufReader::with_capacity(BUFFER, file);
            replay_on(backend, file, options.policy, watch, done)
        }
    };
    progress.finish();
    let (report, timeline) = result.map_err(|error| format!("{name}:{}: {error}", error.line()))?;
    if let (Some(path), Some(timeline)) = (&options.timeline, timeline) {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let page = timeline::render(&name, &report, &timeline).map_err(|error| failed(&error))?;
        std::fs::write(path, page).map_err(|error| failed(&error))?;
    }
    show(&name, &report, options)?;
    Ok(if report.mismatches == 0 { ExitCode::SUCCESS } else { ExitCode::from(MISMATCH) })
}

const BUFFER: usize = 256 * 1024;

fn show(name: &str, report: &ReplayReport, options: &ReplayOptions) -> Result<(), String> {
    let mut output = Output::default();
    if options.json {
        return output.json(report);
    }
    let mut errors = String::new();
    for warning in &report.warnings {
        errors.push_str(&format!("warning: {name}: {warning}\n"));
    }
    for mismatch in &report.mismatch_list {
        errors.push_str(&format!("{name}:{mismatch}\n"));
    }
    let unlisted = report.mismatches - report.mismatch_list.len() as u64;
    if unlisted > 0 {
        errors.push_str(&format!("{name}: and {unlisted} more mismatches\n"));
    }
    output::errors(&errors);
    output.line(&report_table::table(report))?;
    output.line(&format!(
        "{} lines, policy {}, {} messages of other devices",
        report.lines, report.policy, report.messages_not_ours
    ))?;
    if let Some(backend) = &report.backend {
        output.line(&backend.verdict())?;
    }
    if let Some(path) = &options.timeline {
        output.line(&format!("timeline: {}", path.display()))?;
    }
    output.line(&report.verdict())
}
