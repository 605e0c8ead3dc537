//! The harnesses, by the side that an input comes from.

mod check;
mod device;
mod function;
mod guest;
mod host;
mod layout;
mod list;
mod snapshot;
mod start;

use crate::engine::{BYTES, Memory, N, WORDS};
use msix_core::{Entry, Word};

/// A harness: it takes the memory of an engine, and that of a snapshot.
pub type Harness =
    extern "C" fn(&mut [Entry; N], &mut [u16; N], &mut [Word; WORDS], &mut [u8; BYTES]);

/// Returns whether a harness is compiled: `PROVE_ONLY` has the names of those that are, each with a comma
/// behind it. The others are empty. Without it all are compiled.
const fn is_wanted(name: &str) -> bool {
    let Some(list) = option_env!("PROVE_ONLY") else { return true };
    let (list, name) = (list.as_bytes(), name.as_bytes());
    let (mut index, mut len, mut same) = (0, 0, true);
    while index < list.len() {
        if list[index] == b',' {
            if same && len == name.len() {
                return true;
            }
            (len, same) = (0, true);
        } else {
            same = same && len < name.len() && list[index] == name[len];
            len += 1;
        }
        index += 1;
    }
    false
}

macro_rules! harnesses {
    ($($($module:ident)::+ { $($name:ident)* })*) => {
        $(use $($module)::+::{$($name),*};)*
        mod exported {
            use super::*;
            $($(
                #[unsafe(no_mangle)]
                pub extern "C" fn $name(
                    entries: &mut [Entry; N],
                    claims: &mut [u16; N],
                    words: &mut [Word; WORDS],
                    bytes: &mut [u8; BYTES],
                ) {
                    if const { is_wanted(stringify!($name)) } {
                        super::$name(Memory { entries, claims, words, bytes });
                    }
                }
            )*)*
        }
        /// All harnesses by name.
        pub const HARNESSES: &[(&str, Harness)] = &[$($((stringify!($name), exported::$name)),*),*];
    };
}

harnesses! {
    check { prove_check }
    device {
        prove_notify prove_withdraw prove_claim prove_unclaim prove_unclaim_all prove_set_mask
        prove_set_message
    }
    guest {
        prove_write_config prove_write_dword prove_write_qword prove_write_other prove_poll_pba
        prove_read_table prove_read_pba
    }
    host {
        prove_attach prove_detach prove_set_bus_master prove_report_failed prove_report_held
        prove_reset
    }
    layout { prove_layout prove_read_config prove_write_pba }
    list { prove_list }
    snapshot {
        prove_prepare_save prove_resume prove_load_qemu prove_load prove_save_qemu prove_save
    }
    start { prove_new }
    function::device {
        prove_function_notify prove_function_withdraw prove_function_claim prove_function_unclaim
        prove_function_unclaim_all prove_function_set_mask prove_function_set_message
        prove_function_set_level prove_function_report_fired prove_function_eoi
    }
    function::guest {
        prove_function_write_msi prove_function_write_msix prove_function_write_command
        prove_function_poll_msi prove_function_poll_pba prove_function_write_dword
        prove_function_write_qword prove_function_read_msi prove_function_read
    }
    function::host {
        prove_function_attach prove_function_detach prove_function_report_failed
        prove_function_report_held prove_function_reset
    }
    function::snapshot {
        prove_function_prepare_save prove_function_resume prove_function_save prove_function_load
        prove_function_load_qemu
    }
    function::start { prove_function_new }
    function::check { prove_function_check }
}
