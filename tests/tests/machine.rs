//! The test machine itself, without an MSI-X engine: what other tests conclude from it is true.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use msix_tests::machine::{
    FREE_RAM, Guest, GuestAccess, MMIO, Machine, Program, Step, eventually, message, open_or_skip,
    open_split_or_skip,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const GSI: u32 = 40;
const NONE: [u8; 0] = [];

/// An eventfd that sends `data` to vCPU 0 of `machine`, which has no other route then.
fn irqfd(machine: &Machine, data: u32) -> EventFd {
    machine.route(GSI, data);
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    machine.vm().register_irqfd(&event, GSI).unwrap();
    event
}

fn delivers(machine: &Machine) {
    let event = irqfd(machine, 0x41);
    assert_eq!(machine.take_irr(0), NONE);
    event.write(1).unwrap();
    eventually("an interrupt by irqfd", || !machine.pending_irr(0).is_empty());
    assert_eq!(machine.take_irr(0), [0x41]);
    assert_eq!(machine.take_irr(0), NONE);

    for vector in [0xfe, 0x10, 0x80] {
        assert_eq!(machine.vm().signal_msi(message(0xfee0_1000, vector)).unwrap(), 1);
    }
    assert_eq!(machine.take_irr(0), NONE);
    assert_eq!(machine.pending_irr(1), [0x10, 0x80, 0xfe]);
    assert_eq!(machine.take_irr(1), [0x10, 0x80, 0xfe]);
    assert_eq!(machine.take_irr(1), NONE);

    // Logical destination 3, flat: both.
    machine.vm().signal_msi(message(0xfee0_3004, 0x55)).unwrap();
    assert_eq!([machine.take_irr(0), machine.take_irr(1)], [[0x55], [0x55]]);
}

#[test]
fn messages_reach_the_local_apic_they_name() {
    let test = "messages_reach_the_local_apic_they_name";
    let Some(machine) = open_or_skip(test, 2) else { return };
    delivers(&machine);
}

#[test]
fn a_split_irqchip_delivers_messages_too() {
    let Some(machine) = open_split_or_skip("a_split_irqchip_delivers_messages_too", 2) else {
        return;
    };
    delivers(&machine);
}

/// An access as the callback saw it.
#[derive(Debug, PartialEq)]
enum Seen {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Out(u16, u32),
}

/// A callback that notes each access, and answers every read with 0x1234_5678.
fn note() -> (impl FnMut(GuestAccess<'_>) + Send + 'static, mpsc::Receiver<Seen>) {
    let (seen, accesses) = mpsc::channel();
    let callback = move |access: GuestAccess<'_>| {
        let _ = seen.send(match access {
            GuestAccess::Read { address, data } => {
                data.copy_from_slice(&0x1234_5678_u32.to_le_bytes()[..data.len()]);
                Seen::Read(address, data.len())
            }
            GuestAccess::Write { address, data } => Seen::Write(address, data.to_vec()),
            GuestAccess::Out { port, value } => Seen::Out(port, value),
        });
    };
    (callback, accesses)
}

#[test]
fn accesses_arrive_in_order_and_every_interrupt_is_counted_once() {
    let test = "accesses_arrive_in_order_and_every_interrupt_is_counted_once";
    let Some(machine) = open_or_skip(test, 1) else { return };
    let [read, go] = [FREE_RAM, FREE_RAM + 4];
    let program = Program::new(&[
        Step::Write32(MMIO, 0xfee0_0000),
        Step::Write64(MMIO + 8, 0x0123_4567_89ab_cdef),
        Step::Write16(MMIO + 2, 0xbeef),
        Step::Write8(MMIO + 0x1_ffff, 0x5a),
        Step::Read32 { from: MMIO + 4, to: read },
        Step::Out(0xc04, 0x8000),
        Step::WaitWord(go, 7),
        Step::Repeat(2, vec![Step::Repeat(3, vec![Step::Write8(MMIO, 1)]), Step::Out(0xc08, 2)]),
        Step::HaltUntilCount(0x41, 500),
        Step::Write32(go, 8),
        Step::WaitCount(0x41, 1000),
        Step::Cli,
        Step::Stop,
    ]);
    let event = irqfd(&machine, 0x41);
    let (callback, accesses) = note();
    let mut guest = Guest::start(&machine, &program, callback);

    let expect = |what| {
        assert_eq!(accesses.recv_timeout(Duration::from_secs(10)), Ok(what));
    };
    let base = u64::from(MMIO);
    expect(Seen::Write(base, 0xfee0_0000_u32.to_le_bytes().to_vec()));
    expect(Seen::Write(base + 8, 0x0123_4567_89ab_cdef_u64.to_le_bytes().to_vec()));
    expect(Seen::Write(base + 2, vec![0xef, 0xbe]));
    expect(Seen::Write(base + 0x1_ffff, vec![0x5a]));
    expect(Seen::Read(base + 4, 4));
    expect(Seen::Out(0xc04, 0x8000));
    assert_eq!(machine.read_u32(read), 0x1234_5678);
    machine.write_u32(go, 7);
    for _ in 0..2 {
        (0..3).for_each(|_| expect(Seen::Write(base, vec![1])));
        expect(Seen::Out(0xc08, 2));
    }

    for k in 1..=1000 {
        if k == 501 {
            guest.wait_word(go, 8);
        }
        event.write(1).unwrap();
        guest.wait_count(0x41, k);
        assert_eq!(guest.count(0x41), k);
    }
    guest.finish();
    assert!(accesses.try_recv().is_err());
    assert_eq!(machine.read_u32(msix_tests::machine::counter(0x41)), 1000);
    assert_eq!(machine.take_irr(0), NONE);
}

#[test]
fn a_guest_stops_promptly_wherever_it_is() {
    let Some(machine) = open_or_skip("a_guest_stops_promptly_wherever_it_is", 1) else { return };
    let ready = FREE_RAM;
    let busy = Step::Repeat(u32::MAX, vec![Step::Write8(MMIO, 1)]);
    for last in [Step::Halt, Step::WaitWord(ready, 2), busy] {
        machine.write_u32(ready, 0);
        let program = Program::new(&[Step::Sti, Step::Write32(ready, 1), last]);
        let mut guest = Guest::start(&machine, &program, |_| {});
        guest.wait_word(ready, 1);
        let stopping = Instant::now();
        guest.stop();
        assert!(stopping.elapsed() < Duration::from_secs(1), "{:?}", stopping.elapsed());
        assert_eq!(machine.take_irr(0), NONE, "the vCPU is the machine's again");
    }
    // And the machine runs another guest, which takes an interrupt sent before it started.
    let event = irqfd(&machine, 0x42);
    event.write(1).unwrap();
    let mut guest = Guest::start(&machine, &Program::new(&[Step::Sti]), |_| {});
    guest.wait_count(0x42, 1);
    drop(guest);
}

#[test]
fn a_guest_that_fails_fails_the_test_that_waits_for_it() {
    let test = "a_guest_that_fails_fails_the_test_that_waits_for_it";
    let Some(machine) = open_or_skip(test, 1) else { return };
    let failure = |mut guest: Guest| {
        let wait = AssertUnwindSafe(|| guest.wait_count(0x41, 1));
        let panic = std::panic::catch_unwind(wait).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };

    let guest = Guest::start(&machine, &Program::new(&[]), |_| {});
    // An NMI: it has no handler that counts.
    machine.vm().signal_msi(message(0xfee0_0000, 0x400)).unwrap();
    assert_eq!(failure(guest), "the guest failed: it took exception [2]");

    let program = Program::new(&[Step::Write32(MMIO, 0)]);
    let guest = Guest::start(&machine, &program, |access| panic!("unexpected {access:?}"));
    assert!(failure(guest).starts_with("unexpected Write"));

    let guest = Guest::start(&machine, &Program::new(&[Step::Stop]), |_| {});
    assert!(failure(guest).starts_with("the guest ended before 1 interrupts 0x41"));
}
