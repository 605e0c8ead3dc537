//! Cases for a whole function: MSI (`M01`..), INTx and the switching between modes (`L01`..).

mod intx;
mod msi;
mod restore;

use super::adapter::{FunctionReset, Message, NoDevice, Refused, Withdrawal};
use super::bench::{Outcome, Stop};
use super::judge_at;
use super::report::{CaseReport, Report, Verdict};
use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
pub use msix_core::Mode;

/// An implementation of a whole function under test.
pub trait FunctionSubject {
    /// Returns a name for the report.
    fn name(&self) -> String;

    /// Makes a device with a pin and an MSI capability with a 64-bit address, `vectors` vectors and, if
    /// `masks`, mask and pending registers. It is in its power-on state, with bus master on and a
    /// backend attached where there is such a thing.
    ///
    /// # Errors
    /// [`NoDevice`].
    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice>;
}

/// One function with a pin and MSI.
pub trait FunctionDevice {
    /// Reads as a guest, at byte `offset` of the MSI capability, inside it.
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]);
    /// Writes as a guest, at byte `offset` of the MSI capability, inside it.
    fn write_msi(&mut self, offset: usize, bytes: &[u8]);
    /// Writes Bus Master Enable as a guest.
    fn set_bus_master(&mut self, on: bool);
    /// Writes Interrupt Disable as a guest.
    fn set_interrupt_disable(&mut self, on: bool);
    /// Reads Interrupt Status as a guest.
    fn interrupt_status(&mut self) -> bool;
    /// Makes the device ask for attention: by event `vector` where MSI or MSI-X is on, else by its
    /// level, which stays high until [`satisfy`](Self::satisfy).
    fn fire(&mut self, vector: u16);
    /// Ends the cause of the level, which becomes low.
    fn satisfy(&mut self);
    /// Takes the messages sent since the last call, in order.
    fn messages(&mut self) -> Vec<Message>;
    /// Returns the level that the guest's interrupt controller sees.
    fn line(&mut self) -> bool;

    /// Offers to take a pending event of MSI back (A8).
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal>;
    /// Offers MSI-X of the same function.
    fn msix(&mut self) -> Option<&mut dyn MsixBeside>;
    /// Offers a passed-through device's line instead of the emulated one.
    fn physical(&mut self) -> Option<&mut dyn PhysicalLine>;
    /// Offers function reset.
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset>;
    /// Offers the modes that the host was asked to arm (`true`) and disarm since the last call, in
    /// order.
    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>>;
    /// Offers snapshots.
    fn snapshots(&mut self) -> Option<&mut dyn FunctionSnapshots> {
        None
    }
}

/// Snapshots of a whole function.
pub trait FunctionSnapshots {
    /// Saves, with what the host holds.
    fn save(&mut self) -> Vec<u8>;
    /// Loads what another device of the same kind saved.
    ///
    /// # Errors
    /// Why not.
    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused>;
    /// Ends the load.
    fn resume(&mut self);
}

/// MSI-X beside MSI: one vector, claimed and unmasked, with [`MSIX_MESSAGE`].
pub trait MsixBeside {
    /// Writes MSI-X Enable as a guest.
    fn set_enabled(&mut self, on: bool);
}

/// The message of the one vector of MSI-X.
pub const MSIX_MESSAGE: Message = Message { address: 0xfee0_2000, data: 0x55 };

/// A line that is masked when it fires (D12).
pub trait PhysicalLine {
    /// Makes the device assert it, or not. It fires when it is asserted, armed and not masked.
    fn assert(&mut self, high: bool);
    /// Ends the interrupt as a guest does (EOI).
    fn eoi(&mut self);
    /// Returns how often it fired.
    fn fired(&mut self) -> u32;
}

/// One case.
#[derive(Clone, Copy)]
pub struct FunctionCase {
    /// Its id, which never changes.
    pub id: &'static str,
    /// What must be seen.
    pub intent: &'static str,
    /// The MSI vector counts it is run at.
    pub sizes: &'static [u16],
    run: fn(&Stand<'_>) -> Outcome,
}

impl Debug for FunctionCase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.id, self.intent)
    }
}

const ALL: &[u16] = &[1, 2, 8, 32];
const MANY: &[u16] = &[2, 8, 32];
const ONE: &[u16] = &[1];

const fn at(
    sizes: &'static [u16],
    id: &'static str,
    intent: &'static str,
    run: fn(&Stand<'_>) -> Outcome,
) -> FunctionCase {
    FunctionCase { id, intent, sizes, run }
}

/// All cases for whole functions, with the words of `CONFORMANCE.md`.
pub const FUNCTION_CASES: [FunctionCase; 30] = [
    at(ALL, "M01", "reset: Enable, vectors allocated, address, data and masks all 0", msi::m01),
    at(
        ALL,
        "M02",
        "all ones written to control: only Enable and Multiple Message Enable change",
        msi::m02,
    ),
    at(ALL, "M03", "control written as 1@2, 2@2 and 4@0: same state each way", msi::m03),
    at(ALL, "M04", "address and data read back; address bits 1:0 read 0", msi::m04),
    at(ALL, "M05", "event while enabled: one message, the register's address and data", msi::m05),
    at(
        MANY,
        "M06",
        "all vectors allocated: event k sends the data with its low bits replaced by k",
        msi::m06,
    ),
    at(MANY, "M07", "fewer allocated: event k is sent as one of those, and none is lost", msi::m07),
    at(ALL, "M08", "more allocated than capable: no message outside the capable vectors", msi::m08),
    at(ALL, "M09", "event while masked: pending, no message; unmask: exactly one", msi::m09),
    at(ALL, "M10", "many events while masked: one message on unmask", msi::m10),
    at(
        ALL,
        "M11",
        "withdraw while masked: pending 0, unmask sends nothing; fire again: pending again",
        msi::m11,
    ),
    at(ALL, "M12", "mask bits of missing vectors read 0; pending bits are read-only", msi::m12),
    at(
        ALL,
        "M13",
        "disable with an event pending, unmask, enable: at most one message, that of the vector",
        msi::m13,
    ),
    at(
        ALL,
        "M14",
        "bus master off: no message; on again: by policy one or none, then all as before",
        msi::m14,
    ),
    at(
        ALL,
        "M15",
        "address and data rewritten while enabled: the next message is the new one",
        msi::m15,
    ),
    at(ALL, "M16", "reset while enabled and pending: registers 0, and nothing is sent", msi::m16),
    at(
        ALL,
        "M17",
        "a live message rewritten in parts, in any order: each event goes as the registers read",
        msi::m17,
    ),
    at(
        ALL,
        "M18",
        "saved with an event pending, restored elsewhere: pending there, and sent once on unmask",
        restore::m18,
    ),
    at(ONE, "L01", "level high: line and Interrupt Status high; satisfied: both low", intx::l01),
    at(
        ONE,
        "L02",
        "asserted again before it is satisfied: the line stays high, and falls once",
        intx::l02,
    ),
    at(
        ONE,
        "L03",
        "Interrupt Disable: line low, Interrupt Status stays; cleared: high again",
        intx::l03,
    ),
    at(
        ONE,
        "L04",
        "MSI enabled while the level is high: line and Interrupt Status low, no message for it",
        intx::l04,
    ),
    at(ONE, "L05", "MSI enabled: an event is a message and leaves the line low", intx::l05),
    at(ONE, "L06", "MSI disabled while the cause is still there: line high again", intx::l06),
    at(ONE, "L07", "bus master off does not gate the line", intx::l07),
    at(
        ONE,
        "L08",
        "MSI and MSI-X enabled: MSI-X sends; MSI-X disabled: MSI sends; both disabled: the line",
        intx::l08,
    ),
    at(
        ONE,
        "L09",
        "reset from INTx, MSI and MSI-X: line low, nothing is armed but the pin, and the pin works",
        intx::l09,
    ),
    at(
        ONE,
        "L10",
        "a physical line: fires once for each EOI while it is asserted, none lost, none doubled",
        intx::l10,
    ),
    at(
        ONE,
        "L11",
        "a restore that changes Enable: nothing before the resume, then line and messages follow",
        restore::l11,
    ),
    at(
        ONE,
        "L12",
        "an event between load and resume: nothing before the resume, then one loaded message",
        restore::l12,
    ),
];

/// Judges `subject` by every case.
#[must_use]
pub fn run_function(subject: &dyn FunctionSubject) -> Report {
    let report = |case: &FunctionCase| CaseReport {
        id: case.id,
        intent: case.intent,
        verdict: judge_function(subject, case),
    };
    Report { subject: subject.name(), results: FUNCTION_CASES.iter().map(report).collect() }
}

/// Judges `subject` by one case, at all its sizes; the first failure ends it. With feature
/// `std` a panic of the implementation is a failure.
#[must_use]
pub fn judge_function(subject: &dyn FunctionSubject, case: &FunctionCase) -> Verdict {
    let named = |n: u16| format!("{n} MSI vectors");
    judge_at(case.id, case.sizes, &named, &|n| {
        let stand = Stand { subject, n };
        match (case.run)(&stand) {
            Err(Stop::Failed { did, expected, got }) => {
                let did = format!("{}: {did}", named(n));
                Err(Stop::Failed { did, expected, got })
            }
            ended => ended.map(|()| BTreeSet::new()),
        }
    })
}

/// Where a case makes its devices.
pub(super) struct Stand<'a> {
    subject: &'a dyn FunctionSubject,
    /// How many MSI vectors.
    pub(super) n: u16,
}

impl Stand<'_> {
    /// A device, without mask registers where it may be.
    fn device(&self, masks: bool) -> Result<Box<dyn FunctionDevice>, Stop> {
        match self.subject.device(self.n, masks) {
            Ok(device) => Ok(device),
            Err(NoDevice::NotOffered(why)) => Err(Stop::NotObservable(why)),
            Err(NoDevice::Refused(why)) => {
                Err(Stop::Failed { did: "made a device".into(), expected: "one".into(), got: why })
            }
        }
    }
}

/// What should be seen, after what was done.
fn expect<T: PartialEq + Debug>(did: &str, expected: T, got: T) -> Outcome {
    if expected == got {
        return Ok(());
    }
    let (expected, got) = (format!("{expected:x?}"), format!("{got:x?}"));
    Err(Stop::Failed { did: did.to_owned(), expected, got })
}

/// What a case needs and an adapter does not offer.
fn offered<T>(what: &str, group: Option<T>) -> Result<T, Stop> {
    group.ok_or_else(|| Stop::NotObservable(format!("the adapter offers no {what}")))
}
