//! The owner of each byte of config space.

use super::ConfigOwner::{Both, Emulated, Passed};
use super::*;

fn assigned(space: &Space) -> Assigned {
    let bars = FunctionBars::from_config(space.bytes(), [0x1000, 0, 0, 0, 0, 0]).unwrap();
    let made = Assigned::new(space.bytes(), bars, &AssignOptions::default()).unwrap();
    assert_eq!(made.check(), Ok(()));
    made
}

/// The runs of a part of config space.
fn runs(made: &Assigned, at: u64, len: u64) -> Vec<(u64, ConfigOwner)> {
    made.split(at, len).map(|run| (run.range.start, run.owner)).collect()
}

#[test]
fn the_header_is_divided() {
    let made = assigned(&Space::new(256));
    let expected = [
        (0x00, Passed),   // ids
        (0x04, Both),     // Command, low byte of Status
        (0x07, Passed),   // errors of Status, revision, class, cache line, latency
        (0x0e, Both),     // header type
        (0x0f, Emulated), // BIST, BARs
        (0x28, Passed),   // CIS, subsystem
        (0x30, Emulated), // ROM, capability pointer
        (0x35, Passed),
        (0x3c, Emulated), // interrupt line and pin
        (0x3e, Passed),
    ];
    assert_eq!(runs(&made, 0, 256), expected);
    assert_eq!(made.pin(), Some(Pin::A));
    assert_eq!((made.msi(), made.msix(), made.capabilities()), (None, None, &[][..]));
}

#[test]
fn command_is_shadowed_and_interrupt_disable_kept_from_the_device() {
    let made = assigned(&Space::new(256));
    let [low, high, status] = [4, 5, 6].map(|at| made.masks(at));
    // I/O, memory and bus master: the guest reads the VMM's, the device gets the write.
    assert_eq!((low.to_guest(0x07, 0x40), low.to_device(0x07, 0)), (0x47, Some(0x07)));
    // Interrupt Disable, and SERR# beside it.
    assert_eq!((high.to_guest(0x04, 0x01), high.to_device(0x05, 0x04)), (0x05, Some(0x05)));
    assert_eq!((high.to_guest(0, 0x04), high.to_device(0x04, 0)), (0, Some(0)));
    // Interrupt Status and Capabilities List.
    assert_eq!(status.to_guest(0x18, 0x20), 0x30);
    assert_eq!(status.to_guest(0x00, 0x18), 0x08, "A17: only the device knows whether it asserts");
}

#[test]
fn all_of_msi_and_msix_is_emulated_whatever_their_shape() {
    for (control, len) in [(0x00, 10), (0x80, 14), (0x100, 20), (0x18a, 24)] {
        let mut space = Space::new(256);
        space.chain(&[(0x50, 0x11, &msix(2, 0, 0x800)), (0x80, 0x05, &u16::to_le_bytes(control))]);
        let made = assigned(&space);
        assert_eq!(runs(&made, 0x40, 0x30), [(0x40, Passed), (0x50, Emulated), (0x5c, Passed)]);
        let expected = [(0x70, Passed), (0x80, Emulated), (0x80 + len, Passed)];
        assert_eq!(runs(&made, 0x70, 0x30), expected, "{control:#x}");
        assert_eq!(made.msi(), Some(MsiCapability::from_control(control).unwrap()));
        assert_eq!(made.capability(0x05).map(|c| u64::from(c.len)), Some(len));
    }
}

#[test]
fn power_state_and_resets_do_not_reach_the_device() {
    let mut space = Space::new(256);
    space.chain(&[
        (0x40, 0x01, &[]),
        (0x50, 0x10, &[0x02]),
        (0x90, 0x13, &[0x06]),
        (0xa0, 0x09, &[0x08]),
        (0xb0, 0x14, &[2, 0, 4, 0, 0, 0]), // entries of 4 and 0 more dwords
    ]);
    space.put(0xb4, &[4]);
    let made = assigned(&space);
    for (at, bits, device) in [
        (0x44, 0x03, false), // power state
        (0x45, 0x01, false), // PME
        (0x57, 0x10, false), // offers a function level reset
        (0x58, 0x10, true),  // relaxed ordering
        (0x58, 0xef, false), // error reporting, tags, payload size
        (0x59, 0x80, false), // starts a function level reset
        (0x59, 0x70, true),  // read request size
        (0x79, 0x04, false), // LTR
        (0x93, 0x02, false), // offers a function level reset
        (0x94, 0x01, false), // starts it
        (0xa4, 0xff, true),  // vendor specific
    ] {
        let masks = made.masks(at);
        let expected = if device { bits } else { 0 };
        assert_eq!(masks.write & bits, expected, "{at:#x}");
    }
    // Link Control is read from the device.
    assert_eq!(
        (made.masks(0x60), made.masks(0x60).owner()),
        (Masks { read: 0xff, write: 0 }, Both)
    );
    assert_eq!(runs(&made, 0xa0, 4), [(0xa0, Passed), (0xa1, Emulated), (0xa2, Passed)]);
    // Enhanced Allocation: 4 + 20 + 4 bytes.
    assert_eq!(runs(&made, 0xac, 0x30), [(0xac, Passed), (0xb0, Emulated), (0xcc, Passed)]);
}

#[test]
fn the_extended_chain_is_emulated_and_the_hosts_capabilities_kept() {
    let mut space = Space::new(4096);
    space.extended(0x100, 0x01, 0x140).extended(0x140, 0x03, 0x160);
    space.extended(0x160, 0x10, 0x1a0).extended(0x1a0, 0x15, 0x1c0).put(0x1a8, &[0x40]);
    space.extended(0x1c0, 0x17, 0x200).put(0x1c4, &[0, 0x02, 3, 0]); // 4 tags in the capability
    space.extended(0x200, 0x23, 0).put(0x206, &[0, 0x02]); // 0x20 bytes
    let made = assigned(&space);
    let expected = [
        (0x100, Emulated), // the first header
        (0x104, Both),     // AER, read only
        (0x12c, Passed),
        (0x142, Both), // version and next
        (0x143, Emulated),
        (0x144, Passed),   // serial number
        (0x160, Emulated), // SR-IOV
        (0x1a0, Emulated), // Resizable BAR, 2 of them
        (0x1b4, Passed),
        (0x1c0, Emulated), // TPH
        (0x1d4, Passed),
        (0x202, Both),
        (0x203, Emulated),
        (0x204, Passed), // designated vendor specific
    ];
    let mut expected = expected.to_vec();
    // SR-IOV ends where Resizable BAR begins: one run.
    expected.retain(|&(at, _)| at != 0x1a0);
    assert_eq!(runs(&made, 0x100, 0xf00), expected);
    assert_eq!(made.masks(0x142), Masks { read: 0x0f, write: 0x0f });
    // The errors that AER recorded are cleared by the host only.
    let errors = made.masks(0x105);
    assert_eq!((errors.to_guest(0, 0x10), errors.to_device(0x10, 0x10)), (0x10, None));
    assert_eq!(made.capabilities().last().map(|c| (c.at, c.len)), Some((0x200, 0x20)));
    // What is past the end is the VMM's, to the last byte there could be.
    assert_eq!(runs(&made, 0xffc, 8), [(0xffc, Passed), (0x1000, Emulated)]);
    assert_eq!(runs(&made, u64::MAX - 1, 8), [(u64::MAX - 1, Emulated)]);
    assert_eq!(runs(&made, 0x40, 0), []);
}
