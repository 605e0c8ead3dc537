//! What is saved can be loaded and goes on as before; what is not a snapshot changes nothing.

use msix_core::operation::Operation;
use msix_core::plain::{CloudHypervisorMsix, CrosvmMsix, FirecrackerMsix, ImportError, QemuMsix};
use msix_core::{Boxed, LoadError, Policy, Snapshot, Vector};
use msix_tests::lockstep::{Lockstep, Steps, engine};
use msix_tests::lone_engine::LoneEngine;
use msix_tests::reference::sealed;
use msix_tests::strategy::{counts, operations, operations_of_a_good_host, policies};
use msix_tests::vector_effects::VectorEffect;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn config() -> ProptestConfig {
    // A failure is reported with its shrunk sequence; the sequence becomes a test of its own.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// The encodings.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Native,
    Qemu,
    Plain,
    /// What other programs save, by way of plain data.
    PlainQemu,
    CloudHypervisor,
    Firecracker,
    Crosvm,
}

impl Encoding {
    fn has_claims(self) -> bool {
        matches!(self, Self::Native | Self::Plain)
    }
}

fn encodings() -> impl Strategy<Value = Encoding> {
    select(vec![
        Encoding::Native,
        Encoding::Qemu,
        Encoding::Plain,
        Encoding::PlainQemu,
        Encoding::CloudHypervisor,
        Encoding::Firecracker,
        Encoding::Crosvm,
    ])
}

/// Writes `value` as JSON, and reads that.
fn by_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_string(value).expect("plain data");
    serde_json::from_str(&json).expect("its own output")
}

/// Saves as another program does, and makes a snapshot of that.
fn by_program<T>(snapshot: &Snapshot) -> Snapshot
where
    T: for<'a> From<&'a Snapshot> + Serialize + DeserializeOwned,
    Snapshot: for<'a> TryFrom<&'a T, Error = ImportError>,
{
    let saved: T = by_json(&T::from(snapshot));
    let taken = Snapshot::try_from(&saved).expect("its own output");
    // Two programs have this in the config space only.
    Snapshot { function_masked: snapshot.function_masked, ..taken }
}

/// Saves `source` and loads it in `target`.
fn copy(source: &LoneEngine, target: &mut LoneEngine, encoding: Encoding) -> Result<(), LoadError> {
    let snapshot = source.engine.snapshot();
    match encoding {
        Encoding::Native => target.engine.load(&source.saved()),
        Encoding::Qemu => target.engine.load_qemu(source.control(), &source.saved_qemu()),
        Encoding::Plain => target.engine.load_snapshot(&by_json(&snapshot)),
        Encoding::PlainQemu => target.engine.load_snapshot(&by_program::<QemuMsix>(&snapshot)),
        Encoding::CloudHypervisor => {
            target.engine.load_snapshot(&by_program::<CloudHypervisorMsix>(&snapshot))
        }
        Encoding::Firecracker => {
            target.engine.load_snapshot(&by_program::<FirecrackerMsix>(&snapshot))
        }
        Encoding::Crosvm => target.engine.load_snapshot(&by_program::<CrosvmMsix>(&snapshot)),
    }
}

fn two_histories() -> impl Strategy<Value = (u16, Vec<Operation>, Vec<Operation>)> {
    counts()
        .prop_flat_map(|n| (Just(n), operations_of_a_good_host(n), operations_of_a_good_host(n)))
}

fn cases() -> impl Strategy<Value = (u16, Vec<Operation>)> {
    counts().prop_flat_map(|n| (Just(n), operations(n)))
}

fn small_histories() -> impl Strategy<Value = (u16, Vec<Operation>, Vec<Operation>)> {
    small_cases().prop_flat_map(|(n, past)| (Just(n), Just(past), operations(n)))
}

/// Few enough vectors to try many snapshots a case.
fn small_cases() -> impl Strategy<Value = (u16, Vec<Operation>)> {
    select(vec![1, 2, 33, 63, 64, 65]).prop_flat_map(|n| (Just(n), operations(n)))
}

proptest! {
    #![proptest_config(config())]

    // C41, C44
    #[test]
    fn a_saved_function_goes_on_in_another_place_as_if_nothing_had_happened(
        (n, past, future) in two_histories(), policy in policies(), encoding in encodings(),
    ) {
        let mut source = LoneEngine::new(n, policy);
        source.run(&past);
        source.run(&[Operation::Resume, Operation::PrepareSave]);

        let mut target = LoneEngine::new(n, policy);
        let bus_master = past.iter().rev().find(|o| matches!(o, Operation::SetBusMaster(_)));
        target.run(&bus_master.copied().into_iter().collect::<Vec<_>>());
        if !encoding.has_claims() {
            for v in (0..n).map(Vector::new) {
                let claims = source.engine.claims(v).unwrap_or_default();
                target.run(&vec![Operation::Claim(v); usize::from(claims)]); // the device's job, F4
            }
        }
        if source.engine.is_attached() {
            // The host there knows nothing yet, and the host here is asked for all of it again.
            target.run(&[Operation::Attach]);
            source.run(&[Operation::Detach, Operation::Attach]);
        }
        prop_assert_eq!(copy(&source, &mut target, encoding), Ok(()));
        prop_assert_eq!(target.engine.check(), Ok(()));
        prop_assert_eq!(target.state().live, Vec::<u16>::new(), "armed before the resume");
        let (_, effects) = target.apply_by_vector(&Operation::Resume);
        let armed: Vec<u16> = effects.iter().filter_map(|effect| match effect {
            VectorEffect::Arm(v, _) => Some(*v),
            _ => None,
        }).collect();
        // A10: the load enabled it. Elsewhere nothing but Arms is due.
        let intx = usize::from(target.engine.is_enabled());
        let first = effects.first() == Some(&VectorEffect::IntxDeassert);
        prop_assert_eq!(first, intx == 1, "{:?}", effects);
        prop_assert_eq!(effects.len(), armed.len() + intx, "only Arms: {:?}", effects);
        prop_assert_eq!(&armed, &source.state().live);

        for operation in &future {
            prop_assert_eq!(target.state().saved, source.state().saved);
            prop_assert_eq!(target.state().live, source.state().live);
            prop_assert_eq!(target.engine.capability(), source.engine.capability());
            prop_assert_eq!(target.saved_qemu(), source.saved_qemu());
            prop_assert_eq!(target.apply_by_vector(operation), source.apply_by_vector(operation), "{:?}", operation);
        }
    }

    // C44, H15
    #[test]
    fn a_load_in_place_is_silent_and_the_resume_arms_everything_once(
        (n, operations) in cases(), policy in policies(), encoding in encodings(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&operations);
        let before = subject.state();
        let twin = subject.clone();
        prop_assert_eq!(copy(&twin, &mut subject, encoding), Ok(()));
        prop_assert!(subject.engine.is_loading());
        prop_assert_eq!(subject.engine.check(), Ok(()));
        let loaded = subject.state();
        prop_assert_eq!((&loaded.saved, &loaded.live), (&before.saved, &before.live));
        for v in (0..n).map(Vector::new) {
            prop_assert_eq!(subject.engine.is_deliverable(v), Some(false));
        }
        let (_, effects) = subject.apply_by_vector(&Operation::Resume);
        let disarmed: Vec<u16> = effects.iter().filter_map(|effect| match effect {
            VectorEffect::Disarm(v) => Some(*v),
            _ => None,
        }).collect();
        prop_assert_eq!(&disarmed, &before.live);
        let armed = effects.iter().filter(|effect| matches!(effect, VectorEffect::Arm(..))).count();
        prop_assert_eq!(armed, subject.state().live.len());
        prop_assert_eq!(subject.apply_by_vector(&Operation::Resume).1, [], "a second resume");
    }

    // H15: guests and devices may go on, the host hears of it with the resume
    #[test]
    fn between_load_and_resume_the_host_is_asked_for_nothing_new(
        (n, past, more) in small_histories(), policy in policies(), encoding in encodings(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&past);
        let twin = subject.clone();
        prop_assert_eq!(copy(&twin, &mut subject, encoding), Ok(()));
        for operation in &more {
            if matches!(operation, Operation::Resume | Operation::Reset) {
                break;
            }
            let (_, effects) = subject.apply_by_vector(operation);
            let new = |effect: &VectorEffect| {
                matches!(effect, VectorEffect::Arm(..) | VectorEffect::Reroute(..) | VectorEffect::Send(..))
            };
            prop_assert!(!effects.iter().any(new), "{operation:?}: {effects:?}");
        }
    }

    // C43, I7
    #[test]
    fn a_damaged_snapshot_is_refused_and_the_state_is_as_it_was(
        (n, operations) in small_cases(), policy in policies(),
        damage in prop::collection::vec((any::<Index>(), 1..=255_u8), 30), extra in 1..40_usize,
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&operations);
        let before = subject.state();
        for (at, bits) in damage {
            let mut bytes = before.saved.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            prop_assert!(subject.engine.load(&bytes).is_err(), "byte {at} changed by {bits:#x}");
            let short = &before.saved[..at];
            prop_assert!(subject.engine.load(short).is_err(), "{at} bytes");
            prop_assert_eq!(&subject.state(), &before);
        }
        let mut long = before.saved.clone();
        long.resize(long.len() + extra, 0);
        prop_assert!(subject.engine.load(&long).is_err());
        prop_assert_eq!(subject.state(), before);
    }

    // C43, F4, H15: what somebody who can compute a checksum may load
    #[test]
    fn a_forged_snapshot_is_a_typed_error_or_a_sound_state(
        (n, operations, future) in small_histories(), policy in policies(),
        control in prop_oneof![3 => Just(None), 1 => any::<u16>().prop_map(Some)],
        version in prop_oneof![9 => 1..3_u16, 1 => any::<u16>()],
        count in prop_oneof![9 => Just(None), 1 => any::<u32>().prop_map(Some)],
        enable in 0..4_u16, body in prop::collection::vec(any::<u8>(), 18 * 65 + 16),
        clean_tail in any::<bool>(), unclaimed in any::<bool>(),
        magic in prop_oneof![9 => Just(*b"MSIX"), 1 => any::<[u8; 4]>()],
        len in prop_oneof![9 => Just(usize::MAX), 1 => 0..40_usize],
    ) {
        let control = control.unwrap_or((n - 1) | (enable << 14));
        let count = count.unwrap_or(u32::from(n));
        let vectors = usize::from(n);
        let mut bytes = [&magic[..], &version.to_le_bytes(), &control.to_le_bytes(),
                         &count.to_le_bytes()].concat();
        bytes.extend(&body[..18 * vectors + 8 * vectors.div_ceil(64)]);
        if clean_tail {
            clear_pba(&mut bytes[12 + 16 * vectors..], vectors);
        }
        if unclaimed {
            bytes[12 + 16 * vectors + 8 * vectors.div_ceil(64)..].fill(0);
        }
        let mut bytes = sealed(bytes);
        bytes.truncate(len);
        let mut both = Lockstep::new(engine(n, policy), policy);
        run(&mut both, &operations)?;
        let loaded = both.engine.load(&bytes);
        prop_assert_eq!(loaded, both.model.load(&bytes));
        agree(&both)?;
        run(&mut both, &[Operation::Attach, Operation::Resume])?;
        run(&mut both, &future)?;
    }

    // C43, C45, F3, F4, H15
    #[test]
    fn any_bytes_as_a_qemu_field_are_a_typed_error_or_a_sound_state(
        (n, operations, future) in small_histories(), policy in policies(), enable in 0..4_u16,
        control in prop_oneof![5 => Just(None), 1 => any::<u16>().prop_map(Some)],
        body in prop::collection::vec(any::<u8>(), 16 * 65 + 16), longer in -3..12_isize,
        clean_tail in any::<bool>(),
    ) {
        let control = control.unwrap_or((n - 1) | (enable << 14));
        let vectors = usize::from(n);
        let right = 16 * vectors + vectors.div_ceil(8);
        let len = if longer < 4 { right.saturating_add_signed(longer) } else { right };
        let mut bytes = body[..len].to_vec();
        if clean_tail {
            clear_pba(bytes.get_mut(16 * vectors..).unwrap_or_default(), vectors);
        }
        let mut both = Lockstep::new(engine(n, policy), policy);
        run(&mut both, &operations)?;
        let loaded = both.engine.load_qemu(control, &bytes);
        prop_assert_eq!(loaded, both.model.load_qemu(control, &bytes));
        agree(&both)?;
        run(&mut both, &[Operation::Attach, Operation::Resume])?;
        run(&mut both, &future)?;
    }

    #[test]
    fn plain_data_of_the_wrong_shape_is_refused(
        (n, operations) in small_cases(), policy in policies(), part in 0..3_usize,
        grow in any::<bool>(),
    ) {
        let mut subject = LoneEngine::new(n, policy);
        subject.run(&operations);
        let before = subject.state();
        let mut snapshot = subject.engine.snapshot();
        let resize = |len: usize| if grow { len + 1 } else { len - 1 };
        let mut expected = Err(LoadError::Parts);
        match part {
            0 => {
                snapshot.table.resize(resize(snapshot.table.len()), [0; 4]);
                let vectors = u32::try_from(snapshot.table.len()).expect("a few");
                expected = Err(LoadError::Vectors { snapshot: vectors, engine: n });
            }
            1 => snapshot.pending.resize(resize(snapshot.pending.len()), 0),
            // None at all are not saved.
            _ => snapshot.claims.resize(if n == 1 { 2 } else { resize(n.into()) }, 0),
        }
        prop_assert_eq!(subject.engine.load_snapshot(&snapshot), expected);
        prop_assert_eq!(subject.state(), before);
    }
}

/// Clears the PBA bits past the last vector.
fn clear_pba(pba: &mut [u8], vectors: usize) {
    for v in vectors..8 * pba.len().min(vectors.div_ceil(64) * 8) {
        pba[v / 8] &= !(1 << (v % 8));
    }
}

fn agree(both: &Lockstep<Boxed>) -> Result<(), TestCaseError> {
    let compared = both.compare().and_then(|()| both.compare_reads());
    compared.map_err(|difference| TestCaseError::fail(difference.to_string()))
}

fn run(both: &mut Lockstep<Boxed>, operations: &[Operation]) -> Result<(), TestCaseError> {
    for operation in operations {
        let step = both.step(operation);
        step.map_err(|difference| TestCaseError::fail(format!("{operation:?}: {difference}")))?;
    }
    Ok(())
}

/// A function in the middle of its life, with every register of a word in use.
fn busy(n: u16) -> LoneEngine {
    let mut subject = LoneEngine::new(n, Policy::SPEC);
    for v in (0..n).map(Vector::new) {
        subject.run(&[Operation::Claim(v), Operation::Notify(v)]);
    }
    subject.run(&[Operation::WriteConfig { offset: 3, len: 1, value: 0xc0 }, Operation::Attach]);
    subject
}

// C43
#[test]
fn every_flipped_byte_and_every_length_is_refused() {
    for n in [1, 65] {
        let mut subject = busy(n);
        let before = subject.state();
        for at in 0..before.saved.len() {
            let mut bytes = before.saved.clone();
            bytes[at] = !bytes[at];
            assert!(subject.engine.load(&bytes).is_err(), "byte {at}");
            assert!(subject.engine.load(&before.saved[..at]).is_err(), "{at} bytes");
            assert_eq!(subject.state(), before);
        }
        let qemu = subject.saved_qemu();
        for len in (0..qemu.len() + 20).filter(|len| *len != qemu.len()) {
            let mut bytes = qemu.clone();
            bytes.resize(len, 0);
            let error = LoadError::Length { expected: qemu.len(), got: len };
            assert_eq!(subject.engine.load_qemu(subject.control(), &bytes), Err(error));
            assert_eq!(subject.state(), before);
        }
    }
}

#[test]
fn a_buffer_too_short_for_a_snapshot_is_not_written() {
    let subject = busy(65);
    let (needed, qemu) = (subject.engine.saved_len(), subject.engine.qemu_len());
    for got in [0, 1, qemu - 1] {
        let mut bytes = vec![0xa5; got];
        let refused = subject.engine.save(&mut bytes).unwrap_err();
        assert_eq!((refused.needed, refused.got), (needed, got));
        let refused = subject.engine.save_qemu(&mut bytes).unwrap_err();
        assert_eq!((refused.needed, refused.got), (qemu, got));
        assert_eq!(bytes, vec![0xa5; got]);
    }
}
