//! What other programs save, in the form that they document: it is taken, given back as it was, and
//! refused with the reason when it does not fit together.

use msix_core::plain::{
    CloudHypervisorMsix, CrosvmMsix, FirecrackerMsix, FunctionSnapshot, ImportError, MsiSnapshot,
    MsixTableEntry, PropolisEntry, PropolisMsix, QemuMsix,
};
use msix_core::{
    BarIndex, Function, IntxSource, Layout, LoadError, Message, Mode, MsiCapability, Msix, Parts,
    Policy, Snapshot, Vector,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// One entry as Cloud Hypervisor, Firecracker and crosvm write it.
const ENTRY: &str = r#"{"msg_addr_lo":4276097024,"msg_addr_hi":1,"msg_data":65,"vector_ctl":0}"#;
/// The next one, masked.
const MASKED: &str = r#"{"msg_addr_lo":0,"msg_addr_hi":0,"msg_data":0,"vector_ctl":1}"#;

/// The snapshot of those two, with the second one pending.
fn two_vectors() -> Snapshot {
    Snapshot {
        enabled: true,
        function_masked: false,
        table: vec![[0xfee0_1000, 1, 0x41, 0], [0, 0, 0, 1]],
        pending: vec![0b10],
        claims: Vec::new(),
    }
}

#[test]
fn a_sample_of_each_program_is_the_same_function_and_is_written_back_as_it_was() {
    let cloud_hypervisor = format!(
        r#"{{"table_entries":[{ENTRY},{MASKED}],"pba_entries":[2],"masked":false,"enabled":true}}"#
    );
    let saved: CloudHypervisorMsix = serde_json::from_str(&cloud_hypervisor).unwrap();
    assert_eq!(Snapshot::try_from(&saved), Ok(two_vectors()));
    let written = CloudHypervisorMsix::from(&two_vectors());
    assert_eq!(serde_json::to_string(&written).unwrap(), cloud_hypervisor);

    let firecracker = format!(
        r#"{{"table_entries":[{ENTRY},{MASKED}],"pba_entries":[2],"masked":false,"enabled":true,"vectors":[24,25]}}"#
    );
    let saved: FirecrackerMsix = serde_json::from_str(&firecracker).unwrap();
    assert_eq!(Snapshot::try_from(&saved), Ok(two_vectors()));
    let written =
        FirecrackerMsix { vectors: vec![24, 25], ..FirecrackerMsix::from(&two_vectors()) };
    assert_eq!(serde_json::to_string(&written).unwrap(), firecracker);

    let crosvm = format!(
        r#"{{"table_entries":[{ENTRY},{MASKED}],"pba_entries":[2],"irq_gsi_vec":[24,null],"masked":false,"enabled":true,"msix_num":2,"pci_id":40,"device_name":"virtio-block"}}"#
    );
    let saved: CrosvmMsix = serde_json::from_str(&crosvm).unwrap();
    assert_eq!(Snapshot::try_from(&saved), Ok(two_vectors()));
    let written = CrosvmMsix {
        irq_gsi_vec: vec![Some(24), None],
        pci_id: 40,
        device_name: "virtio-block".to_owned(),
        ..CrosvmMsix::from(&two_vectors())
    };
    assert_eq!(serde_json::to_string(&written).unwrap(), crosvm);

    let propolis = r#"{"count":2,"is_enabled":true,"is_func_masked":false,"entries":[{"addr":8571064320,"data":65,"is_vec_masked":false,"is_pending":false},{"addr":0,"data":0,"is_vec_masked":true,"is_pending":true}]}"#;
    let saved: PropolisMsix = serde_json::from_str(propolis).unwrap();
    assert_eq!(Snapshot::try_from(&saved), Ok(two_vectors()));
    let written = PropolisMsix::from(&two_vectors());
    assert_eq!(serde_json::to_string(&written).unwrap(), propolis);

    let mut field = vec![0x00, 0x10, 0xe0, 0xfe, 1, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0]; // F3
    field.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    field.push(0b10);
    let qemu = QemuMsix { control: 0x8001, field };
    assert_eq!(Snapshot::try_from(&qemu), Ok(two_vectors()));
    assert_eq!(QemuMsix::from(&two_vectors()), qemu);
}

#[test]
fn cloud_hypervisor_writes_a_word_too_many_for_a_multiple_of_64() {
    for (vectors, words) in [(1, 1), (63, 1), (64, 2), (65, 2), (128, 3), (2047, 32), (2048, 33)] {
        let snapshot = Snapshot {
            enabled: true,
            table: vec![[0, 0, 0, 1]; vectors],
            pending: vec![1; vectors.div_ceil(64)],
            ..Snapshot::default()
        };
        let mut saved = CloudHypervisorMsix::from(&snapshot);
        assert_eq!(saved.pba_entries.len(), words, "N={vectors}");
        assert_eq!(Snapshot::try_from(&saved).as_ref(), Ok(&snapshot), "N={vectors}");
        // What its own versions without the mistake would write.
        saved.pba_entries.truncate(vectors.div_ceil(64));
        assert_eq!(Snapshot::try_from(&saved).as_ref(), Ok(&snapshot), "N={vectors}");
        saved.pba_entries.resize(vectors.div_ceil(64) + 1, 4);
        assert_eq!(Snapshot::try_from(&saved), Err(ImportError::PbaTail(4)), "N={vectors}");
    }
}

#[test]
fn a_function_that_was_never_enabled_does_not_read_as_masked() {
    let fresh = Snapshot { enabled: false, ..two_vectors() };
    let cloud_hypervisor = CloudHypervisorMsix::from(&fresh);
    assert!(cloud_hypervisor.masked, "as it makes them");
    assert_eq!(Snapshot::try_from(&cloud_hypervisor), Ok(fresh.clone()));
    let firecracker = FirecrackerMsix::from(&fresh);
    assert!(firecracker.masked, "as it makes them");
    assert_eq!(Snapshot::try_from(&firecracker), Ok(fresh));
    let masked = Snapshot { function_masked: true, ..two_vectors() };
    assert_eq!(Snapshot::try_from(&CloudHypervisorMsix::from(&masked)), Ok(masked.clone()));
    assert_eq!(Snapshot::try_from(&FirecrackerMsix::from(&masked)), Ok(masked));
}

#[test]
fn whatever_does_not_fit_together_is_refused_with_the_reason() {
    let good = two_vectors();
    let cloud_hypervisor = CloudHypervisorMsix::from(&good);
    let firecracker = FirecrackerMsix::from(&good);
    let crosvm = CrosvmMsix::from(&good);
    let propolis = PropolisMsix::from(&good);
    let qemu = QemuMsix::from(&good);
    let entries = |count| vec![MsixTableEntry::from([0; 4]); count];
    let words = |got| ImportError::PbaWords { expected: 1, got };
    let count = |said| ImportError::Count { said, entries: 2 };
    let length = |expected, got| ImportError::Length { expected, got };

    let cases = [
        (
            CloudHypervisorMsix { table_entries: entries(0), ..cloud_hypervisor.clone() },
            ImportError::Vectors(0),
        ),
        (
            CloudHypervisorMsix { table_entries: entries(2049), ..cloud_hypervisor.clone() },
            ImportError::Vectors(2049),
        ),
        (CloudHypervisorMsix { pba_entries: vec![], ..cloud_hypervisor.clone() }, words(0)),
        (CloudHypervisorMsix { pba_entries: vec![0; 3], ..cloud_hypervisor.clone() }, words(3)),
        (
            CloudHypervisorMsix { pba_entries: vec![4], ..cloud_hypervisor.clone() },
            ImportError::PbaTail(4),
        ),
        (
            CloudHypervisorMsix { pba_entries: vec![0, 1 << 63], ..cloud_hypervisor },
            ImportError::PbaTail(1 << 63),
        ),
    ];
    for (saved, error) in cases {
        assert_eq!(Snapshot::try_from(&saved), Err(error));
    }
    let cases = [
        (FirecrackerMsix { pba_entries: vec![0; 2], ..firecracker.clone() }, words(2)),
        (FirecrackerMsix { vectors: vec![24], ..firecracker.clone() }, count(1)),
        (
            FirecrackerMsix { table_entries: entries(2049), ..firecracker },
            ImportError::Vectors(2049),
        ),
    ];
    for (saved, error) in cases {
        assert_eq!(Snapshot::try_from(&saved), Err(error));
    }
    let cases = [
        (CrosvmMsix { msix_num: 3, ..crosvm.clone() }, count(3)),
        (CrosvmMsix { irq_gsi_vec: vec![], ..crosvm.clone() }, count(0)),
        (CrosvmMsix { pba_entries: vec![0; 2], ..crosvm.clone() }, words(2)),
        (CrosvmMsix { pba_entries: vec![u64::MAX], ..crosvm }, ImportError::PbaTail(!3)),
    ];
    for (saved, error) in cases {
        assert_eq!(Snapshot::try_from(&saved), Err(error));
    }
    let entry = propolis.entries[0];
    let cases = [
        (PropolisMsix { count: 1, ..propolis.clone() }, count(1)),
        (PropolisMsix { count: 0, entries: vec![], ..propolis.clone() }, ImportError::Vectors(0)),
        (
            PropolisMsix { count: 2049, entries: vec![entry; 2049], ..propolis },
            ImportError::Vectors(2049),
        ),
    ];
    for (saved, error) in cases {
        assert_eq!(Snapshot::try_from(&saved), Err(error));
    }
    let with_tail = [&qemu.field[..32], &[4]].concat();
    let cases = [
        (QemuMsix { control: 0xa001, ..qemu.clone() }, ImportError::ReservedControl(0xa001)),
        (QemuMsix { control: 0x8002, ..qemu.clone() }, length(49, 33)),
        (QemuMsix { control: 0x8000, ..qemu.clone() }, length(17, 33)),
        (QemuMsix { field: vec![], ..qemu.clone() }, length(33, 0)),
        (QemuMsix { field: with_tail, ..qemu }, ImportError::PbaTail(4)),
    ];
    for (saved, error) in cases {
        assert_eq!(Snapshot::try_from(&saved), Err(error));
        assert!(!error.to_string().is_empty());
    }
}

/// A function of two vectors of MSI-X, four of MSI and a pin.
fn function() -> Function<msix_core::Boxed> {
    let msix = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
    let msi = MsiCapability::new(4).unwrap();
    let pin = Some(IntxSource::Emulated);
    Function::boxed(Parts { msi: Some(msi), msix: Some(msix), pin }, Policy::SPEC)
}

#[test]
fn a_whole_function_goes_through_plain_data_with_events_that_no_register_shows() {
    let mut fx = msix_core::FunctionEffects::<{ msix_core::MAX_FUNCTION_EFFECTS }>::new();
    let mut source = function();
    source.write_command(0, &[0x02, 0x05], &mut fx).unwrap(); // no bus master
    source.set_level(true, &mut fx).unwrap();
    source.write_msi(2, &[0x11], &mut fx).unwrap();
    source.write_msi(4, &0xfee0_1000_u32.to_le_bytes(), &mut fx).unwrap();
    source.notify(Vector::new(1), &mut fx).unwrap();
    while fx.take().is_some() {}
    let snapshot = source.snapshot();
    assert_eq!(snapshot.command & 0x0402, 0x0402);
    let msi = snapshot.msi.as_ref().unwrap();
    assert_eq!((msi.events, msi.capability.len()), (Some(0b10), 10), "it has no pending register");
    assert!(snapshot.level);

    let json = serde_json::to_string(&snapshot).unwrap();
    let mut target = function();
    target.load_snapshot(&serde_json::from_str(&json).unwrap()).unwrap();
    target.resume(&mut fx).unwrap();
    while fx.take().is_some() {}
    assert_eq!(target.snapshot(), snapshot);
    let message = Message { address: 0xfee0_1000, data: 0 };
    assert_eq!(target.message(Mode::Msi, Vector::new(0)), Some(message));

    let before = target.snapshot();
    let function = |change: fn(&mut FunctionSnapshot)| {
        let mut other = snapshot.clone();
        change(&mut other);
        other
    };
    let (short, long) =
        (LoadError::Length { expected: 10, got: 9 }, LoadError::Length { expected: 10, got: 11 });
    for (snapshot, error) in [
        (function(|f| f.msi = None), LoadError::Function),
        (function(|f| f.msix = None), LoadError::Function),
        (function(|f| f.msi.as_mut().unwrap().capability.truncate(9)), short),
        (function(|f| f.msi.as_mut().unwrap().capability.push(0)), long),
        (function(|f| f.msi.as_mut().unwrap().events = Some(0x10)), LoadError::PbaTail(0x10)),
        (function(|f| f.msi.as_mut().unwrap().capability[0] = 6), LoadError::Capability { at: 0 }),
        (function(|f| f.msix.as_mut().unwrap().claims.truncate(1)), LoadError::Parts),
        (function(|f| f.msix.as_mut().unwrap().pending[0] = 4), LoadError::PbaTail(4)),
    ] {
        assert_eq!(target.load_snapshot(&snapshot), Err(error));
        assert_eq!(target.snapshot(), before, "{error}");
    }
    let msix = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
    let mut without = Function::boxed(Parts { msix: Some(msix), ..Parts::default() }, Policy::SPEC);
    let msix_alone = FunctionSnapshot { msi: None, ..snapshot };
    assert_eq!(without.load_snapshot(&msix_alone), Err(LoadError::Function), "it has no pin");
    without.load_snapshot(&FunctionSnapshot { level: false, ..msix_alone }).unwrap();
    assert_eq!(MsiSnapshot::default().capability.len(), 0);
}

#[test]
fn the_pending_register_shows_folded_events_and_counts_only_where_nothing_else_was_saved() {
    let mut fx = msix_core::FunctionEffects::<{ msix_core::MAX_FUNCTION_EFFECTS }>::new();
    let msi = MsiCapability::new(4).unwrap().with_masks();
    let make = || Function::boxed(Parts { msi: Some(msi), ..Parts::default() }, Policy::SPEC);
    let saved = |function: &Function<msix_core::Boxed>| {
        let mut bytes = vec![0; function.saved_len()];
        function.save(&mut bytes).unwrap();
        bytes
    };
    let mut source = make();
    source.write_msi(2, &[0x01], &mut fx).unwrap(); // one vector for all events
    source.notify(Vector::new(3), &mut fx).unwrap(); // no bus master
    let snapshot = source.snapshot();
    let plain = snapshot.msi.clone().unwrap();
    assert_eq!((plain.capability[16], plain.events), (0b0001, Some(0b1000)));
    let mut target = make();
    target.load_snapshot(&snapshot).unwrap();
    target.resume(&mut fx).unwrap();
    assert_eq!(saved(&target), saved(&source));
    let of_a_register = Some(MsiSnapshot { events: None, ..plain });
    target.load_snapshot(&FunctionSnapshot { msi: of_a_register, ..snapshot }).unwrap();
    assert_eq!(target.snapshot().msi.unwrap().events, Some(0b0001));
}

/// Entry counts about the limits, and small ones.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0..4_usize, 62..67_usize, 127..130_usize, 2046..2051_usize]
}

fn entries() -> impl Strategy<Value = Vec<MsixTableEntry>> {
    let entry = any::<[u32; 4]>().prop_map(MsixTableEntry::from);
    lengths().prop_flat_map(move |length| vec(entry.clone(), length))
}

fn pba() -> impl Strategy<Value = Vec<u64>> {
    let word = prop_oneof![Just(0), Just(1), any::<u64>()];
    prop_oneof![vec(word.clone(), 0..4_usize), vec(word, 31..35_usize)]
}

/// What is taken fits a function of its size, whatever it was made of.
fn judge(taken: Result<Snapshot, ImportError>) -> Result<(), TestCaseError> {
    let Ok(snapshot) = taken else { return Ok(()) };
    let vectors = u32::try_from(snapshot.table.len()).expect("at most 2048");
    let layout = Layout::exclusive_bar(vectors, BarIndex::new(0).expect("a BAR")).expect("it fits");
    for policy in [Policy::SPEC, Policy::QEMU] {
        let mut msix = Msix::boxed(layout, policy);
        prop_assert_eq!(msix.load_snapshot(&snapshot), Ok(()));
        prop_assert_eq!(msix.check(), Ok(()));
        let back = msix.snapshot();
        prop_assert_eq!(
            (back.enabled, back.function_masked),
            (snapshot.enabled, snapshot.function_masked)
        );
        prop_assert_eq!(&back.pending, &snapshot.pending);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_words_are_a_typed_error_or_a_sound_function(
        table in entries(), words in pba(), masked: bool, enabled: bool,
        said in prop_oneof![0..4_u16, 62..67_u16, 2046..2051_u16], control: u16,
        gsis in lengths(), cut in 0..40_usize,
    ) {
        let (table_entries, pba_entries) = (table.clone(), words.clone());
        judge(Snapshot::try_from(&CloudHypervisorMsix { table_entries, pba_entries, masked, enabled }))?;
        let (table_entries, pba_entries) = (table.clone(), words.clone());
        let vectors = vec![0; if masked { table.len() } else { gsis }];
        judge(Snapshot::try_from(&FirecrackerMsix { table_entries, pba_entries, masked, enabled, vectors }))?;
        let (table_entries, pba_entries) = (table.clone(), words.clone());
        judge(Snapshot::try_from(&CrosvmMsix {
            irq_gsi_vec: vec![None; if masked { table.len() } else { gsis }],
            msix_num: if enabled { u16::try_from(table.len()).expect("few") } else { said },
            table_entries, pba_entries, masked, enabled, pci_id: 0, device_name: String::new(),
        }))?;
        let entry = |(entry, number): (&MsixTableEntry, usize)| PropolisEntry {
            addr: entry.msg_addr_lo.into(),
            data: entry.msg_data,
            is_vec_masked: entry.vector_ctl & 1 != 0,
            is_pending: words.get(number % 64).is_some_and(|word| word & 1 != 0),
        };
        judge(Snapshot::try_from(&PropolisMsix {
            count: if enabled { u16::try_from(table.len()).expect("few") } else { said },
            is_enabled: enabled,
            is_func_masked: masked,
            entries: table.iter().zip(0..).map(entry).collect(),
        }))?;
        let dwords = table.iter().flat_map(|entry| <[u32; 4]>::from(*entry));
        let mut field: Vec<u8> = dwords.flat_map(u32::to_le_bytes).collect();
        field.extend(words.iter().flat_map(|word| word.to_le_bytes()).take(table.len().div_ceil(8)));
        let size = u16::try_from(table.len().saturating_sub(1)).expect("few") & 0x7ff;
        let right = QemuMsix { control: control & 0xc000 | size, field };
        judge(Snapshot::try_from(&right))?;
        let cut = right.field[..right.field.len().saturating_sub(cut)].to_vec();
        judge(Snapshot::try_from(&QemuMsix { control, field: cut }))?;
    }

    // A snapshot that nobody checked can be written in every form.
    #[test]
    fn a_snapshot_of_any_shape_is_written_without_a_panic(
        table in entries(), pending in pba(), function_masked: bool, enabled: bool,
    ) {
        let table = table.into_iter().map(<[u32; 4]>::from).collect();
        let snapshot = Snapshot { enabled, function_masked, table, pending, claims: Vec::new() };
        judge(Snapshot::try_from(&CloudHypervisorMsix::from(&snapshot)))?;
        judge(Snapshot::try_from(&FirecrackerMsix::from(&snapshot)))?;
        judge(Snapshot::try_from(&CrosvmMsix::from(&snapshot)))?;
        judge(Snapshot::try_from(&PropolisMsix::from(&snapshot)))?;
        judge(Snapshot::try_from(&QemuMsix::from(&snapshot)))?;
    }
}
