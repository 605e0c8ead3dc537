//! The recorded Linux guest as text for the guest's init: what it did to each of its devices, and what
//! each sent for it.

use msix_backends::Route;
use msix_core::Policy;
use msix_core::operation::Operation;
use msix_sim::RECORDING;
use msix_sim::replay::{Backend, DeliveryDifference, DeliveryOutcome, Peer, replay_on};
use msix_sim::report::BackendReport;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes down what it gets.
#[derive(Debug, Clone, Default)]
struct Writer(Arc<Mutex<String>>);

impl Writer {
    fn line(&self, line: std::fmt::Arguments<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{line}").expect("memory");
    }
}

impl Backend for Writer {
    fn add(&mut self, vectors: u16, _: Policy) -> io::Result<()> {
        self.line(format_args!("device {vectors}"));
        Ok(())
    }

    fn follow(
        &mut self,
        device: usize,
        inputs: &[Operation],
        sent: &[Route],
    ) -> io::Result<DeliveryOutcome> {
        for input in inputs {
            match *input {
                Operation::WriteConfig { offset, len, value } => {
                    self.line(format_args!("{device} config {offset} {len} {value}"));
                }
                Operation::WriteTable { offset, len, value } => {
                    self.line(format_args!("{device} table {offset} {len} {value}"));
                }
                Operation::SetBusMaster(on) => {
                    self.line(format_args!("{device} master {}", u8::from(on)));
                }
                Operation::Notify(vector) => {
                    self.line(format_args!("{device} raise {}", vector.index()));
                }
                Operation::Reset => self.line(format_args!("{device} reset")),
                Operation::Claim(_) => {} // all are, and stay so
                other => panic!("{other:?} is no input of a replay"),
            }
        }
        for Route { message, .. } in sent {
            self.line(format_args!("{device} sent {} {}", message.address, message.data));
        }
        Ok(DeliveryOutcome::default())
    }

    fn finish(&mut self) -> io::Result<(BackendReport, Vec<DeliveryDifference>)> {
        Ok((BackendReport::default(), Vec::new()))
    }
}

/// All of it.
pub(crate) fn text() -> String {
    let writer = Writer::default();
    let log = io::Cursor::new(RECORDING);
    let backend = Some(Box::new(writer.clone()) as Box<dyn Backend>);
    let replayed = replay_on(backend, log, Peer::Spec, false, |_| true);
    replayed.expect("the recording replays");
    let text = writer.0.lock().unwrap_or_else(PoisonError::into_inner);
    text.clone()
}
