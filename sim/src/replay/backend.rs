//! What a replay drives besides the engine: something that really delivers.

use super::Replay;
use crate::report::{BackendReport, Deliveries};
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

impl<P: FnMut(u64)> Replay<'_, P> {
    /// Lets the backend's function do what device `index` did, whose engine sent `sent`. After a
    /// failure of the system nothing more is asked of it: the replay ends with that.
    pub(super) fn follow(&mut self, index: usize, inputs: &[Operation], sent: &[Route]) {
        let Some(backend) = self.backend.as_mut().filter(|_| self.failed.is_none()) else { return };
        let outcome = match backend.follow(index, inputs, sent) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.failed = Some(error);
                return;
            }
        };
        if let Some(device) = self.devices.get_mut(index) {
            let sums = device.report.deliveries.get_or_insert_default();
            sums.expected += outcome.expected;
            sums.delivered += outcome.delivered;
            sums.not_compared += outcome.not_compared;
            sums.mismatched += outcome.differences.len() as u64;
        }
        for DeliveryDifference { vector, expected, got } in outcome.differences {
            self.mismatch(index, vector, self.now, [expected, got]);
        }
    }

    /// The backend has seen the last input.
    pub(super) fn finish_backend(&mut self) -> io::Result<Option<BackendReport>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(backend) = &mut self.backend else { return Ok(None) };
        let (mut report, late) = backend.finish()?;
        for DeliveryDifference { vector, expected, got } in late {
            report.messages.mismatched += 1;
            // Of no device: what it came from was over.
            self.mismatch(usize::MAX, vector, self.now, [expected, got]);
        }
        for device in &self.devices {
            let Some(Deliveries { expected, delivered, mismatched, not_compared }) =
                device.report.deliveries
            else {
                continue;
            };
            report.messages.expected += expected;
            report.messages.delivered += delivered;
            report.messages.mismatched += mismatched;
            report.messages.not_compared += not_compared;
        }
        Ok(Some(report))
    }
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
        replay_on(Some(backend), log, Peer::Qemu, false, |_| {}).map(|(report, _)| report)
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
