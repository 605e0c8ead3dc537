//! The VMM's parts of a function, and the calls to them, which are made when no lock is held.
//!
//! One thread makes a function's calls at a time: the one that queued them, or another that is making
//! calls of this function already. So they keep their order. Nobody waits long for that thread, because it
//! may be in a part of the VMM that waits for the one who would.
//!
//! A call may use any function: dispatch a message to memory on the VMM's bus, to the table of the
//! function itself or of another. What is queued by that is left to the outermost call of the thread,
//! so that the stack does not grow. And it is bounded: a thread makes as many calls as were queued when
//! it began, and [`MORE_CALLS`]; the loop of the [`Routes`](crate::kvm::Routes) goes on with the others.

use super::SharedFunction;
use crate::kvm::deferral::Wait;
use crate::kvm::host::Call;
use crate::kvm::platform::{DeviceControl, GuestPin, Platform};
use crate::panics::Panics;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The VMM's parts.
pub(super) struct Outside<P> {
    pub(super) platform: P,
    pub(super) pin: Option<Box<dyn GuestPin>>,
    pub(super) control: Option<Box<dyn DeviceControl>>,
}

impl<P: Platform> Outside<P> {
    fn make(&mut self, call: Call) {
        match call {
            Call::WriteMemory(_, _, message) => {
                self.platform.write_memory(message.address, message.data);
            }
            Call::Snoop(route) => self.platform.snoop(route),
            Call::SetLevel(high) => {
                if let Some(pin) = &mut self.pin {
                    pin.set_level(high);
                }
            }
            Call::SetMappings(mapped) => {
                if let Some(control) = &mut self.control {
                    control.set_mappings(mapped);
                }
            }
            Call::ResetDevice => {
                if let Some(control) = &mut self.control {
                    control.reset_device();
                }
            }
        }
    }
}

impl<P> Drop for Outside<P> {
    fn drop(&mut self) {
        // Others may share the line, and a restored interrupt controller may have it high.
        if let Some(pin) = &mut self.pin {
            pin.set_level(false);
        }
    }
}

/// A function with calls to make.
pub(super) trait CallsOut: Send + Sync {
    /// Makes the calls that are queued, no more than `left`, unless another thread does.
    fn make_calls(&self, left: &mut usize, panics: &mut Panics);
}

/// How many calls a thread makes besides those that were queued when it began.
pub(super) const MORE_CALLS: usize = 64;

/// How long a thread that set a level lets others run, so that the one that makes the calls sets it. Not
/// for ever: that one may be in a part of the VMM that waits for this thread.
const PATIENCE: Duration = Duration::from_millis(20);

thread_local! {
    /// While this thread makes calls: the functions with calls that were queued by them.
    static NEXT: RefCell<Option<VecDeque<Arc<dyn CallsOut>>>> = const { RefCell::new(None) };
}

/// Makes the calls of `function`, of which there are `queued`, and those that they cause; or leaves
/// them to the calls that this thread is making.
pub(super) fn call_out(function: Arc<dyn CallsOut>, queued: usize, panics: &mut Panics) {
    let Some(function) = begin(function) else { return };
    let mut left = queued + MORE_CALLS;
    let mut next = Some(function);
    while let Some(function) = next {
        function.make_calls(&mut left, panics);
        // Outside the borrow: it may be the last handle of the function.
        panics.catch(|| drop(function));
        next = NEXT.with_borrow_mut(|next| {
            let function = next.as_mut().and_then(VecDeque::pop_front);
            if function.is_none() {
                *next = None;
            }
            function
        });
    }
}

/// Returns whether this thread is making calls.
pub(super) fn is_calling_out() -> bool {
    NEXT.with_borrow(Option::is_some)
}

/// Begins to make calls. If this thread does already, leaves the function to that.
fn begin(function: Arc<dyn CallsOut>) -> Option<Arc<dyn CallsOut>> {
    NEXT.with_borrow_mut(|next| match next {
        None => {
            *next = Some(VecDeque::new());
            Some(function)
        }
        Some(next) => {
            if !next.iter().any(|other| Arc::ptr_eq(other, &function)) {
                next.push_back(function);
            }
            None
        }
    })
}

impl<P: Platform> CallsOut for SharedFunction<P> {
    fn make_calls(&self, left: &mut usize, panics: &mut Panics) {
        // An EOI that returns before the pin is low has the guest interrupted again.
        let mut until = None;
        let is_awaited = self.lock().host.calls.has_level();
        loop {
            let mut outside = match self.outside.try_lock() {
                Some(outside) => outside,
                None if is_awaited
                    && Instant::now() < *until.get_or_insert_with(|| Instant::now() + PATIENCE) =>
                {
                    std::thread::yield_now();
                    continue;
                }
                // Whoever has it looks at the queue again once it has let go.
                None => return,
            };
            while *left > 0
                && let Some(outside) = &mut *outside
                && let Some(call) = { self.lock().host.calls.pop() }
            {
                *left -= 1;
                panics.catch(|| outside.make(call));
                if call == Call::ResetDevice {
                    let mut locked = self.lock();
                    panics.catch(|| locked.device_was_reset());
                    panics.add(locked.take_panics());
                }
            }
            drop(outside);
            let locked = self.lock();
            let (closed, queued) = (locked.closed, locked.host.calls.len());
            drop(locked);
            if closed {
                return self.drop_outside(panics);
            }
            if queued == 0 {
                return;
            }
            if *left == 0 {
                self.routes.waits(self.waiter, Wait::Retry);
                return;
            }
        }
    }
}
