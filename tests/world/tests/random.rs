//! Long random histories of functions with several vectors, and of a kernel that fails.
//!
//! The ordinary run plays the same histories each time. `MSIX_WORLD_CASES=n` plays n new ones of every
//! function instead.

use msix_world::{Input, Setup, play};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Plays random histories of every function with so many vectors, and shrinks what breaks a rule.
fn random(vectors: u8, cases: u32, failures: bool) {
    let asked: Option<u32> = std::env::var("MSIX_WORLD_CASES").ok().and_then(|n| n.parse().ok());
    let config = Config {
        cases: asked.unwrap_or(cases),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    for (name, setup) in Setup::several(vectors) {
        for deferred in [false, true] {
            let setup = Setup { deferred, ..setup };
            let mut runner = match asked {
                Some(_) => TestRunner::new(config.clone()),
                None => {
                    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
                    TestRunner::new_with_rng(config.clone(), rng)
                }
            };
            let mut alphabet = setup.fuzzed();
            alphabet.retain(|input| failures || !matches!(input, Input::Fail(_)));
            let histories = vec(select(alphabet), 1..80);
            let played = runner.run(&histories, |history: Vec<Input>| {
                play(setup, None, &history).map_err(|found| TestCaseError::fail(found.to_string()))
            });
            if let Err(error) = played {
                panic!("{name}, deferred {deferred}: {error}");
            }
        }
    }
}

#[test]
fn two_vectors() {
    random(2, 60, false);
}

#[test]
fn four_vectors() {
    random(4, 40, false);
}

#[test]
fn two_vectors_on_a_kernel_that_fails() {
    random(2, 60, true);
}

#[test]
fn three_vectors_on_a_kernel_that_fails() {
    random(3, 40, true);
}
