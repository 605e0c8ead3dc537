//! What a replay drives besides the engine: something that really delivers.

use crate::report::BackendReport;
use msix_backends::Route;
use msix_core::Policy;
use msix_core::operation::Operation;
use std::{fmt, io};

/// Functions that get every input that the engines of a replay get, and deliver for real.
pub trait Backend: fmt::Debug {
    /// Another function, in its reset state and with a host attached. Its number is how many were
    /// added before it.
    ///
    /// # Errors
    /// Of the system.
    fn add(&mut self, vectors: u16, policy: Policy) -> io::Result<()>;

    /// Gives `inputs` to function `device`, whose engine sent `sent` for them, and compares with
    /// what arrived.
    ///
    /// # Errors
    /// Of the system, not of the delivery: those are differences.
    fn follow(
        &mut self,
        device: usize,
        inputs: &[Operation],
        sent: &[Route],
    ) -> io::Result<DeliveryOutcome>;

    /// No more inputs follow. What was done, and what arrived although nothing was sent.
    ///
    /// # Errors
    /// Of the system.
    fn finish(&mut self) -> io::Result<(BackendReport, Vec<DeliveryDifference>)>;
}

/// What the inputs of one step led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// Messages that had to arrive.
    pub expected: u64,
    /// Those of them that did.
    pub delivered: u64,
    /// Messages that leave no trace where the backend looks.
    pub not_compared: u64,
    /// What contradicts the engine.
    pub differences: Vec<DeliveryDifference>,
}

/// A delivery that contradicts the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDifference {
    /// The vector, when it is one's.
    pub vector: Option<u16>,
    /// What had to arrive.
    pub expected: String,
    /// What did.
    pub got: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RECORDING;
    use crate::replay::{Peer, Unusable, replay_on};
    use crate::report::ReplayReport;
    use std::io::Cursor;

    /// Delivers all but the message with this number, counted from 0; from then on it fails if told.
    #[derive(Debug)]
    struct Lossy {
        lost: u64,
        fails: bool,
        seen: u64,
    }

    impl Backend for Lossy {
        fn add(&mut self, _: u16, _: Policy) -> io::Result<()> {
            Ok(())
        }

        fn follow(
            &mut self,
            _: usize,
            _: &[Operation],
            sent: &[Route],
        ) -> io::Result<DeliveryOutcome> {
            let mut outcome =
                DeliveryOutcome { expected: sent.len() as u64, ..DeliveryOutcome::default() };
            for route in sent {
                let lost = self.seen == self.lost;
                self.seen += 1;
                if lost && self.fails {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                outcome.delivered += u64::from(!lost);
                outcome.differences.extend(lost.then(|| DeliveryDifference {
                    vector: Some(route.vector.index()),
                    expected: "it".to_owned(),
                    got: "none".to_owned(),
                }));
            }
            Ok(outcome)
        }

        fn finish(&mut self) -> io::Result<(BackendReport, Vec<DeliveryDifference>)> {
            Ok((BackendReport::default(), Vec::new()))
        }
    }

    fn with(lost: u64, fails: bool) -> Result<ReplayReport, Unusable> {
        let backend = Box::new(Lossy { lost, fails, seen: 0 });
        let log = Cursor::new(RECORDING);
        replay_on(Some(backend), log, Peer::Qemu, false, |_| true).map(|(report, _)| report)
    }

    #[test]
    fn every_message_of_the_engine_is_asked_of_the_backend() {
        let report = with(u64::MAX, false).unwrap();
        let sums = report.backend.as_ref().unwrap().messages;
        assert_eq!((sums.expected, sums.delivered, sums.mismatched), (531, 531, 0));
        assert!(report.verdict().starts_with("all 5 devices agree"), "{}", report.verdict());
    }

    #[test]
    fn a_message_that_the_backend_loses_is_a_mismatch_of_its_device() {
        let report = with(300, false).unwrap();
        let sums = report.backend.as_ref().unwrap().messages;
        assert_eq!((sums.expected, sums.delivered, sums.mismatched), (531, 530, 1));
        assert_eq!(report.mismatches, 1);
        let mismatch = &report.mismatch_list[0];
        assert_eq!((&*mismatch.expected, &*mismatch.got), ("it", "none"));
        assert!(report.verdict().starts_with("1 of 5 devices disagrees"), "{}", report.verdict());
    }

    #[test]
    fn a_backend_that_the_system_fails_ends_the_replay() {
        let error = with(300, true).unwrap_err();
        assert_eq!(error.to_string(), "the backend failed: out of memory");
        assert!(error.line() > 1);
    }
}
