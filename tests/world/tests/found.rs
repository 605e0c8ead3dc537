//! Histories that the world found, and that broke a rule once.

use msix_world::{Behind, Call, Input, Input::*, Producers, Setup, play};

const ENABLE: Input = MsixControl { enable: true, mask: false };

fn passes(setup: Setup, history: &[Input]) {
    if let Err(found) = play(setup, None, history) {
        panic!("{found}");
    }
}

#[test]
fn h14_a_snapshot_has_the_event_of_a_vector_that_waits_for_its_route() {
    let setup = Setup { producers: Producers::Own, deferred: true, ..Setup::msix(2) };
    passes(setup, &[ENABLE, Mask(1, false), Produce(0), Mask(0, false), Save, NewProcess]);
}

#[test]
fn h14_a_snapshot_has_the_event_of_a_message_that_was_half_written_for_a_moment() {
    let setup = Setup { producers: Producers::Own, ..Setup::msi(1, true, true) };
    let enable = MsiControl { enable: true, log: 0 };
    let there_and_back = [MsiAddressByte(true), MsiAddressByte(false)];
    passes(setup, &[&[enable], &there_and_back[..], &[Produce(0), Save, NewProcess]].concat());
}

#[test]
fn h14_a_message_that_kvm_refused_is_sent_before_a_save() {
    let refused = [ENABLE, Event(0), Fail(Call::Signal), Mask(0, false)];
    passes(Setup::msix(1), &[&refused[..], &[Save, NewProcess]].concat());
}

#[test]
fn a13_a_reset_while_detached_drops_a_message_that_kvm_refused() {
    let refused = [ENABLE, Mask(0, false), Detach, Fail(Call::Signal), Event(0)];
    passes(Setup::msix(1), &[&refused[..], &[Reset, Attach, ReadPba]].concat());
}

#[test]
fn h14_a_snapshot_has_the_event_of_a_message_that_kvm_refused_while_detached() {
    let refused = [Mask(0, false), Event(0), Detach, Fail(Call::Signal), ENABLE];
    passes(Setup::msix(1), &[&refused[..], &[Save, NewProcess]].concat());
}

#[test]
fn k6_an_eventfd_that_a_message_gets_later_is_not_assigned_to_a_route_that_kvm_does_not_know() {
    // The first message is rewritten while it has no eventfd. The second vector's is folded to it.
    let setup = Setup { producers: Producers::Late, ..Setup::msi(2, true, true) };
    let enable = |log| MsiControl { enable: true, log };
    passes(setup, &[Produce(1), enable(1), MsiAddress(true), Connect(1), enable(0)]);
}

/// A function with MSI-X and a pin that userspace brings. What is restored with it may have the pin high.
const PIN: Setup = Setup { pin: true, behind: Behind::Device, ..Setup::msix(1) };

#[test]
fn a10_a_reset_before_the_resume_lowers_a_pin_that_was_restored_high() {
    passes(PIN, &[Save, NewProcess, Reset]);
}

#[test]
fn a_function_that_goes_before_the_resume_leaves_a_restored_pin_low() {
    passes(PIN, &[Save, NewProcess, NewProcess]);
}

#[test]
fn a15_a_message_of_msi_that_kvm_refused_is_of_its_vector_when_msix_was_entered_since() {
    // Found by fuzzing, in the judge: it went by the registers after the input.
    let both = Setup { msix: true, ..Setup::msi(2, true, true) };
    let setup = Setup { producers: Producers::Own, ..both };
    let enable = |log| MsiControl { enable: true, log };
    let masked = MsixControl { enable: true, mask: true };
    passes(setup, &[Detach, Fail(Call::Signal), enable(0), Produce(1), masked, enable(1)]);
}

#[test]
fn a15_a_message_of_msi_that_kvm_refused_is_not_an_event_that_waits_in_msix() {
    // Found by fuzzing, in the judge: vector 2 had another event, which waited.
    let both = Setup { msix: true, ..Setup::msi(4, true, true) };
    let setup = Setup { producers: Producers::Own, ..both };
    let enable = |log| MsiControl { enable: true, log };
    let waiting = [Produce(2), Detach, Produce(0), enable(0)];
    let refused = [Fail(Call::Signal), Event(2), enable(2), Attach];
    passes(setup, &[waiting, refused].concat());
}
