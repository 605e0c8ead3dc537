//! The harnesses, by the side that an input comes from.

mod check;
mod device;
mod guest;
mod host;
mod snapshot;
mod start;

use crate::engine::{BYTES, N, WORDS};
use msix_core::{Entry, Word};

/// A harness: it takes the memory of an engine, and that of a snapshot.
pub type Harness =
    extern "C" fn(&mut [Entry; N], &mut [u16; N], &mut [Word; WORDS], &mut [u8; BYTES]);

macro_rules! harnesses {
    ($($module:ident::$name:ident),* $(,)?) => {
        /// All harnesses by name.
        pub const HARNESSES: &[(&str, Harness)] = &[$((stringify!($name), $module::$name)),*];
    };
}

harnesses! {
    check::prove_check,
    device::prove_notify, device::prove_withdraw, device::prove_claim, device::prove_unclaim,
    device::prove_unclaim_all, device::prove_set_mask, device::prove_set_message,
    guest::prove_write_config, guest::prove_write_dword, guest::prove_write_qword,
    guest::prove_write_other, guest::prove_poll_pba, guest::prove_read_table, guest::prove_read_pba,
    host::prove_attach, host::prove_detach, host::prove_set_bus_master, host::prove_report_failed,
    host::prove_report_held, host::prove_reset,
    snapshot::prove_prepare_save, snapshot::prove_resume, snapshot::prove_load_qemu, snapshot::prove_load,
    snapshot::prove_save_qemu, snapshot::prove_save, start::prove_new,
}
