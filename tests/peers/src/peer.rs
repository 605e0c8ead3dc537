//! What is judged of each peer, and the text that is published.

use crate::alioth::{AliothSubject, VirtioSubject};
use crate::usbvfiod::{BehindVmm, UsbvfiodSubject};
use msix_conformance::fuzz::{Avoided, Exceptions, Finding, Fuzz, fuzz};
use msix_conformance::{CASES, Case, CaseReport, Report, Subject, judge};
use msix_core::operation::Operation;
use std::path::PathBuf;

/// A peer.
#[derive(Debug)]
pub struct Peer<S> {
    /// The name of its column.
    pub name: &'static str,
    /// What is judged.
    pub subject: S,
    /// Whether a case can be judged at all.
    judged: fn(&Case) -> bool,
    /// What every sequence of the fuzzer begins with, once all kinds below are avoided.
    begins: &'static [Operation],
    /// Operations that are not judged.
    unjudged: &'static [Avoided],
    /// Differences that are known, in the order in which they are stepped around.
    known: &'static [Avoided],
}

const ENABLE: Operation = Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 };

// What is known of Alioth's table, whoever sends.
const CONTROL: Avoided = Avoided {
    why: "Enable and Function Mask are kept and have no effect (A1, A6)",
    avoids: |operation, _| matches!(operation, Operation::WriteConfig { .. } | Operation::Reset),
};
const PBA_READS: Avoided = Avoided {
    why: "pending bits are not kept, and the PBA reads all ones (A5)",
    avoids: |operation, _| matches!(operation, Operation::ReadPba { .. }),
};
const QWORDS: Avoided = Avoided {
    why: "accesses of 8 bytes to the table do nothing (A4)",
    avoids: |operation, _| {
        let (Operation::WriteTable { len, .. } | Operation::ReadTable { len, .. }) = operation
        else {
            return false;
        };
        *len == 8
    },
};
const ACROSS: Avoided = Avoided {
    why: "a read across the end of the table is 0 behind it (A4 leaves such reads open)",
    avoids: |operation, vectors| {
        matches!(operation, Operation::ReadTable { offset, len }
            if u32::from(*offset) + u32::from(*len) > 16 * u32::from(vectors))
    },
};

/// Alioth.
#[must_use]
pub fn alioth() -> Peer<AliothSubject> {
    const KNOWN: &[Avoided] = &[
        CONTROL,
        Avoided {
            why: "a message that is rewritten while it is live reaches the host in parts (A3, H4)",
            avoids: |operation, _| matches!(operation, Operation::WriteTable { offset, .. } if offset % 16 < 12),
        },
        PBA_READS,
        QWORDS,
        ACROSS,
    ];
    Peer {
        name: "alioth",
        subject: AliothSubject,
        judged: |_| true,
        begins: &[ENABLE],
        unjudged: &[],
        known: KNOWN,
    }
}

/// A virtio device of Alioth that sends from userspace.
#[must_use]
pub fn alioth_virtio() -> Peer<VirtioSubject> {
    const UNMASK: Operation = Operation::WriteTable { offset: 12, len: 4, value: 0 };
    const KNOWN: &[Avoided] = &[
        PBA_READS,
        CONTROL,
        Avoided {
            why: "an event of a masked vector is lost (A5): only vector 0 has events, unmasked for good",
            avoids: |operation, _| match operation {
                Operation::Notify(v) => v.index() != 0,
                Operation::WriteTable { offset, len, .. } => {
                    *offset < 16 && *offset + u16::from(*len) > 12
                }
                _ => false,
            },
        },
        QWORDS,
        ACROSS,
    ];
    // Behind the PBA are the registers of virtio.
    const BEHIND: &[Avoided] = &[Avoided {
        why: "other registers are there",
        avoids: |operation, _| {
            matches!(operation, Operation::ReadPba { offset, .. } | Operation::WritePba { offset, .. }
                if *offset >= 4096 - 8)
        },
    }];
    Peer {
        name: "alioth-virtio",
        subject: VirtioSubject,
        judged: |case| case.id != "C07",
        begins: &[ENABLE, UNMASK],
        unjudged: BEHIND,
        known: KNOWN,
    }
}

/// usbvfiod, which is the program at `program`.
#[must_use]
pub fn usbvfiod(program: PathBuf) -> Peer<UsbvfiodSubject> {
    const KNOWN: &[Avoided] = &[
        Avoided {
            why: "a write to the BAR of table and PBA ends the server (A4)",
            avoids: |operation, _| {
                matches!(operation, Operation::WriteTable { .. } | Operation::WritePba { .. })
            },
        },
        Avoided {
            why: "table and PBA read all ones (A3, A5)",
            avoids: |operation, _| {
                matches!(operation, Operation::ReadTable { .. } | Operation::ReadPba { .. })
            },
        },
        Avoided {
            why: "the place of the PBA can be written (A1)",
            avoids: |operation, _| matches!(operation, Operation::WriteConfig { offset, len, .. } if offset + len > 8),
        },
    ];
    const EVENTS: &[Avoided] = &[Avoided {
        why: "an event is a write to an eventfd, and the rest is the VMM's",
        avoids: |operation, _| matches!(operation, Operation::Notify(_)),
    }];
    // Registers: what takes an event is for the VMM to do.
    let judged = |case: &Case| case.id < "C12";
    Peer {
        name: "usbvfiod",
        subject: UsbvfiodSubject { program },
        judged,
        begins: &[],
        unjudged: EVENTS,
        known: KNOWN,
    }
}

/// The events of usbvfiod, which is the program at `program`, behind a VMM.
#[must_use]
pub fn usbvfiod_events(program: PathBuf) -> Peer<BehindVmm> {
    Peer {
        name: "usbvfiod-events",
        subject: BehindVmm { program },
        judged: |_| true,
        begins: &[],
        unjudged: &[],
        known: &[],
    }
}

/// What was stepped around last, and what was found then.
pub type Step = (Option<&'static str>, Option<Finding>);

impl<S: Subject> Peer<S> {
    /// Judges it by the cases.
    #[must_use]
    pub fn report(&self) -> Report {
        let judged = CASES.iter().filter(|case| (self.judged)(case));
        let verdict = |case: &Case| CaseReport {
            id: case.id,
            intent: case.intent,
            verdict: judge(&self.subject, case),
        };
        Report { subject: self.subject.name(), results: judged.map(verdict).collect() }
    }

    /// Fuzzes it; with each difference that is known, looks for the next one. Returns what was stepped
    /// around, and then found.
    ///
    /// # Errors
    /// Why there is no device.
    pub fn findings(&self, sequences: u32) -> Result<Vec<Step>, String> {
        let mut findings = Vec::new();
        for known in 0..=self.known.len() {
            let (known, why) = (&self.known[..known], self.known[..known].last());
            let avoided = self.unjudged.iter().chain(known).copied().collect();
            let begins = if known.is_empty() { Vec::new() } else { self.begins.to_vec() };
            let except = Exceptions { avoided, begins, ..Exceptions::default() };
            let options = Fuzz {
                sequences,
                vectors: vec![1, 2, 33],
                except,
                shorten: 600,
                ..Fuzz::default()
            };
            findings.push((why.map(|known| known.why), fuzz(&self.subject, &options)?.finding));
        }
        Ok(findings)
    }

    /// The text that is published.
    ///
    /// # Errors
    /// Why there is no device.
    pub fn text(&self, sequences: u32) -> Result<String, String> {
        let mut text = self.report().to_string();
        for (why, finding) in self.findings(sequences)? {
            text += &match why {
                None => "\nFuzzed:\n".to_owned(),
                Some(why) => format!("\nStepped around: {why}.\n"),
            };
            text += &finding
                .map_or_else(|| "No difference.\n".to_owned(), |finding| finding.to_string());
        }
        Ok(text)
    }
}
