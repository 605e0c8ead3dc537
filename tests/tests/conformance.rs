//! The engine and the reference model, judged by every case.

use msix_conformance::{
    CASES, Choices, Device, Layouts, NoDevice, RECORDED_CONTROL, RECORDED_FIELD, Report, Subject,
    Verdict, case, judge, run,
};
use msix_core::Policy;
use msix_tests::conformance::{
    Deviation, EngineSubject, EventPath, deviations, recorded_stream, subjects,
};

/// What cannot be observed, of whom (by a part of the name), and why.
const UNSEEN: &[(&str, &str, &str)] = &[
    ("C37", "", "the model host has no kernel, so no commits"),
    ("C38", "", "the model host has no kernel, so no commits"),
    ("C11", "reference model", "the model does not check its vector count"),
    ("C47", "reference model", "the model has no layouts"),
    ("C48", "reference model", "the model has no layouts"),
];

/// Every subject passes the case at all its sizes, but for the deviations and the unobservable.
fn holds(id: &str) {
    let case = case(id).expect("a case of the list");
    for subject in subjects() {
        let name = subject.name();
        let deviation = deviations(&name).find(|deviation| deviation.case == id);
        let unseen = UNSEEN.iter().any(|(case, who, _)| *case == id && name.contains(who));
        match (judge(subject.as_ref(), case), deviation) {
            (Verdict::Passed { sizes, .. }, None) if !unseen => {
                let most = if name.contains("reference model") { 129 } else { 2048 };
                let all: Vec<u16> = case.sizes.iter().copied().filter(|n| *n <= most).collect();
                assert_eq!(sizes, all, "{name}: {id} was not run at every size");
            }
            (Verdict::Failed { .. }, Some(_)) => {}
            (Verdict::NotObservable { .. }, None) if unseen => {}
            (verdict, Some(deviation)) => panic!("{name}: {deviation:?} is stale: {verdict:#?}"),
            (verdict, None) => panic!("{name}: {case:?}: {verdict:#?}"),
        }
    }
}

/// A test for each case, and their list.
macro_rules! cases {
    ($($id:literal $name:ident)*) => {
        const TESTED: &[&str] = &[$($id),*];
        $(
            #[test]
            fn $name() {
                holds($id);
            }
        )*
    };
}

cases! {
    "C01" c01_after_reset_nothing_is_enabled_and_all_is_masked
    "C02" c02_all_ones_at_the_capability_change_two_bits
    "C03" c03_the_control_byte_is_the_same_by_every_width
    "C04" c04_writes_past_control_change_nothing
    "C05" c05_entries_read_back_as_dwords_and_qwords
    "C06" c06_odd_accesses_do_as_the_policy_says
    "C07" c07_past_the_table_reads_all_ones
    "C08" c08_each_pending_bit_is_in_its_word
    "C09" c09_pba_writes_change_nothing
    "C10" c10_reserved_control_bits_never_mask
    "C11" c11_one_to_2048_vectors_and_no_other_count
    "C12" c12_an_unmasked_event_is_one_message
    "C13" c13_a_masked_event_waits_for_the_unmask
    "C14" c14_many_masked_events_are_one_message
    "C15" c15_function_unmask_sends_lowest_first
    "C16" c16_two_masks_must_both_go
    "C17" c17_enable_does_not_send_what_is_masked
    "C18" c18_pending_across_a_disable_is_by_policy
    "C19" c19_unmasked_under_function_mask_is_not_lost
    "C20" c20_pending_before_the_first_unmask_is_sent
    "C21" c21_nothing_is_sent_after_a_reset
    "C22" c22_a_withdrawn_event_is_gone
    "C23" c23_a_second_unmask_does_nothing
    "C24" c24_unclaimed_vectors_drop_their_events
    "C25" c25_outside_the_table_is_refused
    "C26" c26_bus_master_off_latches_or_drops
    "C27" c27_equal_messages_are_both_sent
    "C28" c28_programmed_while_disabled_is_as_good
    "C29" c29_a_masked_vector_is_not_the_hosts_business
    "C30" c30_what_stops_is_disarmed_once
    "C31" c31_arms_and_disarms_alternate
    "C32" c32_a_live_rewrite_is_never_torn
    "C33" c33_data_and_control_as_one_qword
    "C34" c34_an_affinity_change_is_at_most_one_commit
    "C35" c35_an_event_the_host_holds_is_seen_and_delivered
    "C36" c36_a_pba_read_polls_what_it_covers
    "C37" c37_the_order_of_host_calls
    "C38" c38_one_commit_for_all
    "C39" c39_a_failed_arm_falls_back_alone
    "C40" c40_detach_and_attach_are_complete
    "C41" c41_a_restored_function_goes_on_alike
    "C42" c42_a_save_polls_first
    "C43" c43_bad_snapshots_change_nothing
    "C44" c44_a_load_is_silent_until_the_resume
    "C45" c45_qemus_encoding_is_byte_identical
    "C46" c46_intx_follows_enable_and_nothing_else
    "C47" c47_the_exclusive_bar
    "C48" c48_bad_layouts_are_named
    "C49" c49_a_live_rewrite_is_followed_wherever_it_stops
    "C50" c50_a_restore_tells_intx_of_enable
    "C51" c51_events_while_detached_are_pending
    "C52" c52_nothing_is_told_between_load_and_resume
}

#[test]
fn the_list_is_the_one_of_the_document_and_each_case_is_tested_by_name() {
    let document = include_str!("../CONFORMANCE.md");
    let lines: Vec<String> =
        CASES.iter().map(|case| format!("- {} {}", case.id, case.intent)).collect();
    let listed: Vec<&str> = document.lines().filter(|line| line.starts_with("- C")).collect();
    assert_eq!(lines, listed);
    assert!(CASES.iter().map(|case| &case.id).eq(TESTED));
}

#[test]
fn a_deviation_names_a_rule() {
    let rules = include_str!("../../core/RULES.md");
    for subject in subjects() {
        for deviation in deviations(&subject.name()) {
            let rule = format!("\n### {}\n", deviation.rule);
            assert!(rules.contains(&rule), "{}", deviation.rule);
            assert!(case(deviation.case).is_some(), "{}", deviation.case);
        }
        let spec = subject.name().contains("SPEC");
        let of_the_policy = |deviation: &&Deviation| deviation.case != "C49";
        let none = !deviations(&subject.name()).any(|deviation| of_the_policy(&deviation));
        assert_eq!(none, spec, "{}", subject.name());
    }
}

/// The engine behind an adapter that declares no choice.
struct Undeclared(EngineSubject);

impl Subject for Undeclared {
    fn name(&self) -> String {
        self.0.name()
    }
    fn choices(&self) -> Choices {
        Choices::UNKNOWN
    }
    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        self.0.device(vectors)
    }
    fn layouts(&self) -> Option<&dyn Layouts> {
        self.0.layouts()
    }
}

#[test]
fn undeclared_choices_are_accepted_and_the_one_seen_is_noted() {
    for (policy, seen) in [
        (Policy::SPEC, ["latched", "SteeringTag", "Reroute"]),
        (Policy::QEMU, ["dropped", "Verbatim", "Ignore"]),
    ] {
        let engine = EngineSubject::new(policy, EventPath::Userspace);
        let (declared, undeclared) = (run(&engine), run(&Undeclared(engine)));
        assert_eq!(declared.counts(), undeclared.counts());
        for (id, seen) in ["C26", "C10", "C32"].into_iter().zip(seen) {
            let result = undeclared.results.iter().find(|result| result.id == id);
            let Some(Verdict::Passed { notes, .. }) = result.map(|result| &result.verdict) else {
                panic!("{id} did not pass");
            };
            assert!(notes.iter().any(|note| note.contains(seen)), "{id}: {notes:?}");
        }
    }
}

#[test]
fn a_report_is_for_people_and_for_programs() {
    let report: Report = run(&EngineSubject::new(Policy::QEMU, EventPath::Userspace));
    let json = serde_json::to_value(&report).expect("a report can be serialised");
    assert_eq!(json["results"].as_array().map(Vec::len), Some(52));
    assert_eq!(json["results"][0]["id"], "C01");
    assert_eq!(json["results"][42]["verdict"], "failed");
    assert_eq!(json["results"][1]["verdict"], "passed");
    assert_eq!(json["results"][36]["verdict"], "not-observable");
    let table = report.to_string();
    for expected in [
        "engine, QEMU, userspace",
        "C02  passed          all ones written",
        "C37  not observable  Disarm before Arm",
        "expected  INTx: []",
        "got       [Deassert]",
    ] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
}

#[test]
fn lengths_of_a_stream_that_fit_no_machine_are_no_device() {
    for sizes in [[u64::MAX, 1], [1, u64::MAX], [u64::MAX / 2, 0], [u64::from(u32::MAX), 1]] {
        let [first, second] = sizes;
        let text = format!(
            r#"{{"devices": [{{"name": "1/nvme", "fields": [{{"size": {first}}}, {{"size": {second}}}]}}]}}"#
        );
        let mut stream = b"QEVM\0\0\0\x03\x04\0\0\0\x01\x061/nvme".to_vec();
        stream.extend([0; 64]);
        stream.push(6);
        stream.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        stream.extend(text.as_bytes());
        assert_eq!(recorded_stream::device(&stream, "/nvme"), None, "{sizes:?}");
    }
}

#[test]
fn the_recorded_stream_is_read_and_a_damaged_one_is_not() {
    let saved = recorded_stream::device(recorded_stream::IVSHMEM_N9, "/ivshmem-doorbell")
        .expect("it is in there");
    assert_eq!((saved.control & 0x7ff, saved.field.len()), (8, 9 * 16 + 2));
    assert_eq!((saved.control, saved.field.as_slice()), (RECORDED_CONTROL, RECORDED_FIELD));
    assert_eq!(recorded_stream::device(recorded_stream::IVSHMEM_N9, "/nvme"), None);
    assert_eq!(
        recorded_stream::device(&recorded_stream::IVSHMEM_N9[1..], "/ivshmem-doorbell"),
        None
    );
    let short = &recorded_stream::IVSHMEM_N9[..recorded_stream::IVSHMEM_N9.len() - 1];
    assert_eq!(recorded_stream::device(short, "/ivshmem-doorbell"), None);
    let id = b"/ivshmem-doorbell";
    let at = recorded_stream::IVSHMEM_N9.windows(id.len()).position(|window| window == id);
    let footer = at.expect("the section is there") + id.len() + 8 + 430;
    let mut damaged = recorded_stream::IVSHMEM_N9.to_vec();
    damaged[footer] = 0;
    assert_eq!(recorded_stream::device(&damaged, "/ivshmem-doorbell"), None);
}
