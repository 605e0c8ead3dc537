//! The naive model as a subject.

use super::super::adapter::NoDevice;
use super::engine::{Operated, OperatedDevice};
use super::{ModeDevice, ModeSubject, name_of};
use crate::modes::ModeTold;
use crate::modes::model::NaiveFunction;
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{Mode, Policy};

/// [`NaiveFunction`], with a host that carries everything out.
#[derive(Debug, Clone, Copy)]
pub struct NaiveFunctionSubject {
    policy: Policy,
}

impl NaiveFunctionSubject {
    /// The model under a policy.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy }
    }
}

impl ModeSubject for NaiveFunctionSubject {
    fn name(&self) -> String {
        format!("naive function, {}", name_of(&self.policy))
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn ModeDevice>, NoDevice> {
        let policy = self.policy;
        let make = move |parts| NaiveFunction::new(parts, policy);
        OperatedDevice::boxed(Box::new(make), vectors, masks)
    }
}

impl Operated for NaiveFunction {
    fn apply(&mut self, operation: &FunctionOperation) -> (Answer, Vec<ModeTold>) {
        self.apply(operation)
    }

    fn mode(&self) -> Mode {
        self.mode()
    }

    fn status(&self) -> u16 {
        self.status()
    }
}
