//! Transitions a second of processor time. Results, and what a reader may conclude from them:
//! `sim/benches/README.md`.

use msix_explorer::{
    Extent, FunctionOptions, MsixOptions, Peer, explore_function, explore_msix, placed,
};
use rustix::time::{ClockId, clock_gettime};

const TURNS: usize = 3;

fn msix(vectors: usize, policy: Peer) -> Extent {
    let mut options = MsixOptions::default();
    (options.at, options.policy) = (placed(vectors), policy);
    let outcome = explore_msix(&options, |_| true).expect("these can be explored");
    assert!(outcome.violation.is_none());
    outcome.extent
}

fn function(policy: Peer) -> Extent {
    let mut options = FunctionOptions::default();
    options.policy = policy;
    let outcome = explore_function(&options, |_| true);
    assert!(outcome.violation.is_none());
    outcome.extent
}

/// A search's name, and the search.
type Row = (&'static str, fn() -> Extent);

/// Seconds that this thread ran.
fn ran() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let rows: [Row; 3] = [
        ("MSI-X, 1 vector, spec", || msix(1, Peer::Spec)),
        ("MSI-X, 2 vectors, spec", || msix(2, Peer::Spec)),
        ("function, 1 vector, spec", || function(Peer::Spec)),
    ];
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!("| search | states | transitions | million transitions/s, median / best |");
    println!("|---|---|---|---|");
    for (name, search) in rows {
        if named.as_ref().is_some_and(|named| !name.contains(named.as_str())) {
            continue;
        }
        let mut rates = Vec::new();
        let mut seen = None;
        for _ in 0..TURNS {
            let begun = ran();
            let extent = search();
            rates.push(extent.transitions as f64 / 1e6 / (ran() - begun));
            seen = Some(extent);
        }
        rates.sort_by(f64::total_cmp);
        if let Some(Extent { states, transitions, .. }) = seen {
            let (median, best) = (rates[TURNS / 2], rates[TURNS - 1]);
            println!("| {name} | {states} | {transitions} | {median:.2} / {best:.2} |");
        }
    }
}
