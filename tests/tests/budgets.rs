//! The budgets of the engine, and of a function on KVM, counted: instructions under callgrind, and bytes.

use msix_core::{Inline, Msix};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Scenario of `core/benches/instructions.rs`, rounds, most instructions a round, call included.
const BUDGETS: [(&str, u64, u64); 11] = [
    ("notify-unmasked", 200, 28),
    ("notify-masked", 200, 38),
    ("notify-masked-64", 64, 38),
    ("address", 200, 45),
    ("mask-unmask", 200, 105),
    ("table-read", 200, 35),
    ("bring-up", 64, 760),
    ("affinity", 200, 380),
    ("function-mask", 20, 1_950),
    ("function-mask-pending", 20, 3_000),
    ("pba", 200, 20),
];

/// Scenario of `backends/benches/instructions.rs`, rounds, most instructions a round, call included.
const FUNCTION_BUDGETS: [(&str, u64, u64); 11] = [
    ("write-masked", 200, 100),
    ("read", 200, 53),
    ("read-pba", 200, 90),
    ("read-pba-2048", 200, 90),
    ("notify-armed", 200, 167),
    ("notify-masked", 200, 156),
    ("mask-unmask", 200, 1_100),
    ("affinity", 200, 2_000),
    ("function-mask", 20, 23_600),
    ("flush-idle", 20, 67),
    ("commit", 20, 3_000),
];

/// Scenarios that cost about what copying and checking the same bytes costs: per cent of the floor.
const RATIOS: [(&str, u64, u64); 3] =
    [("save", 5, 105), ("load", 5, 120), ("load-version-1", 5, 75)];

#[test]
fn the_engine_keeps_to_its_instruction_budgets() {
    if !has_valgrind("instruction budgets") {
        return;
    }
    let program = benchmark("msix-core-benches");
    let count = |scenario: &str, side: &str, rounds| count(&program, &[scenario, side], rounds);
    let mut over = Vec::new();
    for (scenario, rounds, budget) in BUDGETS {
        let (engine, floor) = (count(scenario, "engine", rounds), count(scenario, "floor", rounds));
        println!("{scenario}: {engine} instructions, floor {floor}, budget {budget}");
        if engine > budget {
            over.push(format!("{scenario}: {engine} of {budget}"));
        }
    }
    for (scenario, rounds, percent) in RATIOS {
        let (engine, floor) = (count(scenario, "engine", rounds), count(scenario, "floor", rounds));
        println!("{scenario}: {engine} instructions, floor {floor}, budget {percent} % of it");
        if engine * 100 > floor * percent {
            over.push(format!("{scenario}: {engine}, floor {floor}"));
        }
    }
    assert!(over.is_empty(), "over budget: {over:?}");
}

#[test]
fn a_function_keeps_to_its_instruction_budgets() {
    if !has_valgrind("instruction budgets of a function") {
        return;
    }
    let program = benchmark("msix-backends-benches");
    let mut over = Vec::new();
    for (scenario, rounds, budget) in FUNCTION_BUDGETS {
        let counted = count(&program, &[scenario], rounds);
        println!("{scenario}: {counted} instructions, budget {budget}");
        if counted > budget {
            over.push(format!("{scenario}: {counted} of {budget}"));
        }
    }
    assert!(over.is_empty(), "over budget: {over:?}");
}

#[test]
fn the_engine_keeps_to_its_memory_budget() {
    fn check<const N: usize, const W: usize>() {
        let (bytes, budget) = (size_of::<Msix<Inline<N, W>>>(), N * 37 / 2 + 192);
        println!("{N} vectors: {bytes} bytes, budget {budget}");
        assert!(bytes <= budget, "{N} vectors take {bytes} bytes of {budget}");
    }
    check::<1, 1>();
    check::<4, 1>();
    check::<64, 1>();
    check::<128, 2>();
    check::<2048, 32>();
}

/// Returns whether valgrind is there, and says that `what` is skipped if not.
fn has_valgrind(what: &str) -> bool {
    let found = Command::new("valgrind").arg("--version").output().is_ok();
    if !found {
        msix_tests::peers::skipped(what, "valgrind", "apt-get install valgrind");
    }
    found
}

/// Builds the counted program of a package, optimised, and says where it is.
fn benchmark(package: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["bench", "--bench", "instructions", "--no-run", "--package", package])
        .args(["--message-format", "json", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo writes text");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| {
            (message["target"]["name"] == "instructions")
                .then(|| message["executable"].as_str().map(PathBuf::from))?
        })
        .expect("cargo names the executable")
}

/// Instructions that a round of a scenario takes.
fn count(program: &Path, scenario: &[&str], rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured*")
        .arg(program)
        .args(scenario)
        .arg(rounds.to_string())
        .output()
        .expect("valgrind runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let total = log.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, n)| n);
    let total: u64 = total.and_then(|n| n.trim().parse().ok()).expect("callgrind counts");
    assert!(total > 0, "nothing was measured");
    total / rounds
}
