//! Defects that a function could have, put into its effects or its state from outside.

use super::explored::Explored;
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{Effect, FunctionEffect, FunctionEffects, IntxEffect, Mode, Vector};

/// A seeded defect. Each is found by one property: see [`FunctionDefect::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[expect(missing_docs, reason = "`text` says what each is")]
pub enum FunctionDefect {
    EnterFirst,
    MsiKeptUnderMsix,
    MsixKept,
    PinKept,
    PinNotArmedAgain,
    AssertForgotten,
    DeassertForgotten,
    UnmaskForgotten,
    EoiForgotten,
    EventLostAtSwitch,
    BusMasterSurvivesReset,
    LevelSurvivesReset,
    IntxLeaked,
    SendUnderMsix,
    PollForgotten,
    LoadSpeaks,
    RerouteForgotten,
}

impl FunctionDefect {
    /// All of them: what they do, and the property that must find them.
    pub const ALL: [(Self, &'static str, &'static str); 17] = [
        (Self::EnterFirst, "a switch enters the new mode before it leaves the old one", "alone"),
        (Self::MsiKeptUnderMsix, "MSI is not disarmed when it is left", "alone"),
        (Self::MsixKept, "MSI-X is not disarmed when it is left", "alone"),
        (Self::PinKept, "the pin is not disarmed when it is left", "alone"),
        (Self::PinNotArmedAgain, "the pin is not armed again after MSI and MSI-X", "told"),
        (Self::AssertForgotten, "a level that rose is not asserted", "level"),
        (Self::DeassertForgotten, "a line that is closed is not deasserted", "level"),
        (Self::UnmaskForgotten, "a physical line stays masked after the EOI", "level"),
        (Self::EoiForgotten, "an EOI is not taken", "level"),
        (Self::EventLostAtSwitch, "enabling MSI-X loses what is pending in MSI", "lossless"),
        (Self::BusMasterSurvivesReset, "a reset leaves bus master on", "reset"),
        (Self::LevelSurvivesReset, "a reset leaves MSI-X enabled", "reset"),
        (Self::IntxLeaked, "a part's own INTx effect leaks", "kinds"),
        (Self::SendUnderMsix, "an event is sent through the other capability", "send"),
        (Self::PollForgotten, "what the host holds is not asked for before a save", "poll"),
        (Self::LoadSpeaks, "a load does not wait for the resume", "told"),
        (Self::RerouteForgotten, "a live MSI message that changed is not told", "message"),
    ];

    /// Returns what it does, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.iter().find(|(defect, ..)| *defect == self).map_or("", |(_, text, _)| text)
    }

    fn drops(self, operation: &FunctionOperation, effect: FunctionEffect) -> bool {
        match self {
            Self::MsiKeptUnderMsix => matches!(effect, FunctionEffect::Msi(Effect::Disarm(_))),
            Self::MsixKept => {
                matches!(operation, FunctionOperation::WriteMsix { .. })
                    && matches!(effect, FunctionEffect::MsiX(Effect::Disarm(_)))
            }
            Self::PinKept => effect == FunctionEffect::Intx(IntxEffect::Disarm),
            Self::PinNotArmedAgain => {
                let config = matches!(
                    operation,
                    FunctionOperation::WriteMsi { .. } | FunctionOperation::WriteMsix { .. }
                );
                config && effect == FunctionEffect::Intx(IntxEffect::Arm)
            }
            Self::AssertForgotten => effect == FunctionEffect::Intx(IntxEffect::Assert),
            Self::DeassertForgotten => effect == FunctionEffect::Intx(IntxEffect::Deassert),
            Self::UnmaskForgotten => effect == FunctionEffect::Intx(IntxEffect::Unmask),
            Self::PollForgotten => {
                *operation == FunctionOperation::PrepareSave
                    && matches!(effect, FunctionEffect::Msi(Effect::Poll(_)))
            }
            Self::RerouteForgotten => matches!(effect, FunctionEffect::Msi(Effect::Reroute(_))),
            _ => false,
        }
    }
}

/// Applies an input, with its effects, as a function with the defect would.
pub(super) fn apply(
    function: &mut Explored,
    operation: &FunctionOperation,
    defect: Option<FunctionDefect>,
) -> (Answer, Vec<FunctionEffect>) {
    let mut scratch = [0; 256];
    let mut fx = FunctionEffects::<14>::new();
    let mut effects = Vec::new();
    let mut take = |fx: &mut FunctionEffects<14>| {
        effects.extend(std::iter::from_fn(|| fx.take()));
    };
    if defect == Some(FunctionDefect::EoiForgotten) && *operation == FunctionOperation::Eoi {
        return (Answer::Nothing, effects);
    }
    let was = function.mode();
    let answer = operation.apply(function, &mut scratch, &mut fx);
    take(&mut fx);
    if *operation == FunctionOperation::Reset {
        // A device claims its vectors again, where a reset ended the claims (C01).
        for v in [0, 1].map(Vector::new) {
            if function.msix().is_some_and(|msix| msix.claims(v) == Some(0)) {
                FunctionOperation::Claim(v).apply(function, &mut scratch, &mut fx);
                take(&mut fx);
            }
        }
    }
    match (defect, operation) {
        (Some(FunctionDefect::EventLostAtSwitch), FunctionOperation::WriteMsix { .. })
            if was != function.mode() =>
        {
            for v in [0, 1].map(Vector::new) {
                // As if it had never been: the counters do not know either.
                let lost = FunctionOperation::Withdraw(Mode::Msi, v);
                lost.apply(function, &mut scratch, &mut fx);
                while fx.take().is_some() {}
            }
        }
        (Some(FunctionDefect::BusMasterSurvivesReset), FunctionOperation::Reset) => {
            let on = FunctionOperation::WriteCommand { offset: 0, len: 2, value: 4 };
            on.apply(function, &mut scratch, &mut fx);
            take(&mut fx);
        }
        (Some(FunctionDefect::LevelSurvivesReset), FunctionOperation::Reset) => {
            let on = FunctionOperation::WriteMsix { offset: 3, len: 1, value: 0x80 };
            on.apply(function, &mut scratch, &mut fx);
            take(&mut fx);
        }
        (Some(FunctionDefect::LoadSpeaks), FunctionOperation::SaveAndLoad) => {
            FunctionOperation::Resume.apply(function, &mut scratch, &mut fx);
            take(&mut fx);
        }
        _ => {}
    }
    let Some(defect) = defect else { return (answer, effects) };
    effects.retain(|effect| !defect.drops(operation, *effect));
    match defect {
        FunctionDefect::EnterFirst if was != function.mode() => effects.reverse(),
        FunctionDefect::IntxLeaked if matches!(operation, FunctionOperation::WriteMsi { .. }) => {
            effects.push(FunctionEffect::Msi(Effect::IntxReevaluate));
        }
        FunctionDefect::SendUnderMsix => {
            for effect in &mut effects {
                if let FunctionEffect::MsiX(Effect::Send(set)) = *effect {
                    *effect = FunctionEffect::Msi(Effect::Send(set));
                }
            }
        }
        _ => {}
    }
    (answer, effects)
}
