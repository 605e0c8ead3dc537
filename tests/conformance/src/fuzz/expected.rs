//! The model under one combination of choices, and what it expects of an operation.

use crate::adapter::{IntxCall, Message};
use crate::choices::Choices;
use crate::model::Reference;
use crate::model::vector_effects::VectorEffect;
use msix_core::operation::{Answer, Operation};
use msix_core::policy::{
    BusMasterOff, ClaimsOnReset, LiveRewrite, MessageAddress, PendingOnDisable, TableAccess,
    UnclaimedPending, VectorControlBits, WhileDisabled,
};
use msix_core::{Policy, Vector, Vectors};
use std::collections::{BTreeMap, BTreeSet};

/// A model that the device may agree with.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) model: Reference,
    pub(super) policy: Policy,
    /// What the host delivers, and the message it was given for it.
    pub(super) armed: BTreeMap<u16, Message>,
    /// Pending vectors of which the host may hold an event beside the pending bit, or alone: it was polled for
    /// them and holds what came next, or it came or went meanwhile.
    taken: BTreeSet<u16>,
    /// Those of them with an event since.
    again: BTreeSet<u16>,
}

/// A message that is due.
#[derive(Debug)]
pub(super) struct Due {
    /// As the registers have it, or as the host was given it last (H4).
    pub(super) either: [Message; 2],
    /// A host that held an event beside the pending bit delivers it too (K7).
    pub(super) perhaps_twice: bool,
}

/// What one operation leads to.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The value of a read.
    pub(super) read: Option<u64>,
    /// Lowest vector first.
    pub(super) messages: Vec<Due>,
    /// Whether the host may deliver some of them before the others.
    pub(super) in_any_order: bool,
    pub(super) intx: Vec<IntxCall>,
    /// Sorted.
    pub(super) polled: Vec<u16>,
    /// Claims of the vector that the operation is about.
    pub(super) claims: Option<u32>,
    /// QEMU's field.
    pub(super) field: Option<Vec<u8>>,
}

impl Side {
    /// All models that agree with `choices`, in their power-on state with a backend attached. Without
    /// claims of the device's own, every vector has one for good.
    pub(super) fn all(vectors: u16, choices: &Choices, counts_claims: bool) -> Vec<Self> {
        let side = |policy| {
            let mut side = Self {
                model: Reference::new(vectors, policy),
                policy,
                armed: BTreeMap::new(),
                taken: BTreeSet::new(),
                again: BTreeSet::new(),
            };
            side.model.apply(&Operation::Attach);
            for v in (0..vectors).filter(|_| !counts_claims) {
                side.model.apply(&Operation::Claim(Vector::new(v)));
            }
            side
        };
        policies(choices, counts_claims).into_iter().map(side).collect()
    }

    /// Whether the host may be asked to see an event of `v`: the device has an eventfd for it, and what
    /// the host sees is not thrown away later (H3).
    pub(super) fn takes_signal(&self, v: Vector) -> bool {
        let model = &self.model;
        let index = usize::from(v.index());
        index < model.vectors()
            && model.claims(index) > 0
            && !model.is_loading()
            && (model.enabled() || self.policy.while_disabled == WhileDisabled::Latch)
    }

    /// Gives `operation` to the model. `failing` are the vectors that the host cannot arm.
    pub(super) fn apply(&mut self, operation: &Operation, failing: &BTreeSet<u16>) -> Expected {
        let mut expected = Expected::default();
        match *operation {
            Operation::Notify(v) => self.event(v),
            Operation::ReportHeld(set) => set.iter().for_each(|v| self.event(v)),
            _ => {}
        }
        match *operation {
            Operation::ReadPba { offset, len } => {
                self.input(&Operation::PollPba { offset, len }, failing, &mut expected);
                self.input(operation, failing, &mut expected);
            }
            Operation::SaveAndLoad => {
                self.input(&Operation::PrepareSave, failing, &mut expected);
                self.input(operation, failing, &mut expected);
            }
            Operation::SaveAndLoadQemu => {
                self.input(&Operation::PrepareSave, failing, &mut expected);
                expected.field = Some(self.model.saved_qemu());
                self.input(operation, failing, &mut expected);
                self.input(&Operation::Resume, failing, &mut expected);
            }
            // To the host, not to the device: see `failing`.
            Operation::ReportFailed(_) => {}
            _ => self.input(operation, failing, &mut expected),
        }
        if let Operation::Claim(v) | Operation::Unclaim(v) = *operation {
            let index = usize::from(v.index());
            let claims = (index < self.model.vectors()).then(|| self.model.claims(index));
            expected.claims = claims.map(u32::from);
        }
        let is_pending = |v: &u16| self.model.pending(usize::from(*v));
        self.taken.extend(expected.polled.iter().copied().filter(is_pending));
        match *operation {
            // Userspace has the pending ones, and the host what comes next, or the other way round.
            Operation::Attach | Operation::Detach | Operation::SaveAndLoad | Operation::Resume => {
                self.taken.extend(0..self.vectors());
            }
            Operation::ReportHeld(set) => self.taken.extend(set.iter().map(|v| v.index())),
            _ => {}
        }
        self.taken.retain(is_pending);
        self.again.retain(is_pending);
        expected.polled.sort_unstable();
        expected
    }

    fn vectors(&self) -> u16 {
        u16::try_from(self.model.vectors()).unwrap_or(u16::MAX)
    }

    /// The device has an event.
    fn event(&mut self, v: Vector) {
        if self.taken.contains(&v.index()) {
            self.again.insert(v.index());
        }
    }

    fn input(&mut self, operation: &Operation, failing: &BTreeSet<u16>, expected: &mut Expected) {
        let (answer, effects) = self.model.apply(operation);
        if let Answer::Read(_, value) = answer {
            expected.read = Some(value);
        }
        for effect in effects {
            match effect {
                VectorEffect::Arm(v, message) | VectorEffect::Reroute(v, message) => {
                    self.armed.insert(v, message);
                    if failing.contains(&v) {
                        let failed = Vectors::one(Vector::new(v));
                        self.model.apply(&Operation::ReportFailed(failed));
                    }
                }
                VectorEffect::Disarm(v) => _ = self.armed.remove(&v),
                VectorEffect::Send(v, message) => {
                    let given = self.armed.get(&v).copied().unwrap_or(message);
                    let perhaps_twice = self.again.contains(&v);
                    expected.in_any_order |= self.taken.contains(&v) || failing.contains(&v);
                    expected.messages.push(Due { either: [message, given], perhaps_twice });
                }
                VectorEffect::Poll(v) => expected.polled.push(v),
                VectorEffect::IntxDeassert => expected.intx.push(IntxCall::Deassert),
                VectorEffect::IntxReevaluate => expected.intx.push(IntxCall::Reevaluate),
                VectorEffect::Drain(_) | VectorEffect::Snoop(_) => {}
            }
        }
    }
}

/// Every policy that agrees with `choices`.
fn policies(choices: &Choices, counts_claims: bool) -> Vec<Policy> {
    let mut policies = vec![Policy { claims_on_reset: ClaimsOnReset::Keep, ..Policy::SPEC }];
    /// Each policy with each of what a field may be.
    macro_rules! open {
        ($($field:ident: $($all:expr),*;)*) => {$(
            let may: Vec<_> = choices.$field.map_or_else(|| vec![$($all),*], |chosen| vec![chosen]);
            policies = policies
                .into_iter()
                .flat_map(|policy| may.iter().map(move |$field| Policy { $field: *$field, ..policy }))
                .collect();
        )*};
    }
    open! {
        while_disabled: WhileDisabled::Latch, WhileDisabled::Drop, WhileDisabled::Intx;
        pending_on_disable: PendingOnDisable::Keep, PendingOnDisable::Drop;
        live_rewrite: LiveRewrite::Reroute, LiveRewrite::Ignore;
        table_access: TableAccess::Aligned, TableAccess::Dwords;
        vector_control: VectorControlBits::Verbatim, VectorControlBits::SteeringTag,
            VectorControlBits::MaskOnly;
        message_address: MessageAddress::Aligned, MessageAddress::Verbatim;
        bus_master_off: BusMasterOff::Latch, BusMasterOff::DropMessage;
    }
    if counts_claims {
        open! { unclaimed_pending: UnclaimedPending::Keep, UnclaimedPending::Lose; }
        let cleared = |policy: &Policy| Policy { claims_on_reset: ClaimsOnReset::Clear, ..*policy };
        policies.extend(policies.iter().map(cleared).collect::<Vec<_>>());
    }
    policies
}
