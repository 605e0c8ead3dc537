//! Findings as scripts, and scripts as operations.

use super::offers::Offers;
use super::{Disagreement, Exceptions, agree};
use crate::adapter::Subject;
use crate::choices::Choices;
use msix_core::operation::Operation;
use msix_core::{Policy, Vector};
use msix_explorer::script::{Script, ScriptInput as _};
use std::collections::BTreeSet;
use std::fmt;

/// A difference and the shortest sequence found that shows it. Displays as a script: `msix replay` takes
/// it, and so does [`replay`].
#[derive(Debug, Clone)]
pub struct Finding {
    /// The difference.
    pub difference: Disagreement,
    /// How many vectors the device has.
    pub vectors: u16,
    /// The inputs. The last one shows the difference.
    pub operations: Vec<Operation>,
    /// As text, with the difference as comments.
    text: String,
}

impl Finding {
    pub(super) fn new(
        vectors: u16,
        choices: &Choices,
        offers: &Offers,
        operations: Vec<Operation>,
        difference: Disagreement,
    ) -> Self {
        let text = text(vectors, choices, offers, &operations, &difference);
        Self { difference, vectors, operations, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What an adapter's power-on state and its calls are for the engine: a backend is attached, vectors are
/// claimed where the device does not count claims, and a save is prepared and resumed.
fn for_the_engine(offers: &Offers, operations: &[Operation]) -> Vec<Operation> {
    let mut all = vec![Operation::Attach];
    if !offers.claims {
        let fired = operations.iter().filter_map(|operation| match operation {
            Operation::Notify(v) | Operation::Withdraw(v) => Some(v.index()),
            _ => None,
        });
        let fired: BTreeSet<u16> = fired.collect();
        all.extend(fired.into_iter().map(|v| Operation::Claim(Vector::new(v))));
    }
    for operation in operations {
        match operation {
            Operation::SaveAndLoad => all.extend([Operation::PrepareSave, *operation]),
            Operation::SaveAndLoadQemu => {
                all.extend([Operation::PrepareSave, *operation, Operation::Resume]);
            }
            Operation::ReadPba { offset, len } => {
                all.extend([Operation::PollPba { offset: *offset, len: *len }, *operation]);
            }
            _ => all.push(*operation),
        }
    }
    all
}

fn text(
    vectors: u16,
    choices: &Choices,
    offers: &Offers,
    operations: &[Operation],
    difference: &Disagreement,
) -> String {
    let (spec, qemu) = (Choices::of(&Policy::SPEC), Choices::of(&Policy::QEMU));
    let (of_spec, of_qemu) = (others(choices, &spec), others(choices, &qemu));
    let (policy, others) =
        if of_qemu.len() < of_spec.len() { ("qemu", of_qemu) } else { ("spec", of_spec) };
    let script = Script {
        vectors,
        policy: policy.to_owned(),
        operations: for_the_engine(offers, operations),
    };
    let mut text = script.to_string();
    let last = operations.last().map(|last| last.line()).unwrap_or_default();
    text += &format!("# {last}\n#   {}\n", difference.what);
    for (name, value) in [("expected", &difference.expected), ("got", &difference.got)] {
        text += &format!("#   {name:9} {}\n", value.replace(['\n', '\r'], " "));
    }
    if !others.is_empty() {
        text += &format!(
            "# `msix replay` runs it under policy {policy}; this device has {}\n",
            others.join(", ")
        );
    }
    text
}

/// The declared choices that a policy does not have, in words.
fn others(choices: &Choices, policy: &Choices) -> Vec<String> {
    let mut others = Vec::new();
    macro_rules! compare {
        ($($field:ident)*) => {$(
            if let (Some(chosen), Some(other)) = (choices.$field, policy.$field)
                && chosen != other
            {
                others.push(format!(concat!(stringify!($field), " = {:?}"), chosen));
            }
        )*};
    }
    compare! {
        while_disabled pending_on_disable live_rewrite table_access vector_control message_address
        bus_master_off unclaimed_pending
    }
    others
}

/// Why a script cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReplayed {
    /// The text is no script: line and reason.
    Text(String),
    /// There is no device with so many vectors.
    NoDevice(String),
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Text(why) | Self::NoDevice(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for NotReplayed {}

/// Gives the inputs of a script to a device of `subject` and to the model. Returns the first difference.
/// The policy that the script names is for `msix replay`; here the choices of the subject count.
///
/// # Errors
/// [`NotReplayed`].
pub fn replay(
    subject: &dyn Subject,
    script: &str,
    except: &Exceptions,
) -> Result<Option<Disagreement>, NotReplayed> {
    let script = Script::parse(script).map_err(|why| NotReplayed::Text(why.to_string()))?;
    agree(subject, script.vectors, &script.operations, except).map_err(NotReplayed::NoDevice)
}
