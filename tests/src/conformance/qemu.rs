//! A real QEMU as a subject: its ivshmem-doorbell device, driven through qtest.
//!
//! Every device is a QEMU of its own, stopped and on TCG. An event is a write to one of the eventfds
//! that the ivshmem server gave it. Messages are taken from QEMU's own trace log: a write to the
//! region `apic-msi` is one, with its address and data, in order. A machine that can be asked for
//! nothing but interrupts shows no message to an address that no device has, so where C12 sends one
//! (above 4 GiB) a device that does nothing lies there and its log is read the same way.
//!
//! What this cannot show is said by [`UNSEEN`], what deviates by [`DEVIATIONS`]; `QEMU.md` beside
//! this crate's manifest is the column they were taken from.

mod device;
mod known;
mod saved;
pub(super) mod traced;

pub use known::{DEVIATIONS, UNSEEN, exceptions};

use device::QemuDevice;
use msix_conformance::{Choices, Device, Layouts, NoDevice, Subject};
use msix_core::Policy;
use msix_core::policy::WhileDisabled;
use msix_peers::{Extras, Player, Qemu, QemuError, Setup};
#[cfg(feature = "kvm")]
use msix_sim::replay::Peer;

/// The ivshmem-doorbell device of an installed QEMU.
#[derive(Debug, Clone)]
pub struct QemuSubject {
    program: Player,
    version: String,
    choices: Choices,
    most: u32,
}

impl QemuSubject {
    /// Of the QEMU that `program` is, found as a shell finds it, or of one that agrees with it.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be started or talked to.
    pub fn find(program: impl Into<Player>) -> Result<Self, QemuError> {
        let program = program.into();
        let setup = Setup { player: program.clone(), vectors: vec![1], incoming: None };
        let version = Qemu::start(&setup)?.version().to_owned();
        let choices = Choices {
            // H3: the ivshmem device itself drops an event while MSI-X is disabled.
            while_disabled: Some(WhileDisabled::Drop),
            // The interrupt controller, which is where messages are seen, takes no misaligned one.
            message_address: None,
            ..Choices::of(&Policy::QEMU)
        };
        Ok(Self { program, version, choices, most: MOST })
    }

    /// Of the qtest front of this project, which agrees with `policy`.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be started or talked to.
    #[cfg(feature = "kvm")]
    pub fn front(policy: Peer) -> Result<Self, QemuError> {
        let subject = Self::find(msix_sim::qtest::player(policy))?;
        Ok(match policy {
            Peer::Qemu => subject,
            Peer::Spec => Self { choices: Choices::of(&Policy::SPEC), ..subject },
        })
    }

    /// The same, which offers no device with more than `most` vectors, unless there can be none
    /// such: large ones take their time.
    #[must_use]
    pub fn up_to(self, most: u32) -> Self {
        Self { most, ..self }
    }
}

impl Subject for QemuSubject {
    fn name(&self) -> String {
        match &self.program {
            Player::Qemu(_) => format!("QEMU {}, ivshmem-doorbell", self.version),
            Player::StandIn(program) => program.name(),
        }
    }

    fn choices(&self) -> Choices {
        self.choices
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        if (self.most + 1..=MOST).contains(&vectors) {
            let most = self.most;
            return Err(NoDevice::NotOffered(format!("at most {most} vectors are looked at")));
        }
        if !(1..=MOST).contains(&vectors) {
            return Err(self.refusal(vectors));
        }
        let vectors = u16::try_from(vectors).map_err(|why| NoDevice::Refused(why.to_string()))?;
        Ok(Box::new(QemuDevice::start(&self.program, vectors)))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None // QEMU's function that lays a BAR out cannot be asked alone
    }
}

impl QemuSubject {
    /// What QEMU says to a count that no function can have.
    fn refusal(&self, vectors: u32) -> NoDevice {
        let setup = Setup { player: self.program.clone(), vectors: vec![0], incoming: None };
        let extras = Extras { told_vectors: Some(vectors), ..Extras::default() };
        match Qemu::start_with(&setup, &extras) {
            Err(QemuError::Ended { status, stderr }) if refuses(&status) => {
                NoDevice::Refused(stderr)
            }
            Err(error) => panic!("{vectors} vectors: {error}"),
            Ok(mut qemu) => match qemu.qtest().command("inl 0xcf8") {
                Ok(_) => panic!("{vectors} vectors: QEMU began"),
                Err(error) => match qemu.explain(error) {
                    QemuError::Ended { status, stderr } if refuses(&status) => {
                        NoDevice::Refused(stderr)
                    }
                    error => panic!("{vectors} vectors: {error}"),
                },
            },
        }
    }
}

/// Whether QEMU ended by itself, not by an abort.
fn refuses(status: &str) -> bool {
    status.starts_with("exit status")
}

/// Most vectors a function can have (A1).
const MOST: u32 = 2048;
