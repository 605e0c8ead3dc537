//! Interrupts through KVM, or a hypervisor that has the like: a route table, irqfds, and KVM_SIGNAL_MSI
//! for what has neither. Feature `irqfd` is all of it but the system calls; `kvm` adds [`Vm`] for the
//! `VmFd` of kvm-ioctls, and `probe`.
//!
//! [`Routes`] owns a VM's route table (K1): it is made once for a VM and shared by all devices.
//! [`Function`] is one PCI function on it, with MSI-X, MSI and a pin, or some of them, emulated or
//! passed through: the engine and its backend behind a lock, with a way past the lock for events
//! that KVM delivers. [`KvmHost`] is the backend alone, for a VMM with its own locks. [`Vm`] stands
//! for the system calls. [`Doorbell`] is the other direction: guest writes that reach an eventfd.
//!
//! A vector that the guest unmasks goes through three stages, and each event is delivered once in
//! each of them: at first through KVM_SIGNAL_MSI; when enough has changed, or a deadline passes,
//! its route is committed; then its eventfd becomes an irqfd, and userspace is not involved. See
//! [`Deferral`].
//!
#![cfg_attr(feature = "kvm", doc = "```no_run")]
#![cfg_attr(not(feature = "kvm"), doc = "```ignore")]
//! use msix_backends::Route;
//! use msix_backends::eventfd::Loop;
//! use msix_backends::kvm::{
//!     Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes, Runner,
//! };
//! use msix_core::{BarIndex, Layout, Vector};
//!
//! struct Vmm; // what the function needs of the VMM around it
//!
//! impl Platform for Vmm {
//!     fn write_memory(&mut self, address: u64, data: u32) {
//!         println!("the device writes {data:#x} to {address:#x}");
//!     }
//!     fn snoop(&mut self, _: Route) {} // only Xen wants to
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vm = msix_backends::kvm_ioctls::Kvm::new()?.create_vm()?;
//! vm.create_irq_chip()?;
//! // Once for a VM:
//! let routes = Routes::new(Box::new(vm), RouteOptions::new(Irqchip::Full), Loop::new()?);
//! let _runner = Runner::start(&routes, "msix", || Ok(()))?;
//! // Once for a device:
//! let layout = Layout::exclusive_bar(4, BarIndex::new(1)?)?;
//! let function = Function::new(&routes, FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) })?;
//! function.claim(Vector::new(0))?;
//! // From a processor's thread, at a trapped access:
//! function.write_command(0, &[0x06, 0x00]);
//! function.write_msix(2, &[0x00, 0x80]);
//! function.write_table(0x0c, &0_u32.to_le_bytes());
//! // From the device's thread, which must not own the function:
//! let notifier = function.notifier()?;
//! std::thread::spawn(move || notifier.notify(Vector::new(0)));
//! // Or from a vhost worker, which gets the eventfd:
//! let eventfd = function.eventfd(Vector::new(0))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Arm
//! On arm64 a VMM says what its interrupt controller is, where the doorbell of messages is, and by which id
//! the ITS knows a device. All else is as above. The in-kernel controller, with its ITS, is made before the
//! functions: they are refused without a device id if the VM needs one ([`FunctionError`]).
//!
#![cfg_attr(feature = "kvm", doc = "```no_run")]
#![cfg_attr(not(feature = "kvm"), doc = "```ignore")]
//! # use msix_backends::{Route, eventfd::Loop, kvm_ioctls};
//! # use msix_backends::kvm::{Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes};
//! # use msix_core::{BarIndex, Layout};
//! # struct Vmm;
//! # impl Platform for Vmm {
//! #     fn write_memory(&mut self, _: u64, _: u32) {}
//! #     fn snoop(&mut self, _: Route) {}
//! # }
//! # fn on_arm(vm: kvm_ioctls::VmFd) -> Result<(), Box<dyn std::error::Error>> {
//! use msix_backends::kvm::Format;
//!
//! const ITS: u64 = 0x0808_0000; // KVM_VGIC_ITS_ADDR_TYPE
//! const INTERRUPTS: u32 = 256; // KVM_DEV_ARM_VGIC_GRP_NR_IRQS
//! // Once for a VM. GSI n stays SPI n, for the irqfds of pins; vectors get the GSIs behind.
//! let irqchip = Irqchip::Gic { spis: INTERRUPTS - 32 };
//! let routes = Routes::new(Box::new(vm), RouteOptions::new(irqchip), Loop::new()?);
//! // Once for a device: 00:05.0 has the id 0x28, if the guest's tables map ids as they are.
//! let format = Format::its(ITS + 0x1_0040, 0x28);
//! let layout = Layout::exclusive_bar(4, BarIndex::new(1)?)?;
//! let setup = FunctionSetup { msix: Some(layout), format, ..FunctionSetup::new(Vmm) };
//! let function = Function::new(&routes, setup)?;
//! # Ok(())
//! # }
//! ```
//!
//! Without an ITS, messages go to a GICv2m frame that the VMM emulates, and are SPIs. Then only the format
//! differs; the guest makes the frame's SPIs edges, and a message to anything else is the VMM's:
//!
//! ```
//! use msix_backends::kvm::{Format, Gicv2mFrame};
//!
//! // What the VMM answers in MSI_TYPER: interrupts 96 to 159, which are SPIs 64 to 127.
//! let format = Format::gicv2m(Gicv2mFrame { address: 0x0802_0000, first: 96, count: 64 });
//! ```
//!
//! [`system_calls`] says what each call asks of the kernel and in which thread, for sandboxes, and what may
//! be called from where.
//!
//! A [`Runner`] owns the thread of the userspace path. A VMM with a loop of its own watches that of the
//! routes there instead: see [`Routes::run`].

mod assigned_line;
mod call_counts;
mod commit_hold;
mod deferral;
mod doorbell;
mod event_queue;
mod eventfd_gate;
#[cfg(any(test, feature = "testing"))]
mod fake_vm;
mod function;
mod gsis;
mod host;
mod kvm_host;
mod message;
mod message_group;
mod physical;
mod platform;
#[cfg(feature = "kvm")]
mod probe;
mod route_options;
mod route_table;
mod routes;
mod runner;
mod setup;
pub mod system_calls {
    #![doc = include_str!("system_calls.md")]
}
#[cfg(test)]
pub(crate) mod tests;
mod vector_counters;
mod vector_set;
mod vm;
#[cfg(feature = "kvm")]
mod vm_fd;
mod waiters;

pub use assigned_line::{AssignedLine, Resampling};
pub use call_counts::RouteStats;
pub use commit_hold::CommitHold;
pub use deferral::Deferral;
pub use doorbell::{Doorbell, Ioeventfds};
#[cfg(any(test, feature = "testing"))]
pub use fake_vm::{FakeVm, VmCall};
pub use function::{Function, HandedOver, Notified, Notifier, NotifyError};
pub use gsis::{GsiAllocator, GsiRange, GsiTaken};
pub use kvm_host::KvmHost;
pub use message::{Format, Gicv2mFrame, InterruptAddresses, KvmMessage};
pub use message_group::{MessageGroup, MessageGroupError, MessageGroupSetup};
pub use physical::{IndexState, PhysicalIntx, PhysicalMsi, PhysicalMsix};
pub use platform::{DeviceControl, GuestPin, IntxPlatform, Platform};
#[cfg(feature = "kvm")]
pub use probe::{KvmFacts, probe};
pub use route_options::RouteOptions;
pub use route_table::{Irqchip, KeepError, OutOfRoutes, RouteEntry};
pub use routes::{Routes, RoutesError};
pub use runner::Runner;
pub use setup::{EventfdOrigin, FunctionError, FunctionSetup, PassedThrough, SendingThread};
pub use vector_counters::VectorCounters;
pub use vm::Vm;
