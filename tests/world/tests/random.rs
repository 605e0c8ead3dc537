//! Long random histories of functions with several vectors, and of a kernel that fails.

use msix_world::{Input, Setup, play};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

/// Plays random histories of every function with so many vectors, and shrinks what breaks a rule.
fn random(vectors: u8, failures: bool, cases: u32) {
    let cases =
        std::env::var("MSIX_WORLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    let only = std::env::var("MSIX_WORLD_SETUP").ok();
    let left_out = std::env::var("MSIX_WORLD_WITHOUT").unwrap_or_default();
    for (name, setup) in Setup::several(vectors) {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let mut alphabet = setup.alphabet();
        if failures {
            alphabet.extend(setup.failures());
        }
        alphabet.retain(|i| {
            !left_out.split(',').any(|n| !n.is_empty() && format!("{i:?}").starts_with(n))
        });
        let histories = vec(select(alphabet), 1..60);
        let config = Config {
            cases,
            max_shrink_iters: 20_000,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let played = runner.run(&histories, |history: Vec<Input>| {
            play(setup, None, &history).map_err(|found| TestCaseError::fail(found.to_string()))
        });
        if let Err(error) = played {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn functions_with_two_vectors() {
    random(2, false, 200);
}

#[test]
fn functions_with_four_vectors() {
    random(4, false, 200);
}

#[test]
fn functions_on_a_kernel_that_fails() {
    random(2, true, 200);
}
