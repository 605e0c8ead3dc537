//! Backends and kernels that do something wrong, which must show.

use msix_backends::kvm::{KvmMessage, RouteEntry, Vm};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

/// What a backend or a kernel does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An irqfd is not assigned, and said to be.
    NeverAssigns,
    /// It is never deassigned, and said to be.
    NeverDeassigns,
    /// Routes are committed at the next deassign or message, when an irqfd is assigned (K6).
    CommitsLate,
    /// Each commit is done twice.
    CommitsTwice,
    /// The message goes to another processor.
    Misroutes,
    /// A message of KVM_SIGNAL_MSI is not sent.
    Swallows,
}

/// The VM, with a fault before it if there is one.
pub(super) fn between(fault: Option<Fault>, inner: Box<dyn Vm>) -> Box<dyn Vm> {
    match fault {
        Some(fault) => Box::new(Faulty { fault, inner, late: Mutex::default() }),
        None => inner,
    }
}

/// A kernel or a backend with a fault.
struct Faulty {
    fault: Fault,
    inner: Box<dyn Vm>,
    late: Mutex<Option<Vec<RouteEntry>>>,
}

impl Faulty {
    fn catch_up(&self) -> io::Result<()> {
        let late = self.late.lock().expect("nothing panics with it").take();
        late.map_or(Ok(()), |routes| self.inner.set_routes(&routes))
    }
}

impl Vm for Faulty {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let elsewhere = |entry: &RouteEntry| match *entry {
            RouteEntry::Msi { gsi, msi } => RouteEntry::Msi {
                gsi,
                msi: KvmMessage { address_lo: msi.address_lo ^ 0x1000, ..msi },
            },
            pin => pin,
        };
        match self.fault {
            Fault::CommitsLate => {
                *self.late.lock().expect("nothing panics with it") = Some(routes.to_vec());
                Ok(())
            }
            Fault::CommitsTwice => {
                self.inner.set_routes(routes)?;
                self.inner.set_routes(routes)
            }
            Fault::Misroutes => {
                self.inner.set_routes(&routes.iter().map(elsewhere).collect::<Vec<_>>())
            }
            _ => self.inner.set_routes(routes),
        }
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        match self.fault {
            Fault::NeverAssigns => Ok(()),
            _ => self.inner.assign(eventfd, gsi),
        }
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.catch_up()?;
        match self.fault {
            Fault::NeverAssigns | Fault::NeverDeassigns => Ok(()),
            _ => self.inner.deassign(eventfd, gsi),
        }
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        self.catch_up()?;
        match self.fault {
            Fault::Swallows => Ok(true),
            _ => self.inner.signal(msi),
        }
    }

    fn needs_device_ids(&self) -> bool {
        self.inner.needs_device_ids()
    }
}
