//! The recorded guest on a real VM: what the engine sends must arrive in its local APICs.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::Route;
use msix_core::Policy;
use msix_core::operation::Operation;
use msix_sim::RECORDING;
use msix_sim::replay::{
    Backend, DeliveryDifference, DeliveryOutcome, Kvm, OpenError, Peer, replay_on,
};
use msix_sim::report::{BackendReport, ReplayReport};
use msix_tests::peers::skipped;
use std::io::{self, Cursor};

fn open_or_skip(test: &str) -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(OpenError::Unavailable(reason)) => {
            skipped(test, "/dev/kvm", &reason.to_string());
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

fn replayed(log: &[u8], peer: Peer, backend: impl Backend + 'static) -> ReplayReport {
    let backend: Box<dyn Backend> = Box::new(backend);
    let (report, _) = replay_on(Some(backend), Cursor::new(log), peer, false, |_| true).unwrap();
    report
}

fn delivered(report: &ReplayReport) -> &BackendReport {
    report.backend.as_ref().expect("there was a backend")
}

#[test]
fn every_message_of_the_recording_arrives_in_the_local_apic_it_is_for() {
    for peer in [Peer::Qemu, Peer::Spec] {
        let Some(kvm) = open_or_skip("the recording on KVM") else { return };
        let report = replayed(RECORDING, peer, kvm);
        assert_eq!(report.mismatches, 0, "{:?}", report.mismatch_list);
        let kvm = delivered(&report);
        let messages = kvm.messages;
        assert_eq!((messages.expected, messages.delivered, messages.mismatched), (531, 531, 0));
        assert_eq!((messages.not_compared, kvm.to_memory, kvm.raises), (0, 0, 531));
        assert_eq!(kvm.by_irqfd + kvm.by_signal, 531);
        assert_eq!((kvm.vcpus, kvm.ioctls.failed), (2, 0), "the guest's logical ids are 1 and 2");
        for device in &report.devices {
            let deliveries = device.deliveries.expect("each has some");
            assert_eq!(deliveries.delivered, device.messages.matched, "{}", device.name);
        }
    }
}

#[test]
fn an_event_of_a_masked_vector_arrives_when_it_is_unmasked_and_not_before() {
    let text = std::str::from_utf8(RECORDING).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    // nvme vector 0 moves to another CPU: masked on line 4082, unmasked on line 4088.
    let raise = "pci_nvme_irq_msix raising MSI-X IRQ vector 0";
    let next = lines.iter().skip(4088).position(|line| *line == raise).unwrap();
    let message = lines[4088 + next + 1];
    assert!(message.contains("'apic-msi'"), "{message}");
    lines.insert(4088, message);
    lines.insert(4082, raise);
    let log = lines.join("\n") + "\n";
    for peer in [Peer::Qemu, Peer::Spec] {
        let Some(kvm) = open_or_skip("a masked vector on KVM") else { return };
        let report = replayed(log.as_bytes(), peer, kvm);
        assert_eq!(report.mismatches, 0, "{:?}", report.mismatch_list);
        let kvm = delivered(&report);
        assert_eq!((kvm.messages.expected, kvm.messages.delivered), (532, 532));
        assert_eq!((kvm.raises, kvm.held), (532, 1));
    }
}

#[test]
fn what_is_raised_at_any_moment_arrives_as_the_engine_sends_it() {
    let text = std::str::from_utf8(RECORDING).unwrap();
    let mut log = String::new();
    for (number, line) in text.lines().enumerate() {
        log.push_str(line);
        log.push('\n');
        if number % 3 == 0 {
            let vector = number / 3 % 4;
            log.push_str(&format!("pci_nvme_irq_msix raising MSI-X IRQ vector {vector}\n"));
            log.push_str(&format!("e1000e_irq_msix_notify_vec MSI-X notify vector 0x{vector}\n"));
        }
    }
    for peer in [Peer::Qemu, Peer::Spec] {
        let Some(kvm) = open_or_skip("raises at any moment on KVM") else { return };
        // The log has no messages for these raises: it disagrees, the VM must not.
        let report = replayed(log.as_bytes(), peer, kvm);
        let kvm = delivered(&report);
        let found = report.mismatch_list.iter().filter(|m| m.got.contains("APIC"));
        let messages = kvm.messages;
        assert_eq!(messages.mismatched, 0, "{:?}", found.collect::<Vec<_>>());
        assert_eq!(messages.expected, messages.delivered);
        assert!(messages.expected > 1000 && kvm.held > 1000, "{kvm:?}");
    }
}

/// Gives the VM another message than the engine got.
#[derive(Debug)]
struct Altered {
    kvm: Kvm,
    done: bool,
}

impl Backend for Altered {
    fn add(&mut self, vectors: u16, policy: Policy) -> io::Result<()> {
        self.kvm.add(vectors, policy)
    }

    fn follow(
        &mut self,
        device: usize,
        inputs: &[Operation],
        sent: &[Route],
    ) -> io::Result<DeliveryOutcome> {
        let mut inputs = inputs.to_vec();
        for input in &mut inputs {
            // The data of vector 0 of the first device, nvme, on one of its CPUs: of 4 messages.
            if let Operation::WriteTable { offset: 0x8, value, .. } = input
                && device == 0
                && *value == 0x26
            {
                *value ^= 0x40;
                self.done = true;
            }
        }
        self.kvm.follow(device, &inputs, sent)
    }

    fn finish(&mut self) -> io::Result<(BackendReport, Vec<DeliveryDifference>)> {
        assert!(self.done, "the write to be altered is in the recording");
        self.kvm.finish()
    }
}

#[test]
fn a_vm_that_was_told_another_message_is_found_out() {
    let Some(kvm) = open_or_skip("another message on KVM") else { return };
    let report = replayed(RECORDING, Peer::Qemu, Altered { kvm, done: false });
    let found: Vec<_> = report.mismatch_list.iter().map(|m| (&*m.expected, &*m.got)).collect();
    let missing = ("interrupt 0x26 at APIC 1", "none");
    let instead = ("no more", "interrupt 0x66 at APIC 1");
    assert_eq!(found, [missing, instead].repeat(4));
    let messages = delivered(&report).messages;
    assert_eq!((messages.expected, messages.delivered, messages.mismatched), (531, 527, 8));
    assert!(report.verdict().starts_with("1 of 5 devices disagrees"), "{}", report.verdict());
}
