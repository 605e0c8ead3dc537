//! IntrMask and IntrStatus, and how they drive the pin of a device without MSI-X (E1, E2).

use super::Board;
use super::platform::BoardPlatform;
use msix_backends::eventfd::{EventSource, Loop, take};
use msix_backends::kvm::Function;
use msix_core::Vector;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vmm_sys_util::eventfd::EventFd;

/// The two registers. Events come from the loop's thread, accesses from a processor's. The pin's level
/// is that Mask and Status have a bit in common; whether it reaches the guest is the function's to
/// decide.
#[derive(Debug)]
pub(super) struct InterruptRegisters<B: Board> {
    state: Mutex<RegistersState>,
    pin: Option<DrivenPin<B>>,
}

/// The function with the pin, and the loop that reads the eventfds.
#[derive(Debug)]
struct DrivenPin<B: Board> {
    function: Function<BoardPlatform<B>>,
    events: Arc<Loop>,
    /// The number in the loop.
    id: usize,
}

#[derive(Debug, Default)]
struct RegistersState {
    registers: Registers,
    eventfds: Vec<EventFd>,
}

/// IntrMask and IntrStatus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) mask: u32,
    pub(super) status: u32,
}

impl<B: Board> InterruptRegisters<B> {
    /// Makes registers that drive nothing.
    pub(super) fn without_pin() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), pin: None })
    }

    /// Makes registers that drive the pin of `function`. `events` reads the eventfds.
    pub(super) fn driving(function: Function<BoardPlatform<B>>, events: &Arc<Loop>) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let id = events.join(Weak::clone(this) as Weak<dyn EventSource>);
            let pin = DrivenPin { function, events: Arc::clone(events), id };
            Self { state: Mutex::default(), pin: Some(pin) }
        })
    }

    /// Takes the next vector's eventfd: all of them raise the pin.
    pub(super) fn connect(&self, eventfd: EventFd) -> io::Result<()> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let mut state = self.lock();
        let vector = u16::try_from(state.eventfds.len()).map_err(io::Error::other)?;
        pin.events.watch(pin.id, Vector::new(vector), &eventfd)?;
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
        self.drive(&state);
        status
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Registers)) {
        let mut state = self.lock();
        change(&mut state.registers);
        self.drive(&state);
    }

    /// Sets everything as after power-on; what the eventfds hold is dropped (E8).
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        for eventfd in &state.eventfds {
            take(eventfd);
        }
        state.registers = Registers::default();
        self.drive(&state);
    }

    fn drive(&self, state: &RegistersState) {
        if let Some(pin) = &self.pin {
            let Registers { mask, status } = state.registers;
            pin.function.set_level(mask & status != 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, RegistersState> {
        // Only the board can panic in there, after everything else was done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Board> EventSource for InterruptRegisters<B> {
    fn readable(&self, vector: Vector) {
        let mut state = self.lock();
        let eventfd = state.eventfds.get(usize::from(vector.index()));
        if eventfd.is_some_and(take) {
            state.registers.status = 1;
            self.drive(&state);
        }
    }
}

impl<B: Board> Drop for InterruptRegisters<B> {
    fn drop(&mut self) {
        if let Some(pin) = &self.pin {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            for eventfd in &state.eventfds {
                // It was watched: this cannot fail.
                let _ = pin.events.unwatch(eventfd);
            }
            pin.events.leave(pin.id);
        }
    }
}
