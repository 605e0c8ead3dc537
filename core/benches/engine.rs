//! Times of the engine beside the naive floor, in one process. Criterion reports both; the table
//! printed at the end alternates between the two, which is what a ratio on a noisy machine needs.
//! Results: README.md beside this file.

mod shared;

use criterion::{Criterion, criterion_group, criterion_main};
use msix_core::Inline;
use shared::{Engine, Floor, SCENARIOS, Subject, measured, run};
use std::time::{Duration, Instant};

/// Rounds of one scenario that are timed together: a clock read costs more than a notify.
const ROUNDS: u16 = 2048;

/// Scenarios with work between the measured steps; the steps are long enough to be timed alone.
const STEPWISE: [&str; 3] = ["function-mask-pending", "load", "load-version-1"];

/// Nanoseconds a round of `scenario` takes, as the mean of `ROUNDS` rounds.
fn time(scenario: &str, subject: &mut impl Subject, vectors: u16) -> f64 {
    let mut total = Duration::ZERO;
    let start = Instant::now();
    if STEPWISE.contains(&scenario) {
        run(scenario, subject, vectors, ROUNDS, &mut |subject, step| {
            let start = Instant::now();
            step(subject);
            total += start.elapsed();
        });
    } else {
        run(scenario, subject, vectors, ROUNDS, &mut |subject, step| measured(subject, step));
        total = start.elapsed();
    }
    total.as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

fn both(
    scenario: &str,
    criterion: &mut Criterion,
    mut engine: impl Subject,
    mut floor: impl Subject,
    vectors: u16,
) {
    let mut group = criterion.benchmark_group(scenario);
    let scale = |rounds: u64, each: f64| Duration::from_secs_f64(each * rounds as f64 / 1e9);
    group.bench_function("engine", |bencher| {
        bencher.iter_custom(|rounds| scale(rounds, time(scenario, &mut engine, vectors)));
    });
    group.bench_function("floor", |bencher| {
        bencher.iter_custom(|rounds| scale(rounds, time(scenario, &mut floor, vectors)));
    });
    group.finish();
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    for _ in 0..51 {
        pairs.push((time(scenario, &mut engine, vectors), time(scenario, &mut floor, vectors)));
    }
    let sorted = |value: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (engine, floor, ratio) = (sorted(|p| p.0), sorted(|p| p.1), sorted(|p| p.0 / p.1));
    println!(
        "| {scenario} | {:.1} / {:.1} | {:.1} / {:.1} | {:.2} |",
        engine[0], engine[25], floor[0], floor[25], ratio[25]
    );
}

fn engine_and_floor(criterion: &mut Criterion) {
    println!("| scenario | engine, ns, min / median | floor, ns, min / median | median ratio |");
    for (scenario, vectors) in SCENARIOS {
        if vectors == 64 {
            both(scenario, criterion, Engine::<Inline<64, 1>>::new(), Floor::<64, 1>::new(), 64);
        } else {
            let (engine, floor) = (Engine::<Inline<2048, 32>>::new(), Floor::<2048, 32>::new());
            both(scenario, criterion, engine, floor, vectors);
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = engine_and_floor
}
criterion_main!(benches);
