//! The committed inputs of `assign`: QEMU's devices under several options, and that each runs.

use crate::corpus::{committed, run_all};

/// Config spaces and BARs as they were read from QEMU's devices.
const DEVICES: [(&str, &str); 6] = [
    ("edu", include_str!("../../backends/src/assign/tests/data/edu.txt")),
    ("nvme", include_str!("../../backends/src/assign/tests/data/nvme.txt")),
    ("e1000e", include_str!("../../backends/src/assign/tests/data/e1000e.txt")),
    ("ivshmem-doorbell", include_str!("../../backends/src/assign/tests/data/ivshmem-doorbell.txt")),
    ("virtio-net-pci", include_str!("../../backends/src/assign/tests/data/virtio-net-pci.txt")),
    ("qemu-xhci", include_str!("../../backends/src/assign/tests/data/qemu-xhci.txt")),
];

/// No relocation.
const STAY: u8 = 6 << 5;
/// Where more can be mapped.
const AUTO: u8 = 7 << 5;

#[test]
fn every_function_in_the_corpus_is_refused_or_its_map_is_whole() {
    run_all("assign", crate::assign);
}

#[test]
fn the_functions_in_the_corpus_are_these() {
    for (name, text) in DEVICES {
        let (bars, config) = read(text);
        committed("assign", name, &seed(bars, [5; 6], STAY, &config));
        // Pages of 16 KiB, and the device's own table may be seen.
        let relocated = seed(bars, [5; 6], AUTO | 16 | 1, &config);
        committed("assign", &format!("{name}-relocated"), &relocated);
    }
    let (bars, nvme) = read(DEVICES[1].1);
    let memory64 = [bars[0] | 2 << 6, 0, 5 | 3 << 6, 0, 0, 0];
    committed("assign", "nvme-of-areas", &seed(memory64, [2; 6], STAY | 8 | 4, &nvme));
    committed("assign", "nvme-to-bar-2", &seed(bars, [1; 6], 2 << 5, &nvme));
    // MSI-X is hidden, and pages 0 of BAR 0 and of the window of a network card trap.
    let mut hidden = seed(bars, [5; 6], STAY, &nvme);
    hidden[SIZE] |= 1 << 3 | 1 << 4;
    committed("assign", "nvme-hidden", &hidden);
    let mut network = nvme.clone();
    network[..4].copy_from_slice(&[0xec, 0x10, 0x68, 0x81]);
    let mut window = seed([bars[0] | 1 << 6, 0, 12 | 1 << 6, 0, 0, 0], [5; 6], STAY, &network);
    window[SIZE] |= 3 << 4;
    committed("assign", "window", &window);
    // Table and PBA both at 0.
    let mut wrong = nvme.clone();
    wrong[0x44..0x4c].fill(0);
    committed("assign", "nvme-wrong", &seed(bars, [5; 6], STAY, &wrong));
    committed("assign", "nvme-wrong-relocated", &seed(bars, [5; 6], AUTO, &wrong));
    let mut looped = nvme.clone();
    looped[0x41] = 0x40;
    committed("assign", "looped", &seed(bars, [5; 6], STAY, &looped));
    let mut bridge = nvme;
    bridge[0x0e] = 1;
    committed("assign", "bridge", &seed(bars, [5; 6], STAY, &bridge));
}

/// Where a seed has the size of config space, and what is hidden and traps.
const SIZE: usize = 61;

/// What [`crate::assign`] decodes: log2 of the BARs' sizes, the kernel's word, options, and accesses
/// to the MSI-X capability, to table and PBA, and to registers.
fn seed(bars: [u8; 6], kernel: [u8; 6], options: u8, config: &[u8]) -> Vec<u8> {
    let mut bytes = [bars, kernel].concat();
    let pair = |bytes: &mut Vec<u8>, (first, second): (u64, u64)| {
        bytes.extend(first.to_le_bytes());
        bytes.extend(second.to_le_bytes());
    };
    for area in [(0, 0x1000), (0x800, 0x1800), (0x3800, 0x1_0000)] {
        pair(&mut bytes, area);
    }
    bytes.extend([options, u8::from(config.len() > 256)]);
    for access in [(0x3e, 8), (0x2ffc, 8), (0x3000, 0x80), (0, 4)] {
        pair(&mut bytes, access);
    }
    let used = config.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.extend(&config[..used]);
    bytes
}

/// A file of the test data: log2 of the BARs' sizes, and the config space.
fn read(text: &str) -> ([u8; 6], Vec<u8>) {
    let hex = |text: &str| {
        u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal digits")
    };
    let (mut bars, mut config) = ([0; 6], vec![0; 256]);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((index, size)) = line.strip_prefix("bar ").and_then(|bar| bar.split_once(' ')) {
            let index: usize = index.parse().expect("an index");
            bars[index] = hex(size).ilog2().to_le_bytes()[0];
        } else if let Some((at, row)) = line.split_once(':') {
            let at = usize::try_from(hex(at)).expect("an offset");
            let row: Vec<u8> =
                row.split_whitespace().map(|byte| hex(byte).to_le_bytes()[0]).collect();
            if at + row.len() > config.len() {
                config.resize(4096, 0);
            }
            config[at..at + row.len()].copy_from_slice(&row);
        }
    }
    (bars, config)
}
