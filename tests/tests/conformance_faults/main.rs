//! The suite can fail: for every case there is a defect that it catches. Each defect is one that
//! somebody had, or could have; the engine is broken in that one way and nothing else.

mod broken;
mod fuzzed;
mod groups;

use broken::Broken;
use msix_conformance::{
    CASES, Choices, Device, ExclusiveBar, Layouts, NoDevice, Placement, Refused, Subject, Verdict,
    case, judge,
};
use msix_core::Policy;
use msix_tests::conformance::{EngineSubject, EventPath, deviations};

/// The defects, each with the case that must catch it.
macro_rules! faults {
    ($($case:literal $fault:ident)*) => {
        /// What is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Fault {
            /// Nothing.
            None,
            $($fault,)*
        }

        const FAULTS: &[(&str, Fault)] = &[$(($case, Fault::$fault)),*];
    };
}

faults! {
    "C01" ResetKeepsUnmasked
    "C02" ReservedControlBits
    "C03" StraddlingWritesIgnored
    "C04" AddressWriteDisables
    "C05" QwordLosesItsHalf
    "C06" MisalignedPanics
    "C06" BytesWriteDwords
    "C07" PastTheEndReadsZero
    "C08" HighPendingBitsLost
    "C09" PbaIsWritable
    "C10" SteeringTagMasks
    "C11" CountIsTruncated
    "C12" SendsTwice
    "C13" MaskedEventfdDelivers
    "C14" CountsMaskedEvents
    "C15" HighestFirst
    "C16" FunctionUnmaskUnmasksAll
    "C17" EnableUnmasks
    "C18" DisableLosesPending
    "C19" IgnoresFunctionMask
    "C20" LosesPendingAtFirstUnmask
    "C21" SendsWhileDisabled
    "C22" WithdrawDoesNothing
    "C23" SecondUnmaskSends
    "C24" UnclaimAtZeroClaims
    "C25" OutOfRangeAccepted
    "C26" BusMasterOffLoses
    "C27" EqualMessagesAreOne
    "C28" EnableForgetsUnmasks
    "C29" ArmsMaskedEntries
    "C30" DisableDoesNotDisarm
    "C31" ResetDoesNotDisarm
    "C32" TornReroute
    "C33" QwordControlFirst
    "C34" CommitPerWrite
    "C35" HeldEventIsLost
    "C36" PollsEverything
    "C37" SendBeforeArm
    "C37" ArmBeforeCommit
    "C38" CommitPerVector
    "C39" FailedArmIsDead
    "C40" DetachLeaks
    "C40" DetachKeepsRoutes
    "C41" RestoreWithoutArm
    "C42" SaveDoesNotPoll
    "C43" LoadChangesOnError
    "C44" LoadSpeaks
    "C45" FieldWithoutPba
    "C46" IntxAtEveryWrite
    "C47" PbaRightBehindTheTable
    "C48" OverlapAccepted
    "C49" LiveRewriteNotSent
    "C50" RestoreForgetsIntx
    "C51" LosesWhileDetached
    "C52" SendsBeforeResume
}

/// Defects that a second case must catch too.
const TWICE: &[(&str, Fault)] = &[
    ("C15", Fault::IgnoresFunctionMask),
    ("C16", Fault::IgnoresFunctionMask),
    ("C31", Fault::DisableDoesNotDisarm),
    ("C44", Fault::RestoreWithoutArm),
    ("C13", Fault::SendsTwice),
];

/// The engine with a fault.
struct Faulty {
    engine: EngineSubject,
    fault: Fault,
}

impl Faulty {
    const fn new(fault: Fault, delivery: EventPath) -> Self {
        Self { engine: EngineSubject::new(Policy::SPEC, delivery), fault }
    }
}

impl Subject for Faulty {
    fn name(&self) -> String {
        format!("{}, with {:?}", self.engine.name(), self.fault)
    }

    fn choices(&self) -> Choices {
        self.engine.choices()
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        let vectors = match self.fault {
            Fault::CountIsTruncated => vectors & 0xffff, // G8
            _ => vectors,
        };
        let device = self.engine.device(vectors)?;
        let vectors = u16::try_from(vectors).expect("the engine takes no more than 2048");
        Ok(Box::new(Broken::new(device, self.fault, vectors)))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        Some(self)
    }
}

impl Layouts for Faulty {
    fn exclusive_bar(&self, vectors: u32) -> Result<ExclusiveBar, Refused> {
        let bar = Layouts::exclusive_bar(&self.engine, vectors)?;
        let pba = match self.fault {
            Fault::PbaRightBehindTheTable => 16 * u64::from(vectors),
            _ => bar.pba,
        };
        Ok(ExclusiveBar { pba, ..bar })
    }

    fn check(&self, placement: &Placement) -> Result<(), Refused> {
        match Layouts::check(&self.engine, placement) {
            Err(Refused(why))
                if self.fault == Fault::OverlapAccepted && why.contains("overlap") =>
            {
                Ok(())
            }
            answer => answer,
        }
    }
}

/// The paths on which the engine passes a case without a defect.
fn passing(id: &str) -> impl Iterator<Item = EventPath> {
    [EventPath::Userspace, EventPath::Irqfd].into_iter().filter(move |path| {
        let engine = EngineSubject::new(Policy::SPEC, *path);
        !deviations(&engine.name()).any(|deviation| deviation.case == id)
    })
}

#[test]
fn every_defect_is_caught_by_its_case() {
    for (id, fault) in FAULTS.iter().chain(TWICE) {
        let case = case(id).expect("a case of the list");
        for delivery in passing(id) {
            let verdict = judge(&Faulty::new(*fault, delivery), case);
            let caught = matches!(verdict, Verdict::Failed { .. });
            assert!(caught, "{id} does not catch {fault:?}, {delivery:?}: {verdict:#?}");
        }
    }
}

#[test]
fn no_case_is_without_a_defect_that_it_catches() {
    for case in &CASES {
        assert!(FAULTS.iter().any(|(id, _)| *id == case.id), "{case:?}");
    }
}

#[test]
fn without_a_defect_the_same_adapter_passes_every_case() {
    for case in &CASES {
        for delivery in passing(case.id) {
            let verdict = judge(&Faulty::new(Fault::None, delivery), case);
            assert!(matches!(verdict, Verdict::Passed { .. }), "{case:?}: {verdict:#?}");
        }
    }
}
