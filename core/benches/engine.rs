//! Times of the engine beside the naive floor, in one process. Criterion reports both; the table
//! printed at the end alternates between the two, which is what a ratio on a noisy machine needs.
//! Results: README.md beside this file.

mod shared;

use criterion::{Criterion, criterion_group, criterion_main};
use msix_core::Inline;
use shared::{Engine, Floor, SCENARIOS, Subject, run};
use std::time::{Duration, Instant};

/// Rounds of one scenario that are timed together: a clock read costs more than a notify.
const ROUNDS: u16 = 2048;

/// Scenarios with work between the measured steps; the steps are long enough to be timed alone.
const STEPWISE: [&str; 2] = ["function-mask-pending", "load"];

/// Time a round of `scenario` takes, as the mean of `ROUNDS` rounds.
fn time(scenario: &str, subject: &mut impl Subject, vectors: u16) -> Duration {
    let mut total = Duration::ZERO;
    let start = Instant::now();
    if STEPWISE.contains(&scenario) {
        run(scenario, subject, vectors, ROUNDS, &mut |subject, step| {
            let start = Instant::now();
            step(subject);
            total += start.elapsed();
        });
    } else {
        run(scenario, subject, vectors, ROUNDS, &mut |subject, step| step(subject));
        total = start.elapsed();
    }
    total / u32::from(ROUNDS)
}

fn both(
    scenario: &str,
    criterion: &mut Criterion,
    mut e: impl Subject,
    mut f: impl Subject,
    n: u16,
) {
    let mut group = criterion.benchmark_group(scenario);
    let scale = |iterations: u64, each: Duration| each * u32::try_from(iterations).unwrap();
    group.bench_function("engine", |b| b.iter_custom(|i| scale(i, time(scenario, &mut e, n))));
    group.bench_function("floor", |b| b.iter_custom(|i| scale(i, time(scenario, &mut f, n))));
    group.finish();
    let (mut engine, mut floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..51 {
        let (e, f) = (time(scenario, &mut e, n), time(scenario, &mut f, n));
        ratios.push(e.as_secs_f64() / f.as_secs_f64());
        engine.push(e);
        floor.push(f);
    }
    engine.sort();
    floor.sort();
    ratios.sort_by(f64::total_cmp);
    println!(
        "| {scenario} | {:?} / {:?} | {:?} / {:?} | {:.2} |",
        engine[0], engine[25], floor[0], floor[25], ratios[25]
    );
}

fn engine_and_floor(criterion: &mut Criterion) {
    println!("| scenario | engine, min / median | floor, min / median | median ratio |");
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
