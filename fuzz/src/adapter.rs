//! Any adapter beside the naive model: here the engine's, under all choices that an adapter may declare.

use crate::guest;
use msix_conformance::fuzz::{Fuzz, examine};
use msix_conformance::strategy::within;
use msix_conformance::{Choices, Device, Layouts, NoDevice, Subject};
use msix_core::Policy;
use msix_core::operation::Operation;
use msix_tests::conformance::{EngineSubject, EventPath};
use msix_tests::policies::mixed;

/// Gives a sequence of inputs to the engine behind its adapter and to the model.
///
/// The bytes: number of vectors (1), policy (4), which choices are declared (1), then operations in the
/// encoding of `arbitrary`. The lowest bit of the number of vectors says that the host delivers events.
///
/// # Panics
/// When they differ, with a script for `msix replay`.
pub fn adapter(data: &[u8]) {
    let Some((subject, vectors, operations)) = decode(data) else { return };
    let options = Fuzz { shorten: 300, ..Fuzz::default() };
    let found = examine(&subject, vectors, &operations, &options).expect("a device");
    if let Some(finding) = found {
        panic!("{}, {:?}:\n{finding}", subject.engine.name(), subject.choices());
    }
}

/// What an adapter is asked for: the subject, the number of vectors and the operations.
fn decode(data: &[u8]) -> Option<(Declared, u16, Vec<Operation>)> {
    let (head, rest) = data.split_first_chunk::<HEAD>()?;
    let &[count, p0, p1, p2, p3, open] = head;
    let path = [EventPath::Userspace, EventPath::Irqfd][usize::from(count % 2)];
    let vectors = [1, 2, 33, 65][usize::from(count / 2) % 4];
    let policy = match path {
        EventPath::Userspace => chosen(u32::from_le_bytes([p0, p1, p2, p3])),
        // Events that the host sees first are not dropped or left to INTx (H3).
        EventPath::Irqfd => Policy::SPEC,
    };
    let subject = Declared { engine: EngineSubject::new(policy, path), open };
    let operations = guest::decode(rest).map(|operation| within(&operation, vectors)).collect();
    Some((subject, vectors, operations))
}

const HEAD: usize = 6;

/// [`Policy::SPEC`] but for what the rules leave to an implementation. Bus master off drops no message here: the
/// host of this adapter delivers by itself, and does not look at it (H16).
fn chosen(choice: u32) -> Policy {
    let mixed = mixed(choice).policy;
    Policy {
        while_disabled: mixed.while_disabled,
        pending_on_disable: mixed.pending_on_disable,
        live_rewrite: mixed.live_rewrite,
        table_access: mixed.table_access,
        vector_control: mixed.vector_control,
        message_address: mixed.message_address,
        unclaimed_pending: mixed.unclaimed_pending,
        claims_on_reset: mixed.claims_on_reset,
        ..Policy::SPEC
    }
}

/// The engine, with some of its choices not declared.
struct Declared {
    engine: EngineSubject,
    /// A bit for each.
    open: u8,
}

impl Subject for Declared {
    fn name(&self) -> String {
        self.engine.name()
    }

    fn choices(&self) -> Choices {
        let mut choices = self.engine.choices();
        let mut open = self.open;
        /// The lowest bit says whether the first is left open, and so on.
        macro_rules! leave_open {
            ($($field:ident)*) => {$(
                if open & 1 != 0 {
                    choices.$field = None;
                }
                open >>= 1;
            )*};
        }
        leave_open! {
            while_disabled pending_on_disable live_rewrite table_access vector_control message_address
            bus_master_off unclaimed_pending
        }
        debug_assert_eq!(open, 0);
        choices
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        self.engine.device(vectors)
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}
