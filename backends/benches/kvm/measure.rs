//! Turns about, and what is said of them.

use msix_backends::kvm::RouteStats;
use std::error::Error;
use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What one turn of one side gave.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Of one operation.
    nanoseconds: f64,
    /// What was asked of the kernel in the timed part.
    asked: Option<Asked>,
}

/// Calls of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) commits: u64,
    pub(crate) assigns: u64,
    pub(crate) deassigns: u64,
    pub(crate) signals: u64,
}

impl Asked {
    /// Between two looks, without a failure.
    pub(crate) fn between(before: RouteStats, after: RouteStats) -> Self {
        assert_eq!(after.failures, before.failures, "the kernel refused something");
        Self {
            commits: after.commits - before.commits,
            assigns: after.assigns - before.assigns,
            deassigns: after.deassigns - before.deassigns,
            signals: after.signals - before.signals,
        }
    }
}

impl Turn {
    pub(crate) fn of(time: Duration) -> Self {
        Self { nanoseconds: time.as_secs_f64() * 1e9, asked: None }
    }

    /// The quicker of two.
    pub(crate) fn or_quicker(self, other: Self) -> Self {
        if other.nanoseconds < self.nanoseconds { other } else { self }
    }

    /// It was so many operations.
    pub(crate) fn divided(self, operations: u32) -> Self {
        Self { nanoseconds: self.nanoseconds / f64::from(operations), ..self }
    }

    pub(crate) const fn asked(self, asked: Asked) -> Self {
        Self { asked: Some(asked), ..self }
    }
}

/// Times `work`.
pub(crate) fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Turn> {
    let start = Instant::now();
    work()?;
    Ok(Turn::of(start.elapsed()))
}

/// One side of a comparison.
pub(crate) struct Side<'a> {
    name: &'static str,
    /// Its place in the list.
    baseline: usize,
    /// It takes part in one round of so many.
    every: usize,
    turn: Box<dyn FnMut() -> Outcome<Turn> + 'a>,
}

impl<'a> Side<'a> {
    /// Compared with the side at `baseline`, itself perhaps.
    pub(crate) fn new(
        name: &'static str,
        baseline: usize,
        turn: impl FnMut() -> Outcome<Turn> + 'a,
    ) -> Self {
        Self { name, baseline, every: 1, turn: Box::new(turn) }
    }

    /// Takes part in one round of so many: it is slow.
    pub(crate) fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }
}

/// Runs what is wanted and prints it.
#[derive(Debug)]
pub(crate) struct Report {
    wanted: Option<String>,
}

impl Report {
    pub(crate) const fn new(wanted: Option<String>) -> Self {
        Self { wanted }
    }

    /// Whether a scenario of this name should run.
    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| scenario.contains(wanted))
    }

    /// `rounds` rounds after one that does not count. Each side has a turn a round; who begins
    /// changes, and so does the direction.
    pub(crate) fn compare(
        &mut self,
        scenario: &str,
        rounds: usize,
        mut sides: Vec<Side<'_>>,
    ) -> Outcome<()> {
        let mut turns: Vec<Vec<Option<f64>>> = sides.iter().map(|_| Vec::new()).collect();
        let mut asked = vec![None; sides.len()];
        for round in 0..=rounds {
            for step in 0..sides.len() {
                let step = if round % 2 == 0 { step } else { sides.len() - 1 - step };
                let place = (round + step) % sides.len();
                let side = &mut sides[place];
                // The slow ones begin with the first round that counts.
                let turn = if (round + side.every - 1).is_multiple_of(side.every) {
                    let turn = (side.turn)()?;
                    assert!(
                        asked[place].is_none_or(|before| before == turn.asked),
                        "always so many"
                    );
                    asked[place] = Some(turn.asked);
                    Some(turn.nanoseconds).filter(|_| round > 0)
                } else {
                    None
                };
                turns[place].push(turn);
            }
        }
        println!(
            "| {scenario} | min | median | ratio of min | median ratio \
             | commits | assigns | deassigns | signals |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let least = |place: usize| turns[place].iter().flatten().copied().fold(f64::MAX, f64::min);
        for (place, side) in sides.iter().enumerate() {
            let times = sorted(turns[place].iter().flatten().copied().collect());
            let pairs = turns[place].iter().zip(&turns[side.baseline]);
            let ratios = sorted(pairs.filter_map(|(own, base)| Some((*own)? / (*base)?)).collect());
            let counts = asked[place].flatten().map_or_else(
                || "| | | |".to_owned(),
                |Asked { commits, assigns, deassigns, signals }| {
                    format!("| {commits} | {assigns} | {deassigns} | {signals}")
                },
            );
            println!(
                "| {} | {} | {} | {:.2} | {:.2} {counts} |",
                side.name,
                human(least(place)),
                human(times[times.len() / 2]),
                least(place) / least(side.baseline),
                ratios[ratios.len() / 2],
            );
        }
        println!();
        Ok(())
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn human(nanoseconds: f64) -> String {
    match nanoseconds {
        short if short < 1e4 => format!("{short:.0} ns"),
        middle if middle < 1e7 => format!("{:.1} us", middle / 1e3),
        long => format!("{:.1} ms", long / 1e6),
    }
}
