//! The command line.

mod backend;
#[cfg(feature = "kvm")]
mod demo;
mod diff;
mod explore;
mod generate;
mod input;
mod ivshmem;
mod output;
mod output_file;
mod progress;
#[cfg(feature = "kvm")]
mod qtest;
mod script;
mod signals;
mod size;
mod spool;

use crate::plural::counted;
use crate::replay::{Machine, MachineFunction, Peer, replay_of};
use crate::report::ReplayReport;
use crate::{doctor, report_table, timeline};
use backend::Named;
use clap::{Args, Parser, Subcommand};
use diff::DiffArguments;
use explore::ExploreArguments;
use generate::Generate;
use input::{Source, Twice, start_of};
use msix_explorer::script::{SYNTAX, ScriptKind};
use output::{Output, UNUSABLE, interrupted, status};
use output_file::OutputFile;
use progress::Progress;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Replays recorded guests through an MSI-X engine and compares: config writes, table writes and
/// raises go in, table reads and messages must come out as the log shows them.
///
/// Without a subcommand the recording that is built in is replayed.
#[derive(Debug, Parser)]
#[command(
    name = "msix",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 80,
    after_long_help = EXIT_STATUS
)]
struct Cli {
    #[command(flatten)]
    options: ReplayOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_STATUS: &str = "\
EXIT STATUS of every command:
  0  all agrees or holds; a server or `qtest` ended as it should
  1  something does not agree or hold
  2  the input, the arguments or the system are at fault
  3  a signal ended it before it was done; nothing was wrong so far
  4  an exploration stopped at --max-states before it was done; nothing was
     wrong so far";

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay a recording of a guest, or run a script of inputs.
    ///
    /// A recording is a trace log of QEMU, or one of the kernel's events of KVM; either may be gzipped.
    ///
    /// Record a log with: qemu-system-x86_64 ... -trace msix_write_config -trace pci_cfg_write
    /// -trace pci_cfg_read -trace memory_region_ops_read -trace memory_region_ops_write
    /// -trace pci_nvme_irq_msix -trace e1000e_irq_msix_notify_vec -D FILE
    ///
    /// Record the kernel's events, of a guest of any VMM on KVM, with: trace-cmd record -C mono
    /// -e kvm:kvm_mmio -e kvm:kvm_pio -e kvm:kvm_msi_set_irq -e kvm:kvm_apic_accept_irq; then
    /// trace-cmd report > FILE. `msix doctor` has more ways.
    ///
    /// A script is inputs of the engine, one a line; its syntax is below. `msix explore --defect NAME --script
    /// FILE` writes one.
    #[command(after_long_help = SYNTAX)]
    Replay {
        /// The log or script; `-` is the standard input, without one it is the recording. What comes
        /// through a pipe may be 1 GiB long.
        file: Option<PathBuf>,
        #[command(flatten)]
        options: ReplayOptions,
    },
    Diff(DiffArguments),
    Explore(ExploreArguments),
    #[cfg(feature = "kvm")]
    Demo(demo::DemoArguments),
    IvshmemServer(ivshmem::ServerArguments),
    #[cfg(feature = "kvm")]
    Qtest(qtest::QtestArguments),
    /// Say which backends and test peers this machine has, and how to get the others.
    Doctor {
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell, or write man pages.
    #[command(subcommand, hide = true)]
    Generate(Generate),
}

#[derive(Debug, Args)]
struct ReplayOptions {
    /// What the engine is to agree with.
    #[arg(long, value_enum, default_value_t)]
    policy: Peer,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Write a page with a lane a vector to this file, in place of what it held.
    #[arg(long, value_name = "FILE.html")]
    timeline: Option<PathBuf>,
    /// Write the same as a trace for Perfetto, or Chrome's own viewer, to this file, in place of what it
    /// held.
    #[arg(long, value_name = "FILE.json")]
    perfetto: Option<PathBuf>,
    /// Also deliver through this, and compare what arrives.
    #[arg(long, value_enum)]
    backend: Option<Named>,
    /// What the guest's `lspci -vvv`, run as root, prints: for a recording of the kernel's events that
    /// does not begin with the guest, or whose guest did not read where its PBAs are.
    #[arg(long, value_name = "FILE")]
    lspci: Option<PathBuf>,
    /// A function of the guest: BDF,vectors=N,table=0xADDRESS, and if known pba=0xADDRESS,
    /// capability=0xOFFSET, enabled. May be given several times.
    #[arg(long = "function", value_name = "FUNCTION")]
    functions: Vec<MachineFunction>,
    /// Where the guest has configuration space in memory (ECAM), as 0xADDRESS.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    ecam: Option<u64>,
}

fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").ok_or("0xADDRESS expected")?;
    u64::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

impl ReplayOptions {
    /// What is known of the guest besides the log.
    fn machine(&self) -> Result<Machine, String> {
        let mut machine = match &self.lspci {
            None => Machine::default(),
            Some(path) => {
                let name = path.display();
                let text = input::whole(path).map_err(|error| format!("{name}: {error}"))?;
                Machine::read_lspci(&text).map_err(|error| format!("{name}: {error}"))?
            }
        };
        machine.functions.extend(self.functions.iter().cloned());
        machine.ecam = self.ecam;
        Ok(machine)
    }
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
        Some(Command::Demo(arguments)) => demo::demo(&arguments),
        Some(Command::IvshmemServer(arguments)) => ivshmem::server(&arguments),
        #[cfg(feature = "kvm")]
        Some(Command::Qtest(options)) => qtest::qtest(options),
        Some(Command::Doctor { json }) => examined(json),
        Some(Command::Generate(what)) => generate::generate(&what),
    };
    result.unwrap_or_else(|message| {
        output::errors(&format!("error: {message}\n"));
        ExitCode::from(UNUSABLE)
    })
}

fn examined(json: bool) -> Result<ExitCode, String> {
    let checks = doctor::examine();
    Output::default().either(json, &checks, |checks| doctor::text(checks))?;
    Ok(ExitCode::SUCCESS)
}

fn replayed(source: Source, options: &ReplayOptions) -> Result<ExitCode, String> {
    let mut input = source.open()?;
    let stop = signals::stop()?;
    let stopped = || stop.load(Ordering::Relaxed);
    let name = input.name.clone();
    let output = |path: &Option<PathBuf>| {
        path.as_ref().map(|path| OutputFile::new(path, input.identity())).transpose()
    };
    let (page, trace) = (output(&options.timeline)?, output(&options.perfetto)?);
    let watch = page.is_some() || trace.is_some();
    let failed = |error: std::io::Error| format!("{name}:1: cannot be read: {error}");
    let mut text = match input.text(&stop) {
        Err(_) if stopped() => return interrupted(options.json),
        text => text.map_err(failed)?,
    };
    match start_of(&mut *text, START) {
        Err(_) if stopped() => return interrupted(options.json),
        Err(error) => return Err(failed(error)),
        Ok(start) => {
            if let Some(kind) = ScriptKind::of(&start) {
                return script(kind, &name, &mut *text, options, &stop);
            }
        }
    }
    let machine = options.machine()?;
    let backend = options.backend.map(Named::open).transpose()?;
    let progress = Progress::new(input.len().map(|len| len.saturating_mul(2)), &name);
    let result = replay_of(&machine, backend, text, options.policy, watch, |bytes| {
        progress.advance(bytes);
        !stopped()
    });
    progress.finish();
    let (report, timeline) = match result {
        Err(_) if stopped() => return interrupted(options.json),
        result => result.map_err(|error| format!("{name}:{}: {error}", error.line()))?,
    };
    // First what was found, which a page that cannot be written must not cost.
    show(&name, &report, options)?;
    if let Some(timeline) = timeline {
        if let Some(page) = page {
            let text = timeline::render(&name, &report, &timeline);
            page.write(text.map_err(|error| error.to_string())?.as_bytes())?;
        }
        if let Some(trace) = trace {
            let text = timeline::perfetto(&name, &timeline);
            trace.write(text.map_err(|error| error.to_string())?.as_bytes())?;
        }
    }
    Ok(status(report.mismatches > 0, report.interrupted))
}

/// Runs a script.
fn script(
    kind: ScriptKind,
    name: &str,
    text: &mut dyn Twice,
    options: &ReplayOptions,
    stop: &AtomicBool,
) -> Result<ExitCode, String> {
    let not_its = [
        ("timeline", options.timeline.is_some()),
        ("timeline", options.perfetto.is_some()),
        ("backend", options.backend.is_some()),
    ];
    if let Some((what, _)) = not_its.into_iter().find(|(_, asked)| *asked) {
        return Err(format!("{name}: a script has no {what}"));
    }
    script::run(kind, name, text, options.json, stop)
}

/// Bytes enough to tell a script.
const START: u64 = 64;

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
        errors.push_str(&format!("{name}: and {}\n", counted(unlisted, "more mismatch")));
    }
    output::errors(&errors);
    output.line(&report_table::table(report))?;
    output.line(report_table::LEGEND)?;
    output.line(&format!(
        "{}, policy {}, {} of other devices",
        counted(report.lines, "line"),
        report.policy,
        counted(report.messages_not_ours, "message")
    ))?;
    if let Some(kernel) = &report.kernel {
        output.line(&report_table::wrapped(&format!(
            "{} looked at, or with nobody to take it. Not in such a recording: events that were \
             lost before they were pending, and interrupts that the processor posts by itself",
            counted(kernel.not_accepted, "message")
        )))?;
    }
    if let Some(backend) = &report.backend {
        output.line(&backend.verdict())?;
    }
    output.line(&report_table::wrapped(&report.verdict()))
}
