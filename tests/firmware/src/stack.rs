//! A stack of the engine's own, so that what it needs can be seen.

#![expect(unsafe_code, reason = "a stack")]

use core::arch::naked_asm;
use core::cell::UnsafeCell;

/// Bytes.
pub(crate) const SIZE: usize = 16 << 10;

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; SIZE]>);

// SAFETY: there is one processor, and no interrupt is ever on.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; SIZE]));

/// What no call has written to.
const CLEAN: u8 = 0xa5;

/// Fills the stack with [`CLEAN`].
pub(crate) fn clean() {
    // SAFETY: nobody runs on it.
    unsafe { STACK.0.get().write_bytes(CLEAN, 1) }
}

/// Returns the most bytes that were in use at once since [`clean`]; [`SIZE`] means that it may have been
/// too small.
pub(crate) fn most() -> usize {
    let start = STACK.0.get().cast::<u8>().cast_const();
    // SAFETY: inside the stack, on which nobody runs.
    let is_clean = |at: &usize| unsafe { start.wrapping_add(*at).read_volatile() } == CLEAN;
    SIZE - (0..SIZE).take_while(is_clean).count()
}

/// Runs `run` on the stack.
pub(crate) fn on<T, F: FnOnce() -> T>(run: F) -> T {
    let mut both: (Option<F>, Option<T>) = (Some(run), None);
    let end = STACK.0.get().cast::<u8>().wrapping_add(SIZE);
    // SAFETY: nothing runs on the stack: `run` does not come here. `both` is what `enter` takes.
    unsafe { switch(end, enter::<T, F>, (&raw mut both).cast()) }
    both.1.expect("it ran")
}

unsafe extern "sysv64" fn enter<T, F: FnOnce() -> T>(both: *mut ()) {
    // SAFETY: `on` passes its own `both`, and looks at it only afterwards.
    let (run, answer) = unsafe { &mut *both.cast::<(Option<F>, Option<T>)>() };
    *answer = run.take().map(|run| run());
}

/// Calls `run` with `argument` on the stack that ends at `end`.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(
    end: *mut u8,
    run: unsafe extern "sysv64" fn(*mut ()),
    argument: *mut (),
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret"
    )
}
