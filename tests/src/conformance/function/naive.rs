//! The naive model as a subject.

use super::engine::{Operated, OperatedDevice};
use crate::whole_function::PartEffect;
use crate::whole_function::model::NaiveFunction;
use msix_conformance::{FunctionDevice, FunctionSubject, NoDevice};
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{Mode, Policy};
use msix_subjects::{EventPath, name_of, policy_name};

/// [`NaiveFunction`] under one policy, with events that take one way.
#[derive(Debug, Clone, Copy)]
pub struct NaiveFunctionSubject {
    policy: Policy,
    path: EventPath,
}

impl NaiveFunctionSubject {
    /// The model under `policy`.
    #[must_use]
    pub const fn new(policy: Policy, path: EventPath) -> Self {
        Self { policy, path }
    }
}

impl FunctionSubject for NaiveFunctionSubject {
    fn name(&self) -> String {
        format!("naive function, {}, {}", policy_name(&self.policy), name_of(self.path))
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        let policy = self.policy;
        let make = move |parts| NaiveFunction::new(parts, policy);
        OperatedDevice::boxed(Box::new(make), self.path, vectors, masks)
    }
}

impl Operated for NaiveFunction {
    fn apply(&mut self, operation: &FunctionOperation) -> (Answer, Vec<PartEffect>) {
        self.apply(operation)
    }

    fn mode(&self) -> Mode {
        self.mode()
    }

    fn status(&self) -> u16 {
        self.status()
    }

    /// It cannot be loaded.
    fn is_loading(&self) -> bool {
        false
    }
}
