//! What the kernel complains of.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// Words of a driver that missed an interrupt, or of a device that did not answer.
const COMPLAINTS: [&str; 9] = [
    "completion polled",
    "timeout",
    "timed out",
    "I/O error",
    "nobody cared",
    "Hardware Unit Hang",
    "reset high-speed USB",
    "reset SuperSpeed USB",
    "blocked for more than",
];
const O_NONBLOCK: i32 = 0o4000;

/// Fails with what the kernel's log has of that.
pub(super) fn complaints() -> Result<(), String> {
    let named = |error: std::io::Error| format!("/dev/kmsg: {error}");
    let mut options = File::options();
    let mut log = options.read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg").map_err(named)?;
    let mut found = String::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                if COMPLAINTS.iter().any(|words| text.contains(words)) {
                    found += &text;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // an old one is gone
            Err(error) => return Err(named(error)),
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("the kernel complains: {found}")) }
}
