//! QEMU's devices: their config spaces and BARs as `dump` wrote them.

use super::*;

/// A file of `data`: the config space, and the BARs' sizes.
pub(super) fn load(text: &str) -> (Vec<u8>, [u64; 6]) {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let (mut config, mut sizes) = (vec![0; 256], [0; 6]);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(bar) = line.strip_prefix("bar ") {
            let (index, size) = bar.split_once(' ').unwrap();
            sizes[usize::try_from(hex(index)).unwrap()] = hex(size);
        } else {
            let (at, bytes) = line.split_once(':').unwrap();
            let at = usize::try_from(hex(at)).unwrap();
            let bytes: Vec<u8> =
                bytes.split_whitespace().map(|byte| hex(byte).to_le_bytes()[0]).collect();
            if at + bytes.len() > config.len() {
                config.resize(4096, 0);
            }
            config[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    (config, sizes)
}

pub(super) const DEVICES: [(&str, &str); 6] = [
    ("edu", include_str!("data/edu.txt")),
    ("nvme", include_str!("data/nvme.txt")),
    ("e1000e", include_str!("data/e1000e.txt")),
    ("ivshmem-doorbell", include_str!("data/ivshmem-doorbell.txt")),
    ("virtio-net-pci", include_str!("data/virtio-net-pci.txt")),
    ("qemu-xhci", include_str!("data/qemu-xhci.txt")),
];

fn device(name: &str, options: &AssignOptions) -> Assigned {
    let (_, text) = DEVICES.iter().find(|device| device.0 == name).unwrap();
    let (config, sizes) = load(text);
    let bars = FunctionBars::from_config(&config, sizes).unwrap();
    let made = Assigned::new(&config, bars, options).unwrap();
    assert_eq!(made.check(), Ok(()), "{name}");
    made
}

#[test]
fn the_capabilities_of_qemus_devices_are_found() {
    /// Ids and places of the capabilities, vectors of MSI and MSI-X, pin.
    type Found<'a> = (&'a [(u16, u16)], u16, u16, Option<Pin>);
    let expected: [(&str, Found<'_>); 6] = [
        ("edu", (&[(0x05, 0x40)], 1, 0, Some(Pin::A))),
        ("nvme", (&[(0x11, 0x40), (0x10, 0x80), (0x01, 0x60)], 0, 65, Some(Pin::A))),
        (
            "e1000e",
            (
                &[
                    (0x01, 0xc8),
                    (0x05, 0xd0),
                    (0x10, 0xe0),
                    (0x11, 0xa0),
                    (0x01, 0x100),
                    (0x03, 0x140),
                ],
                1,
                5,
                Some(Pin::A),
            ),
        ),
        ("ivshmem-doorbell", (&[(0x11, 0x40)], 0, 4, None)),
        (
            "virtio-net-pci",
            (
                &[
                    (0x11, 0xdc),
                    (0x09, 0xc8),
                    (0x09, 0xb4),
                    (0x09, 0xa4),
                    (0x09, 0x94),
                    (0x09, 0x84),
                    (0x01, 0x7c),
                    (0x10, 0x40),
                ],
                0,
                4,
                Some(Pin::A),
            ),
        ),
        ("qemu-xhci", (&[(0x11, 0x90), (0x10, 0xa0)], 0, 16, Some(Pin::A))),
    ];
    for (name, (capabilities, msi, msix, pin)) in expected {
        let made = device(name, &AssignOptions::default());
        let found: Vec<_> = made.capabilities().iter().map(|c| (c.id, c.at)).collect();
        assert_eq!(found, capabilities, "{name}");
        assert_eq!(made.msi().map_or(0, MsiCapability::vectors), msi, "{name}");
        assert_eq!(made.msix().map_or(0, |layout| layout.vectors()), msix, "{name}");
        assert_eq!(made.pin(), pin, "{name}");
    }
}

#[test]
fn the_bars_of_qemus_devices_are_mapped_but_for_their_tables() {
    type Mapped<'a> = &'a [(u8, Range<u64>)];
    let expected: [(&str, Mapped<'_>); 6] = [
        ("edu", &[(0, 0..0x10_0000)]),
        ("nvme", &[(0, 0..0x2000)]),
        ("e1000e", &[(0, 0..0x2_0000), (1, 0..0x2_0000), (3, 0x1000..0x2000), (3, 0x3000..0x4000)]),
        ("ivshmem-doorbell", &[(2, 0..0x40_0000)]),
        ("virtio-net-pci", &[(4, 0..0x4000)]),
        ("qemu-xhci", &[(0, 0..0x3000)]),
    ];
    for (name, runs) in expected {
        let made = device(name, &all(PageSize::Kib4));
        let mapped: Vec<_> = made.mapped().map(|(index, range)| (index.index(), range)).collect();
        assert_eq!(mapped, runs, "{name}");
    }
}

#[test]
fn relocation_gives_16_kib_hosts_the_registers_of_nvme_and_xhci() {
    for name in ["nvme", "qemu-xhci"] {
        let stay = device(name, &all(PageSize::Kib16));
        assert_eq!(stay.mapped().count(), 0, "{name}: all in one page with the table");
        let own_table = OwnTable::Mapped;
        let options =
            AssignOptions { relocation: Relocation::Auto, own_table, ..all(PageSize::Kib16) };
        let moved = device(name, &options);
        assert_eq!(moved.mapped().collect::<Vec<_>>(), vec![(index(0), 0..0x4000); 1]);
        let table = moved.msix().unwrap().location(Region::Table);
        assert_eq!((table.bar, table.offset), (index(2), 0), "BAR 1 is an upper half");
    }
}
