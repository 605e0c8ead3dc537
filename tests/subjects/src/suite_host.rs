//! What the suite asks of a host under the engine, beside what the engine asks of it.

use msix_backends::Host;
use msix_conformance::{BackendLog, HostCall, IntxCall, Message};

/// A host that remembers its calls, fails on demand, and whose eventfds can be written. No
/// method has a default, as in [`Host`].
pub trait SuiteHost: Host {
    /// Takes its calls since the last call of this, in order.
    fn calls(&mut self) -> Vec<HostCall>;
    /// Takes the calls to the INTx line since the last call of this, in order.
    fn intx(&mut self) -> Vec<IntxCall>;
    /// The messages sent since the last call, in order.
    fn messages(&mut self) -> Vec<Message>;
    /// From now on every Arm of `vector` fails, or works again.
    fn fail_arm(&mut self, vector: u16, fail: bool);
    /// The eventfd of `vector` is written.
    fn signal(&mut self, vector: u16);
    /// Takes the events that userspace reads from eventfds by itself: those of vectors that the
    /// host was asked to arm and could not (`wanted`).
    fn take_held(&mut self, wanted: &dyn Fn(u16) -> bool) -> Vec<u16>;
    /// What the kernel was asked for, if there is one.
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog>;
    /// The engine goes: everything is released, and can be given back.
    fn detached(&mut self);
}
