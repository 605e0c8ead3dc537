//! `msix diff`.

use super::input::Source;
use super::output::{self, Output, interrupted, status};
use super::progress::Progress;
use super::script::checked;
use super::{signals, size};
use crate::diff::{self, DiffOptions, DiffOutcome, KNOWN_DEFECTS};
use crate::plural::counted;
use clap::Args;
use msix_core::operation::Operation;
use msix_peers::Player;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// Compare the engine with a real QEMU on random inputs.
///
/// The engine (policy qemu) and ivshmem-doorbell devices of QEMU get the same inputs, side by side; every
/// read and every message is compared.
///
/// Exit status: 0 both agree, 1 they differ, 2 unusable arguments or no QEMU, 3 ended by a signal before
/// all was compared, and both agree so far.
#[derive(Debug, Args)]
pub(super) struct DiffArguments {
    /// Inputs in all. Suffixes: k, M, G.
    #[arg(long, default_value = "20k", value_name = "N", value_parser = size::count(0..=u64::MAX))]
    ops: u64,
    /// Of the random numbers; the same seed makes the same inputs.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Vectors of each device.
    #[arg(long, default_value_t = 65, value_name = "K",
          value_parser = clap::value_parser!(u16).range(1..=2048))]
    vectors: u16,
    /// Devices in the one QEMU.
    #[arg(long, default_value_t = 4, value_name = "D",
          value_parser = clap::value_parser!(u8).range(1..=24))]
    devices: u8,
    /// The QEMU to run.
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PATH")]
    qemu: PathBuf,
    /// Compare with `msix qtest` instead of a QEMU: one device, no migration.
    #[cfg(feature = "kvm")]
    #[arg(long, conflicts_with = "qemu")]
    front: bool,
    /// Run this script on both sides instead of random inputs.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ops", "seed", "vectors", "devices"])]
    script: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl DiffArguments {
    #[cfg(feature = "kvm")]
    fn player(&self) -> Player {
        let qemu = || self.qemu.clone().into();
        if self.front { crate::qtest::player(crate::replay::Peer::Qemu) } else { qemu() }
    }

    #[cfg(not(feature = "kvm"))]
    fn player(&self) -> Player {
        self.qemu.clone().into()
    }

    fn is_front(&self) -> bool {
        !self.player().migrates()
    }
}

/// Runs it.
pub(super) fn diff(arguments: &DiffArguments) -> Result<ExitCode, String> {
    let (operations, seed) = (arguments.ops, arguments.seed);
    let mut options = DiffOptions::new(arguments.player(), operations, seed, arguments.vectors);
    options.devices = usize::from(if arguments.is_front() { 1 } else { arguments.devices });
    if let Some(path) = &arguments.script {
        return scripted(path.clone(), &options, arguments.json);
    }
    let stop = signals::stop()?;
    let progress = Progress::new(Some(options.operations), "inputs");
    let mut shown = 0;
    let outcome = diff::run(&options, |done| {
        progress.advance(done - shown);
        shown = done;
        !stop.load(Ordering::Relaxed)
    });
    progress.finish();
    let outcome = outcome.map_err(|error| error.to_string())?;
    Output::default().either(arguments.json, &outcome, |outcome| text(outcome, operations))?;
    Ok(status(outcome.mismatch.is_some(), outcome.interrupted))
}

fn scripted(path: PathBuf, options: &DiffOptions, json: bool) -> Result<ExitCode, String> {
    let mut input = Source::File(path).open()?;
    let stop = signals::stop()?;
    let stopped = || stop.load(Ordering::Relaxed);
    let name = input.name.clone();
    let failed = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let mut text = input.text(&stop).map_err(|error| failed(&error))?;
    let run = match checked::<Operation>(&mut *text, &stop) {
        Err(_) if stopped() => return interrupted(json),
        checked => checked.map_err(|error| failed(&error))?,
    };
    let mut wrong = None;
    let vectors = run.vectors();
    let operations = run.map_while(|operation| operation.map_err(|error| wrong = Some(error)).ok());
    let operations = operations.take_while(|_| !stopped());
    let difference = diff::run_script(vectors, operations, options);
    let difference = difference.map_err(|error| failed(&error))?;
    if let Some(error) = wrong {
        return Err(failed(&error));
    }
    let mut output = Output::default();
    match &difference {
        None if stopped() => return interrupted(json),
        _ if json => output.json(&difference)?,
        None => output.line("engine and QEMU agree")?,
        Some(d) => output.line(&format!(
            "`{}`: {}: the engine has {}, QEMU {}",
            d.input, d.what, d.engine, d.qemu
        ))?,
    }
    Ok(status(difference.is_some(), false))
}

fn text(outcome: &DiffOutcome, asked: u64) -> String {
    let compared = &outcome.compared;
    let mut text = format!(
        "{}, {} of {}, seed {}\n{}: {} compared, {}, {}, {}, {}\n",
        outcome.peer,
        counted(outcome.devices, "device"),
        counted(outcome.vectors, "vector"),
        outcome.seed,
        counted(compared.operations, "input"),
        counted(compared.reads, "read"),
        counted(compared.events, "event"),
        counted(compared.messages, "message"),
        counted(compared.resets, "reset"),
        counted(compared.migrations, "migration")
    );
    for known in KNOWN_DEFECTS {
        text.push_str(&format!(
            "stepped around (rule {}): {}; {}\n",
            known.rule, known.defect, known.avoided
        ));
    }
    match &outcome.mismatch {
        None if outcome.interrupted => text.push_str(&format!(
            "interrupted after {} of {}; engine and QEMU agree so far",
            compared.operations,
            counted(asked, "input")
        )),
        None => text.push_str("engine and QEMU agree"),
        Some(mismatch) => {
            let d = &mismatch.difference;
            output::errors(&format!(
                "`{}`: {}: the engine has {}, QEMU {}\n",
                d.input, d.what, d.engine, d.qemu
            ));
            text.push_str(&format!(
                "engine and QEMU differ; shrunk from {} to this script{}, for `msix diff \
                 --script FILE`:\n\n{}",
                counted(mismatch.inputs, "input"),
                if outcome.interrupted { " (interrupted: a shorter one may do)" } else { "" },
                mismatch.script
            ));
        }
    }
    text
}
