//! What must hold.

use std::fmt;

/// A property that is checked in every state or for every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`Property::text` says what each asks for")]
pub enum Property {
    Engine,
    Told,
    Send,
    Pending,
    Order,
    Bound,
    Refused,
    Lossless,
    Delivered,
    Poll,
    Drain,
    Message,
    Registers,
    Intx,
    Idle,
}

impl Property {
    /// All of them, their names, and what they ask for.
    pub const ALL: [(Self, &'static str, &'static str); 15] = [
        (Self::Engine, "engine", "Msix::check finds nothing (I1, I2)"),
        (
            Self::Told,
            "told",
            "exactly the deliverable vectors are armed, Arm and Disarm alternate, and \
             what failed is known (I1, H1, H11)",
        ),
        (
            Self::Send,
            "send",
            "a message is sent only for a claimed, deliverable vector, and none such stays pending \
             (I2, I3)",
        ),
        (Self::Pending, "pending", "pending is set and cleared only for a named reason (I4, A8)"),
        (Self::Order, "order", "the effects of a list come in order (I5)"),
        (Self::Bound, "bound", "a list is never longer than its bound (I6)"),
        (Self::Refused, "refused", "a refused input or snapshot changes nothing (I7)"),
        (
            Self::Lossless,
            "lossless",
            "every event is sent, pending, coalesced, withdrawn or dropped for a counted reason",
        ),
        (
            Self::Delivered,
            "delivered",
            "once the guest unmasks and the host answers, everything pending or held is delivered",
        ),
        (Self::Poll, "poll", "exactly the vectors whose events are wanted are polled (H13)"),
        (
            Self::Drain,
            "drain",
            "the host's events are dropped only where the engine drops its own, and then all (H8)",
        ),
        (
            Self::Message,
            "message",
            "the host delivers the message in the table, never half of one (A9, H4)",
        ),
        (
            Self::Registers,
            "registers",
            "the guest reads what was written, and nothing else changes",
        ),
        (Self::Intx, "intx", "INTx is told of each enable and disable by policy (H17)"),
        (Self::Idle, "idle", "a vector that nobody touches stays in its reset state (I7)"),
    ];

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(property, ..)| *property == self).map_or("", |(_, name, _)| name)
    }

    /// Returns what it asks for.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.iter().find(|(property, ..)| *property == self).map_or("", |(.., text)| text)
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) property: Property,
    /// What was seen.
    pub(crate) detail: String,
}

/// Fails with `property` unless `holds`; the detail is made only then.
pub(crate) fn must(
    holds: bool,
    property: Property,
    detail: impl FnOnce() -> String,
) -> Result<(), Found> {
    if holds { Ok(()) } else { Err(Found { property, detail: detail() }) }
}
