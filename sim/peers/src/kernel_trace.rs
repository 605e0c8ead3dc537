//! The lines of a recording of Linux' own trace events of KVM, one at a time.
//!
//! The text is that of `/sys/kernel/tracing/trace` (or `trace_pipe`), of `trace-cmd report`, or of
//! `perf script`. A line is `TASK-PID [CPU] FLAGS TIME: EVENT: FIELDS`, and each of the three writes it a
//! little differently; all are understood. As with QEMU's logs ([`crate::trace`]), a line with one of the
//! events in [`KERNEL_EVENTS`] must parse, and any other line is foreign.

mod event;
mod line;

pub use event::{DecodedMessage, KernelEvent, KernelWhat, MmioAccess, PortAccess};
pub use line::{KERNEL_EVENTS, KernelTrace, parse_kernel_line};

#[cfg(test)]
mod tests;
