//! QEMU, which emulates the processor.

use super::{Ended, Image};
use msix_tests::peers::skipped;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a machine may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Boots `image` with that command line; without QEMU, `None` and a word of the skip.
pub(crate) fn boot_or_skip(test: &str, image: &Image, command_line: &str) -> Option<Ended> {
    let said = tempfile::NamedTempFile::new().expect("a temporary file");
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debugcon,iobase=0xe9,chardev=said", "-chardev"])
        .arg(format!("file,id=said,path={}", said.path().display()))
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .arg("-kernel")
        .arg(&image.path)
        .args(["-append", command_line])
        .stdin(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        skipped(test, "qemu-system-x86_64", "install qemu-system-x86");
        return None;
    };
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(said.path());
            panic!("still running after {PATIENCE:?}:\n{}", said.unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = String::from_utf8(std::fs::read(said.path()).expect("its console")).expect("UTF-8");
    // isa-debug-exit ends QEMU with twice the result and 1.
    let code = status.code().filter(|code| code % 2 == 1);
    let code = code.unwrap_or_else(|| panic!("QEMU ended by {status}:\n{said}"));
    Some(Ended { said, result: u8::try_from(code / 2).expect("a result") })
}
