//! Every short history of functions with one vector, in every mode: emulated, with eventfds of others, and
//! passed through. `./tests/run long` goes deeper.

use msix_world::{Bounds, Input, Producers, Setup, search};
use std::time::Duration;

/// Every history up to this long: shorter with several modes, and with others who write eventfds.
fn depth(setup: &Setup) -> usize {
    let modes =
        [setup.msix, setup.msi.is_some(), setup.pin].into_iter().filter(|mode| *mode).count();
    let others = usize::from(setup.producers != Producers::None);
    5 - modes.max(1 + others)
}

fn search_all(what: &str, more: impl Fn(&Setup) -> Vec<Input>, less: usize) {
    for (name, setup) in Setup::single() {
        let alphabet = [setup.alphabet(), more(&setup)].concat();
        // The time is no bound but for a machine that hangs.
        let time = Duration::from_secs(600);
        let bounds = Bounds { depth: depth(&setup) - less, time, threads: 2, ..Bounds::default() };
        let searched = search(setup, None, &alphabet, bounds);
        println!("{name}{what}: {searched}");
        if let Some(found) = searched.found {
            panic!("{name}{what}:\n{found}");
        }
        assert!(searched.closed || searched.depth == bounds.depth, "{name}{what}: not in time");
    }
}

#[test]
fn no_short_history_breaks_a_rule() {
    search_all("", |_| Vec::new(), 0);
}

#[test]
fn no_short_history_on_a_kernel_that_fails_breaks_a_rule() {
    search_all(", failures", Setup::failures, 1);
}
