//! Replays a log of QEMU, or a recording of the kernel's events ([`Machine`]), in two passes. The first finds the functions with an MSI-X table. In the second every
//! access and event of the log goes through the engine, and what the device did is compared with what
//! the engine would have done.
//!
//! What is compared, and what is only counted as undecided:
//!
//! - A *read* of a dword that the log has written, or that is in its reset state, is compared.
//!   Reset is known when a BAR comes back from sizing with address 0, or by a function level
//!   reset. Any other dword is undecided until it is written.
//! - A *named raise* goes into the engine. A message that the engine then sends, at once or when
//!   the vector is unmasked, must appear in the log within [`WINDOW`] lines, or it is lost.
//! - A *message* that is not due and equals exactly one live entry is a raise the log did not
//!   name, unless the device names all its raises: then it is unexpected. One that equals only
//!   masked entries is unexpected if a raise of one of them was latched, otherwise undecided
//!   (another device may own it). One that equals no entry is not ours.
//!
//! With a [`Backend`] every input of an engine is also given to a function that really delivers, and
//! what the engine sent must arrive there: the messages that are compared with the log.

mod backend;
mod bench;
mod device;
mod displaced;
mod entries;
mod first_pass;
mod followed;
mod functions;
mod kernel;
mod kind;
mod knowledge;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod kvm;
mod ledger;
mod messages;
mod placed_bars;
mod queues;
mod recorder;
mod second_pass;
mod unusable;

use crate::report::{BackendReport, ReplayReport};
use crate::timeline::Timeline;
pub use backend::{Backend, DeliveryDifference, DeliveryOutcome};
use first_pass::FirstPass;
use kernel::{KernelFirstPass, KernelReplay};
pub use kernel::{Machine, MachineError, MachineFunction, TableAt};
use kind::Kind;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub use kvm::{Kvm, OpenError};
pub use msix_explorer::Peer;
use msix_peers::trace::{LogEnd, LogError, walk};
use second_pass::Replay;
pub use second_pass::WINDOW;
use std::io::{self, BufRead, Cursor, Seek};
pub use unusable::Unusable;

/// Replays a log. It is read twice, in bounded memory; `go_on` is called now and then with the number of
/// bytes read since the last call, and says whether to go on. With `watch`, a [`Timeline`] is recorded.
///
/// When it is not to go on, the report is of the lines that were compared until then.
///
/// # Errors
/// [`Unusable`] when it cannot be replayed.
pub fn replay(
    log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    go_on: impl FnMut(u64) -> bool,
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    replay_on(None, log, peer, watch, go_on)
}

/// [`replay`], and a backend that delivers too: what arrives there is compared with what the engine
/// sent.
///
/// # Errors
/// As [`replay`]; [`Unusable::Backend`] when the system fails the backend.
pub fn replay_on(
    backend: Option<Box<dyn Backend>>,
    log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    go_on: impl FnMut(u64) -> bool,
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    replay_of(&Machine::default(), backend, log, peer, watch, go_on)
}

/// [`replay_on`], of a guest that more is known of than the log tells. It is used for recordings of
/// the kernel's events only.
///
/// # Errors
/// As [`replay_on`].
pub fn replay_of(
    machine: &Machine,
    backend: Option<Box<dyn Backend>>,
    mut log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    let start = |source| Unusable::Log(LogError::Read { line: 1, source });
    log.rewind().map_err(start)?;
    let kind = Kind::of(&mut log).map_err(start)?;
    log.rewind().map_err(start)?;
    match kind {
        Kind::Qemu => {}
        Kind::Kernel => return replay_kernel(machine, backend, log, peer, watch, go_on),
        Kind::NotText(reason) => return Err(Unusable::NotText { reason }),
    }
    let mut first = FirstPass::new(&mut go_on);
    let end = walk(&mut log, &mut first)?;
    let contents = first.finish(end)?;
    log.rewind().map_err(start)?;
    let mut replay = Replay::new(&contents, peer, watch, backend, go_on);
    let end = ended(walk(&mut log, &mut replay))?;
    let delivered = replay.bench.finish_backend();
    concluded(end, delivered, |last| replay.finish(last))
}

/// A recording of the kernel's events.
fn replay_kernel(
    machine: &Machine,
    backend: Option<Box<dyn Backend>>,
    mut log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    let mut first = KernelFirstPass::new(machine, &mut go_on);
    let end = walk(&mut log, &mut first)?;
    let contents = first.finish(end)?;
    let again = |source| Unusable::Log(LogError::Read { line: 1, source });
    log.rewind().map_err(again)?;
    let mut replay = KernelReplay::new(&contents, peer, watch, backend, go_on);
    let end = ended(walk(&mut log, &mut replay))?;
    let delivered = replay.bench.finish_backend();
    concluded(end, delivered, |last| replay.finish(last))
}

/// What `finish` reports, with what the backend delivered.
fn concluded(
    (last, interrupted): (u64, bool),
    delivered: io::Result<Option<BackendReport>>,
    finish: impl FnOnce(u64) -> (ReplayReport, Option<Timeline>),
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    let backend = delivered.map_err(|source| Unusable::Backend { line: last, source })?;
    let (report, timeline) = finish(last);
    Ok((ReplayReport { backend, interrupted, ..report }, timeline))
}

/// The last line that was replayed, and whether more followed.
fn ended(walked: Result<LogEnd, Unusable>) -> Result<(u64, bool), Unusable> {
    match walked {
        Ok(end) => Ok((end.lines, false)),
        Err(Unusable::Interrupted { line }) => Ok((line, true)),
        Err(error) => Err(error),
    }
}

/// Replays a log that is in memory.
///
/// # Errors
/// As [`replay`].
pub fn replay_bytes(log: &[u8], peer: Peer) -> Result<ReplayReport, Unusable> {
    replay(Cursor::new(log), peer, false, |_| true).map(|(report, _)| report)
}
