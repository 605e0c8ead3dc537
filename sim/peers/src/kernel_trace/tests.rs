use super::*;
use crate::testing::for_damaged;

fn event(line: &str) -> KernelEvent {
    parse_kernel_line(line.as_bytes()).unwrap().unwrap()
}

const WRITE: KernelWhat = KernelWhat::Write(MmioAccess { address: 0xe7f8_800c, size: 4, value: 1 });

#[test]
fn the_three_programs_write_one_event_each_in_its_way() {
    for line in [
        "           vcpu0-126     [000] .....     3.285514: kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1",
        "           vcpu0-126     (    120) [000] d..1.     3.285514: kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1 ",
        "           <...>-126   [000]     3.285514: kvm_mmio:             mmio write len 4 gpa 0xe7f8800c val 0x1\r",
        "  CPU 0/KVM     126 [001]     3.285514:                kvm:kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1",
        "vcpu0   120/126   [001]     3.285514678: kvm:kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1",
        "a: b [x] 1: y-126 [001] 3.285514: kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1",
    ] {
        let expected = KernelEvent { thread: 126, time: Some(3_285_514), what: WRITE };
        assert_eq!(event(line), expected, "{line}");
    }
    let counted =
        event("vcpu0-126 [000] ..... 3285: kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1");
    assert_eq!((counted.time, counted.what), (None, WRITE), "a clock that counts something else");
}

#[test]
fn every_event_is_understood() {
    let what = |text: &str| event(&format!("vcpu0-1 [000] ..... 1.000000: {text}")).what;
    let access = PortAccess { port: 0xcf8, size: 4, count: 1, value: 0x8000_1000 };
    assert_eq!(
        what("kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80001000 "),
        KernelWhat::Out(access)
    );
    let several = PortAccess { port: 0x3f8, size: 1, count: 3, value: 0x41 };
    assert_eq!(
        what("kvm_pio: pio_read at 0x3f8 size 1 count 3 val 0x41 (...)"),
        KernelWhat::In(several)
    );
    assert_eq!(
        what("kvm_mmio: mmio unsatisfied-read len 4 gpa 0xfec00010 val 0x0"),
        KernelWhat::ReadBegins
    );
    let read = MmioAccess { address: 0xff_ffee_0040, size: 8, value: 0xffff_ffff_ffff_ffff };
    assert_eq!(
        what("kvm_mmio: mmio read len 8 gpa 0xffffee0040 val 0xffffffffffffffff"),
        KernelWhat::Read(read)
    );
    for (text, address, data) in [
        ("dst 1 vec 34 (Fixed|physical|edge)", 0xfee0_1000, 0x22),
        ("dst ff vec 33 (LowPrio|logical|level|rh)", 0xfeef_f00c, 0x8121),
        ("dst 12345603 vec 2 (NMI|physical|edge)", 0x1234_5600_fee0_3000, 0x402),
    ] {
        let KernelWhat::Message(message) = what(&format!("kvm_msi_set_irq: {text}")) else {
            panic!()
        };
        assert_eq!(
            (message, message.to_string()),
            (DecodedMessage::of(address, data), text.to_owned())
        );
    }
    assert_eq!(
        what("kvm_apic_accept_irq: apicid 1 vec 33 (Fixed|edge)"),
        KernelWhat::Accepted { vector: 33 }
    );
    assert_eq!(
        what("kvm_apic_accept_irq: apicid 1 vec 33 (Fixed|edge) (coalesced)"),
        KernelWhat::Accepted { vector: 33 }
    );
    assert_eq!(
        what("kvm_set_irq: gsi 24 level 1 source 0"),
        KernelWhat::Gsi { gsi: 24, raised: true }
    );
    assert_eq!(
        what("kvm_set_irq: gsi 24 level 0 source 0"),
        KernelWhat::Gsi { gsi: 24, raised: false }
    );
    assert_eq!(what("kvm_entry: vcpu 0, rip 0xffffffff"), KernelWhat::Runs);
    for text in ["CPU:1 [LOST 1234 EVENTS]", "CPU:0 [12 EVENTS DROPPED]", "CPU:0 [EVENTS DROPPED]"]
    {
        assert_eq!(event(text).what, KernelWhat::Missing, "{text}");
    }
}

#[test]
fn other_text_is_foreign_and_a_known_event_in_it_is_told() {
    for (line, told) in [
        ("# tracer: nop", None),
        ("#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION", None),
        ("vcpu0-126 [000] ..... 3.2: kvm_page_fault: vcpu 0 rip 0x1", None),
        ("vcpu0-126 [000] ..... 3.285514: kvm_page_fault: vcpu 0 rip 0x1", None),
        ("kvm_mmio: mmio write len 4 gpa 0x1 val 0x1", Some("kvm_mmio")),
        ("2026-01-01 kvm:kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x1", Some("kvm_pio")),
    ] {
        assert_eq!(parse_kernel_line(line.as_bytes()), Ok(None), "{line}");
        use crate::trace::LogFormat as _;
        assert_eq!(KernelTrace::displaced(line.as_bytes()), told, "{line}");
    }
}

#[test]
fn a_line_that_does_not_parse_says_what_is_wrong() {
    for (text, reason) in [
        ("kvm_mmio: mmio", "kvm_mmio: read or write expected, got nothing"),
        ("kvm_mmio: mmio poke len 4 gpa 0x1 val 0x1", "read or write expected, got 'poke'"),
        ("kvm_mmio: mmio read len 9 gpa 0x1 val 0x1", "a size of 1 to 8"),
        ("kvm_mmio: mmio read len 4 gpa 1 val 0x1", "an address expected, got '1'"),
        (
            "kvm_mmio: mmio read len 4 gpa 0x1 val 0x1 more",
            "the end of the line expected, got 'more'",
        ),
        ("kvm_pio: pio_write at 0x10000 size 4 count 1 val 0x1", "a port"),
        (
            "kvm_pio: pio_write at 0xcf8 size 3 count 1 val 0x1",
            "a size of 1, 2 or 4 expected, got '3'",
        ),
        ("kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x100000000", "a value"),
        (
            "kvm_msi_set_irq: dst 0x1 vec 3 (Fixed|physical|edge)",
            "a destination expected, got '0x1'",
        ),
        (
            "kvm_msi_set_irq: dst 1 vec 256 (Fixed|physical|edge)",
            "an interrupt vector expected, got '256'",
        ),
        (
            "kvm_msi_set_irq: dst 1 vec 3 (Fixed|edge)",
            "(MODE|DESTINATION|TRIGGER) expected, got '(Fixed|edge)'",
        ),
        ("kvm_msi_set_irq: dst 1 vec 3 (Soft|physical|edge)", "(MODE|DESTINATION|TRIGGER)"),
        ("kvm_apic_accept_irq: apicid 1 vec x", "an interrupt vector expected, got 'x'"),
        ("kvm_set_irq: gsi 1 level high source 0", "a level expected, got 'high'"),
    ] {
        let line = format!("vcpu0-126 [000] ..... 3.285514: {text}");
        let error = parse_kernel_line(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let error = parse_kernel_line(b"vcpu0 [000] 3.285514: kvm_pio: x").unwrap_err().to_string();
    assert_eq!(error, "kvm_pio: TASK-PID [CPU] before the time expected, got 'vcpu0 [000]'");
    assert!(parse_kernel_line(b"a\xff").is_err());
}

#[test]
fn no_bytes_panic() {
    let seeds: [&[u8]; 4] = [
        b"vcpu0-126 [000] ..... 3.285514: kvm_mmio: mmio write len 4 gpa 0xe7f8800c val 0x1",
        b"CPU 0/KVM 126 [000] 3.285514: kvm:kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80001000 ",
        b"_disk0_q1-129 (12) [001] d..1. 5.4: kvm_msi_set_irq: dst 1 vec 34 (Fixed|physical|edge)",
        b"<...>-132 [000] d..1. 5.594856: kvm_set_irq: gsi 24 level 1 source 0",
    ];
    for_damaged(&seeds, |line| _ = parse_kernel_line(line));
}
