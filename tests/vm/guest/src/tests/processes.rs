//! A function that is saved in one process and restored in another, with the same device behind it. The
//! first ends as it stands: the kernel closes the device with everything bound.

mod handover;
mod machine;
mod restore;
mod save;

use super::TestApart;
use crate::process;
use crate::rig::Kind;
use msix_core::Mode;
use std::time::Instant;

pub(super) const TESTS: &[(&str, TestApart)] = &[
    ("edu is saved in one process and restored in another", || every_case(Kind::Edu)),
    ("e1000e is saved in one process and restored in another", || every_case(Kind::E1000e)),
    ("nvme is saved in one process and restored in another", || every_case(Kind::Nvme)),
    ("a USB controller is saved in one process and restored in another", || every_case(Kind::Xhci)),
];

/// One save and one restore.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    pin: PinBy,
    /// What the guest uses when it is saved.
    mode: Mode,
    left: Left,
    /// The mode that the new process's function, and so the device, is in before the load.
    before: Mode,
}

/// Who brings the pin to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PinBy {
    Userspace,
    Kernel,
    /// There is no pin.
    Nobody,
}

/// What waits for the guest when it is saved. In every case of MSI and MSI-X but [`Paused`](Self::Paused)
/// an interrupt waits in the local APIC as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// An event of a masked vector.
    Masked,
    /// An event under MSI-X's function mask.
    FunctionMasked,
    /// An event while Command forbids messages.
    NoBusMaster,
    /// An event in the eventfd of a function that was paused: detached.
    Paused,
    /// The same, of a masked vector.
    PausedMasked,
    /// A line, until its guest ends the interrupt: the device is satisfied already.
    Satisfied,
    /// A line: the device asserts, and does not after it was reset for the new process.
    Asserted,
    /// A line: the device asserts, and is brought to assert again before the load.
    AssertedAgain,
    /// The same, and Interrupt Disable is set.
    Disabled,
}

impl Left {
    /// Whether the event is in the snapshot and sent once the guest lets it through, and not before.
    const fn is_pending(self) -> bool {
        matches!(self, Self::Masked | Self::FunctionMasked | Self::NoBusMaster | Self::PausedMasked)
    }
}

/// The cases of a device: every mode with everything that can be left in it. The pin and the mode before
/// take turns, so that each mode is entered from each, and with every pin.
fn cases(kind: Kind) -> Vec<Case> {
    let mut cases = vec![];
    let mut add = |pin, mode, left, turn: usize| {
        let modes = modes(kind, pin);
        // A device in another mode asserts no line.
        let before = match left {
            Left::AssertedAgain | Left::Disabled => Mode::Intx,
            _ => modes[turn % modes.len()],
        };
        cases.push(Case { kind, pin, mode, left, before });
    };
    for &mode in kind.modes() {
        for (turn, &left) in lefts(kind, mode).iter().enumerate() {
            if mode == Mode::Intx {
                add(PinBy::Userspace, mode, left, turn);
                add(PinBy::Kernel, mode, left, turn + 1);
            } else {
                let pins = [PinBy::Userspace, PinBy::Kernel, PinBy::Nobody];
                add(pins[turn % 3], mode, left, turn + turn / 3);
            }
        }
    }
    add(PinBy::Nobody, Mode::None, Left::Nothing, 1);
    cases
}

/// The modes of a device's function.
fn modes(kind: Kind, pin: PinBy) -> Vec<Mode> {
    let without = |&mode| if mode == Mode::Intx { Mode::None } else { mode };
    match pin {
        PinBy::Nobody => kind.modes().iter().map(without).collect(),
        PinBy::Userspace | PinBy::Kernel => kind.modes().to_vec(),
    }
}

/// What can be left in a mode.
fn lefts(kind: Kind, mode: Mode) -> &'static [Left] {
    // The kernel's loopback is no level.
    let is_level = matches!(kind, Kind::Edu | Kind::E1000e);
    match mode {
        Mode::None => &[],
        Mode::Intx if is_level => {
            &[Left::Satisfied, Left::Asserted, Left::AssertedAgain, Left::Disabled]
        }
        Mode::Intx => &[Left::Satisfied, Left::Asserted],
        Mode::Msi => &[Left::Masked, Left::NoBusMaster, Left::Paused, Left::PausedMasked],
        Mode::MsiX => &[
            Left::Masked,
            Left::FunctionMasked,
            Left::NoBusMaster,
            Left::Paused,
            Left::PausedMasked,
        ],
    }
}

fn every_case(kind: Kind) -> Result<(), String> {
    let cases = cases(kind);
    let begun = Instant::now();
    for (number, case) in cases.iter().enumerate() {
        let number = number.to_string();
        for part in ["save", "restore"] {
            process::run(&[part, &format!("{kind:?}"), &number])
                .map_err(|why| format!("{case:?}: {why}"))?;
        }
    }
    let seconds = begun.elapsed().as_secs_f32();
    println!("VM-FIGURE: {kind:?}: {} restores into new processes in {seconds:.1} s", cases.len());
    Ok(())
}

/// Does what [`every_case`] started this process for.
pub(super) fn part(arguments: &[String]) -> Result<(), String> {
    let [part, kind, number] = arguments else {
        return Err(format!("the arguments are {arguments:?}"));
    };
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == *kind);
    let cases = cases(kind.ok_or("no such device")?);
    let number: usize = number.parse().map_err(super::text)?;
    let case = *cases.get(number).ok_or("no such case")?;
    match part.as_str() {
        "save" => save::save(case),
        _ => restore::restore(case),
    }
}
