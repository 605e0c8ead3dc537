//! The time of a replay beside a floor that only finds the lines of the log, in one process, turn about.
//! Results, and what a reader may conclude from them: README.md beside this file.

use msix_sim::replay::{Peer, replay_bytes};
use std::hint::black_box;
use std::io::{BufRead as _, Read as _};
use std::path::Path;
use std::time::Instant;

const TURNS: usize = 31;

/// The recordings, each as often as makes some megabytes.
fn log(name: &str, times: usize) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    let bytes = std::fs::read(path).expect("a recording of the repository");
    let mut log = Vec::new();
    if name.ends_with(".gz") {
        let mut unpacked = flate2::read::GzDecoder::new(bytes.as_slice());
        unpacked.read_to_end(&mut log).expect("it is packed well");
    } else {
        log = bytes;
    }
    log.repeat(times)
}

/// Finds the lines of a log twice: a replay reads it in two passes.
fn floor(log: &[u8]) {
    for _ in 0..2 {
        let (mut reader, mut line, mut lines) = (log, Vec::new(), 0_u64);
        while reader.read_until(b'\n', &mut line).expect("it is in memory") != 0 {
            lines += 1;
            line.clear();
        }
        black_box(lines);
    }
}

/// Megabytes of the log in a second.
fn rate(log: &[u8], run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    log.len() as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn main() {
    println!("| log | MB | replay, MB/s, median / best | floor | floor / replay, median |");
    println!("|---|---|---|---|---|");
    for (name, times) in [("linux-6.1-q35.log", 8), ("linux-6.1-virtio-blk.log.gz", 8)] {
        let log = log(name, times);
        let mut turns: Vec<(f64, f64)> = Vec::new();
        for _ in 0..TURNS {
            let replay = rate(&log, || {
                let report = replay_bytes(&log, Peer::Qemu).expect("a recording");
                assert_eq!(black_box(report).mismatches, 0);
            });
            turns.push((replay, rate(&log, || floor(&log))));
        }
        let sorted = |value: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (replay, floor, ratio) = (sorted(|t| t.0), sorted(|t| t.1), sorted(|t| t.1 / t.0));
        let last = TURNS - 1;
        println!(
            "| `{name}` | {:.1} | {:.0} / {:.0} | {:.0} / {:.0} | {:.1} |",
            log.len() as f64 / 1e6,
            replay[TURNS / 2],
            replay[last],
            floor[TURNS / 2],
            floor[last],
            ratio[TURNS / 2],
        );
    }
}
