//! The list of cases.

use super::bench::Outcome;
use super::lab::Lab;
use super::{backend, claims, delivery, host, layout, meeting, out_of_range, registers, snapshots};

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its id, which never changes: `C01` to `C52`.
    pub id: &'static str,
    /// What must be seen.
    pub intent: &'static str,
    /// The vector counts it is run at.
    pub sizes: &'static [u16],
    pub(super) run: fn(&Lab<'_>) -> Outcome,
}

impl core::fmt::Debug for Case {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.id, self.intent)
    }
}

/// Returns the case with that id.
#[must_use]
pub fn case(id: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.id == id)
}

/// One vector, two, the edges of a PBA qword, and the most there can be (C11).
const ALL: &[u16] = &[1, 2, 64, 65, 2048];
/// As [`ALL`], for what takes two entries.
const PAIRS: &[u16] = &[2, 64, 65, 2048];
/// As [`ALL`], and the count of the recorded stream.
const RECORDED: &[u16] = &[1, 2, 9, 64, 65, 2048];
/// For what makes its own devices or none.
const ONCE: &[u16] = &[1];

const fn at(
    sizes: &'static [u16],
    id: &'static str,
    intent: &'static str,
    run: fn(&Lab<'_>) -> Outcome,
) -> Case {
    Case { id, intent, sizes, run }
}

/// All cases, in the order of `CONFORMANCE.md` and with its words.
pub const CASES: [Case; 52] = [
    at(
        ALL,
        "C01",
        "new and reset: Enable=0, Function Mask=0, every vector masked, PBA=0; a new device has no claims",
        registers::c01,
    ),
    at(ALL, "C02", "all ones written to cap+0 (4 bytes): only bits 31:30 change", registers::c02),
    at(
        ALL,
        "C03",
        "control written as 1@3, 2@2, 4@0, 2@3 and 4 bytes straddling: same final state each way",
        registers::c03,
    ),
    at(
        ALL,
        "C04",
        "writes to cap+4..11 change nothing; a 1-byte write at cap+4 leaves Enable alone",
        registers::c04,
    ),
    at(ALL, "C05", "4- and 8-byte round trip on the first and the last entry", registers::c05),
    at(
        ALL,
        "C06",
        "1/2/3/5/6/7-byte and misaligned accesses: as the policy says, never a panic, neighbours untouched",
        registers::c06,
    ),
    at(ALL, "C07", "past the table, past the PBA: reads all ones, writes ignored", registers::c07),
    at(
        ALL,
        "C08",
        "PBA as 4 and 8 bytes at bits 0, 1, 31, 32, 33, 63, 64, 96, N-1: right word; bits >= N read 0",
        registers::c08,
    ),
    at(ALL, "C09", "PBA writes change nothing", registers::c09),
    at(
        ALL,
        "C10",
        "reserved Vector Control bits and steering tags are kept as written (or RsvdP, by policy) and never mask",
        registers::c10,
    ),
    at(
        ONCE,
        "C11",
        "N=0 and N=2049 refused; N=1 and N=2048 work in every test of this list",
        registers::c11,
    ),
    at(
        ALL,
        "C12",
        "notify unmasked: one message, the entry's address and data, PBA stays 0",
        delivery::c12,
    ),
    at(
        ALL,
        "C13",
        "notify masked: no message, PBA=1; unmask: exactly one message, PBA=0",
        delivery::c13,
    ),
    at(ALL, "C14", "many notifies while masked: one message on unmask", delivery::c14),
    at(
        ALL,
        "C15",
        "notify under function mask: pending; clear it: one message for each pending vector, lowest first",
        delivery::c15,
    ),
    at(
        ALL,
        "C16",
        "vector masked AND function masked: clearing one alone sends nothing",
        delivery::c16,
    ),
    at(
        ALL,
        "C17",
        "Enable with a pending, masked vector: nothing; then unmask: one message",
        delivery::c17,
    ),
    at(
        ALL,
        "C18",
        "disable with pending, unmask while disabled, enable: exactly one message (lossless) or none (drop), by policy, on every backend alike",
        delivery::c18,
    ),
    at(
        ALL,
        "C19",
        "function mask set, unmask v0, fire v0, clear function mask: one message",
        delivery::c19,
    ),
    at(ALL, "C20", "pending before the very first unmask: one message on it", delivery::c20),
    at(
        ALL,
        "C21",
        "reset while unmasked, then unmask and fire with Enable=0: nothing is sent",
        delivery::c21,
    ),
    at(
        ALL,
        "C22",
        "withdraw while masked: PBA=0, unmask sends nothing; fire again: pending again",
        delivery::c22,
    ),
    at(ALL, "C23", "unmask twice: the second does nothing. Mask twice: likewise", delivery::c23),
    at(
        ALL,
        "C24",
        "notify on an unclaimed vector: nothing, no pending; claim 2x, unclaim 1x: still claimed; unclaim at 0: no-op; last unclaim clears pending",
        claims::c24,
    ),
    at(
        ALL,
        "C25",
        "out-of-range vector in every call: typed error, state unchanged",
        out_of_range::c25,
    ),
    at(
        ALL,
        "C26",
        "bus master off: by policy latched or dropped; never \"cleared and lost\" under SPEC",
        delivery::c26,
    ),
    at(PAIRS, "C27", "two entries with the same message: both sent", delivery::c27),
    at(
        ALL,
        "C28",
        "the guest programs and unmasks while disabled (FreeBSD resume), then enables: the same as in the other order",
        delivery::c28,
    ),
    at(
        ALL,
        "C29",
        "program a masked vector: no host call; unmask: exactly one Arm with the final message",
        host::c29,
    ),
    at(
        ALL,
        "C30",
        "mask: Disarm; disable: Disarm of all live; function mask: likewise; each once",
        host::c30,
    ),
    at(
        ALL,
        "C31",
        "disable/enable, mask/unmask, reset cycles: Arms minus Disarms is 0 or 1 for every vector, always",
        host::c31,
    ),
    at(
        ALL,
        "C32",
        "message changed while unmasked: by policy one Reroute with the complete message, never a torn address",
        host::c32,
    ),
    at(
        ALL,
        "C33",
        "8-byte {data, control} write that unmasks: the new data is what is used; that masks: never exposed live",
        host::c33,
    ),
    at(
        ALL,
        "C34",
        "affinity change as Linux does it (mask, 3 writes, unmask): at most one route commit, none if the message is unchanged",
        host::c34,
    ),
    at(
        ALL,
        "C35",
        "event held by the host while masked (eventfd counter): PBA read shows it, unmask delivers it once",
        host::c35,
    ),
    at(ALL, "C36", "PBA read at every dword polls exactly the vectors it covers", host::c36),
    at(
        ALL,
        "C37",
        "Disarm before Arm before Send; route commit before arm; disarm before unroute",
        backend::c37,
    ),
    at(ALL, "C38", "N vectors unmasked by function unmask: one commit, one SET_IRQS", backend::c38),
    at(
        ALL,
        "C39",
        "Arm fails for vector k: k alone falls back to userspace delivery, the others are live, a later unmask tries again",
        host::c39,
    ),
    at(
        ALL,
        "C40",
        "detach: everything disarmed once, every GSI and descriptor given back; attach again: everything armed again",
        backend::c40,
    ),
    at(
        ALL,
        "C41",
        "save, load, resume into a fresh engine: identical reads, live set and future behaviour",
        snapshots::c41,
    ),
    at(
        ALL,
        "C42",
        "save polls first: an event still in an eventfd is in the snapshot",
        snapshots::c42,
    ),
    at(
        ALL,
        "C43",
        "bad snapshots (truncated at every length, longer, other N, bits >= N, flipped bytes, wrong version): typed error, state untouched",
        snapshots::c43,
    ),
    at(ALL, "C44", "load emits nothing; resume emits the whole picture once", snapshots::c44),
    at(
        RECORDED,
        "C45",
        "QEMU encoding is byte-identical to a real QEMU stream for the same history, both ways",
        snapshots::c45,
    ),
    at(ALL, "C46", "INTx: deassert on enable 0->1, re-evaluate on 1->0, nothing else", host::c46),
    at(
        ONCE,
        "C47",
        "exclusive BAR: N<=128 4 KiB with the PBA at 0x800; 129 -> 4 KiB/0x810; 256 -> 8 KiB; 2048 -> 64 KiB",
        layout::c47,
    ),
    at(
        ONCE,
        "C48",
        "overlap, misalignment, BIR 6 or 7, outside the BAR, u32 overflow: refused with the reason",
        layout::c48,
    ),
    at(
        ALL,
        "C49",
        "a live entry rewritten in parts, in any order: each event goes as the registers read",
        meeting::c49,
    ),
    at(
        ALL,
        "C50",
        "a restore that changes Enable: INTx deasserted or re-evaluated at the resume, once",
        meeting::c50,
    ),
    at(
        ALL,
        "C51",
        "an event while detached: pending, saved, withdrawn and reset as any other, or sent once",
        meeting::c51,
    ),
    at(
        ALL,
        "C52",
        "accesses, events and a save between load and resume: nothing before the resume, then one loaded message",
        meeting::c52,
    ),
];
