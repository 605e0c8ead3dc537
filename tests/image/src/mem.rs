//! What compiled code expects of its surroundings, as a firmware image provides it.

/// # Safety
/// As of C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let mut index = 0;
    while index < len {
        // SAFETY: the caller's promise. Volatile, so that this loop is not made a call of itself.
        unsafe { to.wrapping_add(index).write_volatile(from.wrapping_add(index).read()) };
        index = index.wrapping_add(1);
    }
    to
}

/// # Safety
/// As of C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    let [byte, ..] = value.to_le_bytes();
    let mut index = 0;
    while index < len {
        // SAFETY: as above.
        unsafe { to.wrapping_add(index).write_volatile(byte) };
        index = index.wrapping_add(1);
    }
    to
}

/// # Safety
/// As of C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    let mut index = 0;
    while index < len {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe {
            (one.wrapping_add(index).read_volatile(), other.wrapping_add(index).read_volatile())
        };
        if a != b {
            return i32::from(a).wrapping_sub(i32::from(b));
        }
        index = index.wrapping_add(1);
    }
    0
}
