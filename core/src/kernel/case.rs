//! The rules for one vector, which [`step`](super::step) is compared with. Written with `if`, in
//! the order in which a reader thinks, and not for speed.

use super::{Registers, Step, Switches, Told};

/// Decides what follows for one vector.
pub(crate) fn case(
    told: Told<bool>,
    registers: Registers<bool>,
    switches: Switches<bool>,
    complete: bool,
) -> Step<bool> {
    let mut next = Step {
        told,
        pending: registers.pending,
        disarm: false,
        arm: false,
        reroute: false,
        send: false,
        dropped: false,
        lost: false,
    };

    // A6, A10, A11: may this vector send? Nothing may between load and resume (H15).
    let mut may_send = false;
    if switches.open && !switches.loading {
        if registers.exempt {
            may_send = true; // H25
        } else {
            may_send = !registers.masked && !switches.function_masked;
        }
    }

    // I1: the host delivers what may be sent. Between load and resume it keeps what it has.
    let mut should_be_live = may_send;
    if switches.loading {
        should_be_live = told.live;
    }
    if !switches.attached {
        should_be_live = false;
    }
    if told.live && !should_be_live {
        next.disarm = true;
    }
    if !told.live && should_be_live {
        next.arm = true;
    }
    next.told.live = should_be_live;
    if next.disarm || next.arm || !should_be_live {
        // Arming tells the message anew and tries it anew, whatever failed before (H11).
        next.told.fallback = false;
        next.told.stale = false;
    } else if told.stale && complete && !switches.loading {
        next.reroute = true; // H4
        next.told.stale = false;
    }

    // I2: what is pending and may be sent is sent, if the device claims it.
    if registers.pending && may_send {
        if !registers.claimed {
            if switches.lossy {
                next.lost = true; // H9
                next.pending = false;
            }
        } else if switches.bus_master {
            next.send = true;
            next.pending = false;
        } else {
            next.dropped = true; // H16
            next.pending = false;
        }
    }
    next
}
