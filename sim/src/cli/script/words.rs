//! Effects and answers in words.

use msix_core::operation::Answer;
use msix_core::{Access, Delivery, DropReason, Effect, Message, Vector, Vectors};

/// An effect in words; `message` says where a vector's message goes.
pub(super) fn effect_text(effect: Effect, message: impl Fn(Vector) -> Option<Message>) -> String {
    let sent = |v: Vector| {
        let message = message(v).unwrap_or_default();
        format!("{v} ({:#x} <- {:#x})", message.address, message.data)
    };
    match effect {
        Effect::IntxDeassert => "INTx: deassert".to_owned(),
        Effect::IntxReevaluate => "INTx: re-evaluate".to_owned(),
        Effect::Poll(set) => format!("poll {}", listed(set, |v| v.to_string())),
        Effect::Disarm(set) => format!("disarm {}", listed(set, |v| v.to_string())),
        Effect::Drain(set) => format!("drain {}", listed(set, |v| v.to_string())),
        Effect::Snoop(set) => format!("snoop {}", listed(set, |v| v.to_string())),
        Effect::Arm(set) => format!("arm {}", listed(set, sent)),
        Effect::Reroute(set) => format!("reroute {}", listed(set, sent)),
        Effect::Send(set) => format!("send {}", listed(set, sent)),
    }
}

/// The members of a set; more than four as a mask of their word.
fn listed(set: Vectors, name: impl FnMut(Vector) -> String) -> String {
    if set.bits().count_ones() > 4 {
        return format!(
            "{} vectors: {:#x} of word {}",
            set.bits().count_ones(),
            set.bits(),
            set.word()
        );
    }
    set.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// An answer in words, if it says more than that all went well.
pub(super) fn answer_text(answer: Answer) -> Option<String> {
    let access = |access| match access {
        Access::Done => "done",
        Access::Unsupported => "ignored: undefined width or alignment",
        Access::OutOfRange => "ignored: past the end",
        Access::ReadOnly => "ignored: read-only",
    };
    Some(match answer {
        Answer::Nothing => return None,
        Answer::Written(Access::Done) => return None,
        Answer::Written(how) => access(how).to_owned(),
        Answer::Read(Access::Done, value) => format!("reads {value:#x}"),
        Answer::Read(how, value) => format!("reads {value:#x}, {}", access(how)),
        Answer::Withdrawn(true) => "was pending".to_owned(),
        Answer::Withdrawn(false) => "was not pending".to_owned(),
        Answer::Event(Delivery::Sent) => "sent".to_owned(),
        Answer::Event(Delivery::Pending) => "pending".to_owned(),
        Answer::Event(Delivery::Coalesced) => "pending already".to_owned(),
        Answer::Event(Delivery::Intx) => "left to INTx".to_owned(),
        Answer::Event(Delivery::Dropped(reason)) => match reason {
            DropReason::Unclaimed => "dropped: the vector is not claimed".to_owned(),
            DropReason::Disabled => "dropped: disabled".to_owned(),
            DropReason::BusMaster => "dropped: bus master is off".to_owned(),
        },
    })
}
