//! `msix demo`.

use super::output::{Output, interrupted, status};
use super::progress::Progress;
use super::{signals, size};
use crate::demo::{DemoError, DemoOutcome, DemoPlan, plan_for, run};
use crate::plural::counted;
use crate::report_table::wrapped;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Watch two guests ring each other.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DemoArguments {
    #[command(flatten)]
    options: IvshmemOptions,
    #[command(subcommand)]
    demo: Option<Demo>,
}

/// Something to watch.
#[derive(Debug, Subcommand)]
enum Demo {
    /// Watch two guests ring each other through ivshmem doorbells, which is the default.
    ///
    /// Every ring is an ioeventfd, every interrupt an irqfd. Without KVM, two threads do it through
    /// eventfds.
    ///
    /// Exit status: 0 nothing was lost, 1 something was, 2 it cannot be run, 3 ended by a signal.
    Ivshmem(IvshmemOptions),
}

#[derive(Debug, Args)]
struct IvshmemOptions {
    /// About how long they ring, in seconds: half of the rings in turns, half as fast as they can.
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Rings of each guest, however long they take. Suffixes: k, M, G.
    #[arg(long, value_name = "N", conflicts_with = "seconds",
          value_parser = size::count(1..=u32::MAX.into()))]
    rings: Option<u64>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn demo(arguments: &DemoArguments) -> Result<ExitCode, String> {
    let options = match &arguments.demo {
        Some(Demo::Ivshmem(options)) => options,
        None => &arguments.options,
    };
    let stop = signals::stop()?;
    let outcome = match rung(options, &stop) {
        Err(DemoError::Interrupted) => return interrupted(options.json),
        outcome => outcome.map_err(|error| error.to_string())?,
    };
    Output::default().either(options.json, &outcome, text)?;
    Ok(status(!outcome.nothing_lost(), false))
}

fn rung(options: &IvshmemOptions, stop: &AtomicBool) -> Result<DemoOutcome, DemoError> {
    let plan = match options.rings {
        Some(rings) => DemoPlan::of(u32::try_from(rings).unwrap_or(u32::MAX)),
        None => {
            let time = Duration::from_secs(options.seconds.into());
            plan_for(time, &|_| !stop.load(Ordering::Relaxed))?
        }
    };
    let progress = Progress::new(Some(plan.rings().into()), "rings");
    let shown = AtomicU32::new(0);
    let outcome = run(plan, &|sent| {
        // One thread of the demo calls this.
        progress.advance(sent.saturating_sub(shown.swap(sent, Ordering::Relaxed)).into());
        !stop.load(Ordering::Relaxed)
    });
    progress.finish();
    outcome
}

fn text(outcome: &DemoOutcome) -> String {
    let mut lines = vec![match &outcome.without_kvm {
        Some(why) => {
            format!("without KVM ({why}): two threads and eventfds, {:.1} s", outcome.seconds)
        }
        None => format!("two guests on KVM: ioeventfd and irqfd, {:.1} s", outcome.seconds),
    }];
    let [first, second] = outcome.guests;
    for (name, here, other, there) in
        [("first", first, "second", second), ("second", second, "first", first)]
    {
        let coalesced = there.accounted.saturating_sub(there.taken);
        lines.push(format!(
            "{name} guest: {}; the {other} took {} for them ({coalesced} coalesced) and accounts for {}",
            counted(here.sent, "ring"),
            counted(there.taken, "interrupt"),
            there.accounted,
        ));
    }
    let [p50, p90, p99, p999, longest] = outcome.round_trip_ns.map(|ns| ns as f64 / 1000.0);
    lines.push(format!(
        "round trip in microseconds: {p50:.1} median, {p90:.1} 90 %, {p99:.1} 99 %, {p999:.1} 99.9 %, \
         {longest:.1} longest"
    ));
    if outcome.without_kvm.is_none() {
        lines.push(format!(
            "exits to userspace: {} ({:.6} a ring); messages from userspace: {}",
            first.exits + second.exits,
            outcome.exits_per_ring(),
            first.from_userspace + second.from_userspace
        ));
    }
    lines.push(
        if outcome.nothing_lost() { "nothing was lost" } else { "RINGS WERE LOST" }.to_owned(),
    );
    lines.iter().map(|line| wrapped(line)).collect::<Vec<_>>().join("\n")
}
