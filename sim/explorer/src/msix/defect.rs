//! Seeded defects, so that a search which finds nothing means something.

use super::property::Property;

/// A defect that some implementation had, or might have. Each is put at the boundary of the real
/// engine: inputs, effects or reads are tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[expect(missing_docs, reason = "`MsixDefect::text` says what each is")]
pub enum MsixDefect {
    ShortBit,
    FunctionMaskIgnored,
    PendingNotSent,
    NoDisarmOnDisable,
    StaleFunctionMask,
    FirstUnmaskLoses,
    NoDisarmOnMask,
    RestoreWithoutArm,
    PollRange,
    NoReroute,
    SendWhileDisabled,
    ClaimsIgnored,
    LoadMutatesOnError,
    HeldSurvivesReset,
    FailureIgnored,
    SendBeforeArm,
    TornReroute,
    LateAnswerDropped,
    ArmedTwice,
    BusMasterIgnored,
    QwordHalved,
    WithdrawIgnored,
    WithdrawClearsWord,
    IntxForgotten,
    IntxForgottenAtResume,
    UnboundedList,
    NeighbourWritten,
    FailureDisarms,
}

impl MsixDefect {
    /// All of them, what each is, and the property that finds it first.
    pub const ALL: [(Self, &'static str, Property); 28] = [
        (Self::ShortBit, "the bit of a vector from 32 up in 32-bit arithmetic", Property::Lossless),
        (Self::FunctionMaskIgnored, "the Function Mask has no effect (A6)", Property::Told),
        (Self::PendingNotSent, "an unmask clears pending and sends nothing", Property::Pending),
        (Self::NoDisarmOnDisable, "a disable disarms nothing (H1)", Property::Told),
        (Self::StaleFunctionMask, "what a reset masks stays unmasked (H8)", Property::Told),
        (Self::FirstUnmaskLoses, "the first unmask drops what is pending", Property::Pending),
        (Self::NoDisarmOnMask, "a mask disarms nothing", Property::Told),
        (Self::RestoreWithoutArm, "a restore arms nothing (H15)", Property::Told),
        (Self::PollRange, "a PBA read polls too few vectors (G6)", Property::Poll),
        (Self::NoReroute, "a live message is rewritten unnoticed (H4)", Property::Message),
        (Self::SendWhileDisabled, "an event sends although disabled (A10)", Property::Send),
        (Self::ClaimsIgnored, "a vector without a claim sends (C24)", Property::Send),
        (Self::LoadMutatesOnError, "a refused snapshot changes an entry", Property::Refused),
        (Self::HeldSurvivesReset, "a reset leaves the host's events (E8f)", Property::Drain),
        (Self::FailureIgnored, "what the host could not do is not heard (H11)", Property::Told),
        (Self::SendBeforeArm, "a message is sent before its vector is armed", Property::Order),
        (Self::TornReroute, "the host is told half an address (H4)", Property::Message),
        (Self::LateAnswerDropped, "a late answer to Poll is ignored", Property::Lossless),
        (Self::ArmedTwice, "a second attach arms live vectors again", Property::Told),
        (Self::BusMasterIgnored, "bus master off gates nothing (H16)", Property::Told),
        (Self::QwordHalved, "a QWORD loses its upper half (A4)", Property::Registers),
        (Self::WithdrawIgnored, "a withdrawn event stays pending (A8)", Property::Pending),
        (Self::WithdrawClearsWord, "a withdrawal clears its neighbours", Property::Pending),
        (Self::IntxForgotten, "a disable says nothing of INTx (H17)", Property::Intx),
        (Self::IntxForgottenAtResume, "a resume says nothing of INTx (A10)", Property::Intx),
        (Self::UnboundedList, "a control write emits an effect a vector (H22)", Property::Bound),
        (Self::NeighbourWritten, "a write reaches the entry before, too (I7)", Property::Idle),
        (Self::FailureDisarms, "a failure to arm disarms what is not live (I7)", Property::Refused),
    ];

    /// Returns what is wrong, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.iter().find(|(defect, ..)| *defect == self).map_or("", |(_, text, _)| text)
    }
}
