//! Engine and model side by side, with the same inputs.

use crate::policies::Behaviour;
use crate::reference::Reference;
use crate::vector_effects::{VectorEffect, take_each};
use msix_core::operation::{Answer, Operation};
use msix_core::{
    Borrowed, Boxed, Effects, Entry, Inline, MAX_EFFECTS, Msix, Policy, Storage, Vector, Word,
};
use proptest::prelude::Strategy;
use proptest::sample::select;
use std::fmt;

pub use crate::strategy::COUNTS;
pub use msix_subjects::layout;

/// Who owns the engine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// [`Inline`].
    Inline,
    /// [`Borrowed`].
    Borrowed,
    /// [`Boxed`].
    Boxed,
}

/// A kind of memory.
pub fn memory() -> impl Strategy<Value = StorageKind> {
    select(vec![StorageKind::Inline, StorageKind::Borrowed, StorageKind::Boxed])
}

/// An engine and its model, whatever the storage.
pub trait Steps {
    /// Gives both the same input and compares their answers, their effects, and all they hold
    /// afterwards.
    ///
    /// # Errors
    /// The first [`Difference`].
    fn step(&mut self, operation: &Operation) -> Result<(Answer, Vec<VectorEffect>), Difference> {
        let answered = self.act(operation)?;
        self.compare()?;
        Ok(answered)
    }

    /// Gives both the same input and compares only their answers and their effects.
    ///
    /// # Errors
    /// The first [`Difference`].
    fn act(&mut self, operation: &Operation) -> Result<(Answer, Vec<VectorEffect>), Difference>;

    /// Compares everything that an input can change, and asks the engine to check itself.
    ///
    /// # Errors
    /// The first [`Difference`].
    fn compare(&self) -> Result<(), Difference>;

    /// Gives both registers that come from elsewhere, with QEMU's encoding, and compares all they
    /// hold afterwards. It is the only way to a pending vector without a claim (H9).
    ///
    /// # Errors
    /// The first [`Difference`].
    fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> Result<(), Difference>;

    /// Compares every byte that a guest, an operator and a snapshot see.
    ///
    /// # Errors
    /// The first [`Difference`].
    fn compare_reads(&self) -> Result<(), Difference>;
}

/// Something on which engine and model disagree.
#[derive(Debug)]
pub struct Difference {
    /// What.
    pub what: &'static str,
    /// As the engine has it.
    pub engine: String,
    /// As the model has it.
    pub model: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the engine has {}, the model {}", self.what, self.engine, self.model)
    }
}

impl std::error::Error for Difference {}

fn same<T: PartialEq + fmt::Debug>(
    what: &'static str,
    engine: &T,
    model: &T,
) -> Result<(), Difference> {
    if engine == model {
        return Ok(());
    }
    Err(Difference { what, engine: format!("{engine:02x?}"), model: format!("{model:02x?}") })
}

/// As [`same`], with the first byte that differs instead of all.
fn same_bytes(what: &'static str, engine: &[u8], model: &[u8]) -> Result<(), Difference> {
    let at = engine.iter().zip(model).position(|(engine, model)| engine != model);
    match at.or((engine.len() != model.len()).then_some(engine.len().min(model.len()))) {
        None => Ok(()),
        Some(at) => {
            let byte = |bytes: &[u8]| format!("{:02x?} at byte {at}", bytes.get(at));
            Err(Difference { what, engine: byte(engine), model: byte(model) })
        }
    }
}

/// A boxed engine after reset.
///
/// # Panics
/// When `vectors` is not 1 to 2048.
#[must_use]
pub fn engine(vectors: u16, policy: Policy) -> Msix<Boxed> {
    Msix::boxed(layout(vectors), policy)
}

/// An engine and its model.
#[derive(Debug)]
pub struct Lockstep<S> {
    /// The engine.
    pub engine: Msix<S>,
    /// The model.
    pub model: Reference,
    scratch: Vec<u8>,
}

impl<S: Storage> Lockstep<S> {
    /// `engine`, which is as it was made with the policy of `behaviour`, and a new model of it.
    #[must_use]
    pub fn new(engine: Msix<S>, behaviour: impl Into<Behaviour>) -> Self {
        let behaviour = behaviour.into();
        let model = Reference::new(engine.vectors(), behaviour);
        let engine = behaviour.give(engine);
        let scratch = vec![0; engine.saved_len()];
        Self { engine, model, scratch }
    }
}

impl<S: Storage> Steps for Lockstep<S> {
    fn act(&mut self, operation: &Operation) -> Result<(Answer, Vec<VectorEffect>), Difference> {
        let mut fx = Effects::<MAX_EFFECTS>::new();
        let answer = operation.apply(&mut self.engine, &mut self.scratch, &mut fx);
        let effects = take_each(&self.engine, &mut fx);
        let (model_answer, model_effects) = self.model.apply(operation);
        same("the answer", &answer, &model_answer)?;
        same("the effects", &effects, &model_effects)?;
        Ok((answer, effects))
    }

    fn compare(&self) -> Result<(), Difference> {
        let (engine, model) = (&self.engine, &self.model);
        same("the invariants", &engine.check(), &Ok(()))?;
        let mut saved = vec![0; engine.saved_len()];
        let len = engine.save(&mut saved).expect("the buffer has the length asked for");
        let registers = &saved[..len - 4];
        same_bytes("control, table, PBA and claims", registers, &model.saved_registers())?;
        same("counters", engine.counters(), &model.counters())?;
        same("attached", &engine.is_attached(), &model.is_attached())?;
        same("loading", &engine.is_loading(), &model.is_loading())?;
        for (v, vector) in (0..engine.vectors()).map(Vector::new).enumerate() {
            same("live", &engine.is_live(vector), &Some(model.is_live(v)))?;
            same("fallback", &engine.is_fallback(vector), &Some(model.is_fallback(v)))?;
        }
        Ok(())
    }

    fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> Result<(), Difference> {
        let loaded = self.engine.load_qemu(control, bytes);
        same("whether it was loaded", &loaded, &self.model.load_qemu(control, bytes))?;
        self.compare()
    }

    fn compare_reads(&self) -> Result<(), Difference> {
        let (engine, model) = (&self.engine, &self.model);
        let mut saved = vec![0; engine.saved_len()];
        let len = engine.save(&mut saved).expect("the buffer has the length asked for");
        same_bytes("the native encoding", &saved[..len], &model.saved())?;
        let len = engine.save_qemu(&mut saved).expect("QEMU's encoding is the shorter one");
        same_bytes("QEMU's encoding", &saved[..len], &model.saved_qemu())?;
        same("the capability", &engine.capability(), &model.config())?;
        let snapshot = engine.snapshot();
        let table = snapshot.table.iter().flatten().flat_map(|dword| dword.to_le_bytes());
        let pending = snapshot.pending.iter().flat_map(|word| word.to_le_bytes());
        let plain: Vec<u8> = table.chain(pending).collect();
        let claims = 2 * model.vectors();
        let registers = model.saved_registers();
        same_bytes("the plain snapshot", &plain, &registers[12..registers.len() - claims])?;
        for (v, vector) in (0..engine.vectors()).map(Vector::new).enumerate() {
            same("the message", &engine.message(vector), &Some(model.message(v)))?;
            same("masked", &engine.is_masked(vector), &Some(model.masked(v)))?;
            same("deliverable", &engine.is_deliverable(vector), &Some(model.deliverable(v)))?;
            same("pending", &engine.is_pending(vector), &Some(model.pending(v)))?;
            same("the claims", &engine.claims(vector), &Some(model.claims(v)))?;
        }
        Ok(())
    }
}

/// Registers as somebody else may have left them, all from `seed`: Message Control, and table and
/// PBA in QEMU's encoding. About half the vectors are masked, and a quarter is pending.
#[must_use]
pub fn registers(vectors: u16, seed: u64) -> (u16, Vec<u8>) {
    let mut state = seed | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let n = usize::from(vectors);
    let control = (vectors - 1) | u16::from(random() & 0xc0) << 8;
    let mut bytes: Vec<u8> = (0..16 * n).map(|_| random()).collect();
    bytes.extend((0..n.div_ceil(8)).map(|_| random() & random()));
    if let (Some(last), true) = (bytes.last_mut(), n % 8 != 0) {
        *last &= (1 << (n % 8)) - 1;
    }
    (control, bytes)
}

/// Runs `run` on an engine of `vectors` vectors in the given kind of memory, and its model.
///
/// # Panics
/// With [`StorageKind::Inline`], when `vectors` is not one of [`COUNTS`]; else outside 1 to 2048.
pub fn with_lockstep<R>(
    memory: StorageKind,
    vectors: u16,
    behaviour: impl Into<Behaviour>,
    run: impl FnOnce(&mut dyn Steps) -> R,
) -> R {
    let behaviour = behaviour.into();
    let policy = behaviour.policy;
    match memory {
        StorageKind::Boxed => run(&mut Lockstep::new(engine(vectors, policy), behaviour)),
        StorageKind::Borrowed => {
            let n = usize::from(vectors);
            let mut entries = vec![Entry::RESET; n];
            let mut claims = vec![0; n];
            let mut words = vec![Word::RESET; n.div_ceil(64)];
            let storage = Borrowed::new(&mut entries, &mut claims, &mut words).expect("it fits");
            let engine = Msix::with_storage(storage, layout(vectors), policy).expect("it fits");
            run(&mut Lockstep::new(engine, behaviour))
        }
        StorageKind::Inline => {
            macro_rules! inline {
                ($($n:literal in $words:literal),*) => {
                    match vectors {
                        $($n => run(&mut inline::<$n, $words>(behaviour)),)*
                        other => panic!("{other} vectors are not among COUNTS"),
                    }
                };
            }
            inline!(1 in 1, 2 in 1, 31 in 1, 32 in 1, 33 in 1, 63 in 1, 64 in 1, 65 in 2,
                    128 in 2, 129 in 3, 2048 in 32)
        }
    }
}

fn inline<const N: usize, const W: usize>(behaviour: Behaviour) -> Lockstep<Inline<N, W>> {
    let vectors = u16::try_from(N).expect("at most 2048");
    let engine = Msix::new(layout(vectors), behaviour.policy);
    Lockstep::new(engine.expect("inline storage of the same count"), behaviour)
}
