//! `msix demo`.

use super::output::{Output, interrupted, status};
use super::signals;
use crate::demo::{DemoError, DemoOutcome, DemoPlan, run};
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Something to watch.
#[derive(Debug, Subcommand)]
pub(super) enum Demo {
    /// Two guests ring each other through ivshmem doorbells: every ring an ioeventfd, every interrupt
    /// an irqfd. Without KVM, two threads do it through eventfds.
    ///
    /// Exit status: 0 nothing was lost, 1 something was, 2 it cannot be run, 3 ended by a signal.
    Ivshmem(IvshmemOptions),
}

#[derive(Debug, Args)]
pub(super) struct IvshmemOptions {
    /// Rings of each guest: half of them in turns, half as fast as it can.
    #[arg(long, default_value_t = 1_000_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    rings: u32,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn demo(demo: &Demo) -> Result<ExitCode, String> {
    let Demo::Ivshmem(options) = demo;
    let stop = signals::stop()?;
    let outcome = match run(DemoPlan::of(options.rings), &stop) {
        Err(DemoError::Interrupted) => return interrupted(options.json),
        outcome => outcome.map_err(|error| error.to_string())?,
    };
    Output::default().either(options.json, &outcome, text)?;
    Ok(status(!outcome.nothing_lost(), false))
}

fn text(outcome: &DemoOutcome) -> String {
    let mut text = match &outcome.without_kvm {
        Some(why) => format!("without KVM ({why}): two threads and eventfds\n"),
        None => "two guests on KVM: ioeventfd and irqfd\n".to_owned(),
    };
    for (name, [here, there]) in [
        ("first", [outcome.guests[0], outcome.guests[1]]),
        ("second", [outcome.guests[1], outcome.guests[0]]),
    ] {
        text.push_str(&format!(
            "{name}: {} rings sent; the other took {} interrupts for them and accounts for {} \
             ({} coalesced)\n",
            here.sent,
            there.taken,
            there.accounted,
            there.accounted.saturating_sub(there.taken)
        ));
    }
    let [p50, p90, p99, p999, longest] = outcome.round_trip_ns.map(|ns| ns as f64 / 1000.0);
    text.push_str(&format!(
        "round trip, us: {p50:.1} median, {p90:.1} 90 %, {p99:.1} 99 %, {p999:.1} 99.9 %, \
         {longest:.1} longest\n"
    ));
    if outcome.without_kvm.is_none() {
        let [first, second] = outcome.guests;
        text.push_str(&format!(
            "exits to userspace: {} ({:.6} a ring); messages from userspace: {}\n",
            first.exits + second.exits,
            outcome.exits_per_ring(),
            first.from_userspace + second.from_userspace
        ));
    }
    text.push_str(if outcome.nothing_lost() { "nothing was lost" } else { "RINGS WERE LOST" });
    text
}
