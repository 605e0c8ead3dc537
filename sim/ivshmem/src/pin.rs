//! IntrMask and IntrStatus, and the INTx line of a device without MSI-X (E1, E2).

use super::platform::Board;
use msix_backends::eventfd::{Loop, Source};
use msix_core::Vector;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vmm_sys_util::eventfd::EventFd;

/// The two registers and the line. Events come from the loop's thread, accesses from a processor's.
#[derive(Debug)]
pub(super) struct Pin<B> {
    state: Mutex<State>,
    board: B,
    /// There is a line, and this reads the eventfds.
    events: Option<Arc<Loop>>,
    /// The number in the loop.
    id: usize,
}

#[derive(Debug, Default)]
struct State {
    registers: Registers,
    disabled: bool,
    /// As the board was told.
    asserted: bool,
    eventfds: Vec<EventFd>,
}

/// IntrMask and IntrStatus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) mask: u32,
    pub(super) status: u32,
}

impl<B: Board> Pin<B> {
    /// With a line, if there is a loop to hear of events.
    pub(super) fn new(board: B, events: Option<&Arc<Loop>>) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let source = Weak::clone(this) as Weak<dyn Source>;
            let id = events.map_or(0, |events| events.join(source));
            Self { state: Mutex::default(), board, events: events.cloned(), id }
        })
    }

    /// The next vector's eventfd: all of them raise the line.
    pub(super) fn connect(&self, eventfd: EventFd) -> io::Result<()> {
        let Some(events) = &self.events else { return Ok(()) };
        let mut state = self.lock();
        let vector = u16::try_from(state.eventfds.len()).map_err(io::Error::other)?;
        events.watch(self.id, Vector::new(vector), &eventfd)?;
        state.eventfds.push(eventfd);
        Ok(())
    }

    pub(super) fn registers(&self) -> Registers {
        self.lock().registers
    }

    /// Reads IntrStatus, which clears it.
    pub(super) fn take_status(&self) -> u32 {
        let mut state = self.lock();
        let status = std::mem::take(&mut state.registers.status);
        self.drive(&mut state);
        status
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Registers)) {
        let mut state = self.lock();
        change(&mut state.registers);
        self.drive(&mut state);
    }

    /// Command's INTx disable.
    pub(super) fn set_disabled(&self, disabled: bool) {
        let mut state = self.lock();
        state.disabled = disabled;
        self.drive(&mut state);
    }

    /// Everything as after power-on; what the eventfds hold is dropped (E8).
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.eventfds.iter().for_each(|eventfd| drop(eventfd.read()));
        state.registers = Registers::default();
        state.disabled = false;
        self.drive(&mut state);
    }

    /// Whether an interrupt is asked for, disabled or not.
    pub(super) fn is_requested(&self) -> bool {
        let Registers { mask, status } = self.lock().registers;
        self.events.is_some() && mask & status != 0
    }

    fn drive(&self, state: &mut State) {
        let Registers { mask, status } = state.registers;
        let level = self.events.is_some() && mask & status != 0 && !state.disabled;
        if state.asserted != level {
            state.asserted = level;
            self.board.set_intx(level);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only the board can panic in there, after everything else was done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Board> Source for Pin<B> {
    fn readable(&self, vector: Vector) {
        let mut state = self.lock();
        let eventfd = state.eventfds.get(usize::from(vector.index()));
        if eventfd.is_some_and(|eventfd| eventfd.read().is_ok()) {
            state.registers.status = 1;
            self.drive(&mut state);
        }
    }
}

impl<B> Drop for Pin<B> {
    fn drop(&mut self) {
        if let Some(events) = &self.events {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            for eventfd in &state.eventfds {
                // It was watched: this cannot fail.
                let _ = events.unwatch(eventfd);
            }
            events.leave(self.id);
        }
    }
}
