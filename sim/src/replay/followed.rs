//! A backend follows the second pass, and what arrives there is compared.

use super::backend::DeliveryDifference;
use super::bench::Bench;
use crate::report::{BackendReport, Deliveries};
use msix_backends::Route;
use msix_core::operation::Operation;
use std::io;

impl Bench {
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
