//! A child process that ends with this one, and that the terminal's signals do not reach.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, absolute};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

/// A child, and the thread that is its parent.
#[derive(Debug)]
pub(super) struct TiedChild {
    pub(super) child: Child,
    /// The thread ends when this is dropped.
    _parent: Sender<Infallible>,
}

/// A command that runs `program` in `folder` with nothing to read or to print to. Ctrl-C at the terminal
/// is for this process alone, which ends the child when it is done with it. However this process ends,
/// the kernel ends the child, if util-linux's `setpriv` is there to ask for it.
pub(super) fn command(program: &Path, folder: &Path) -> io::Result<Command> {
    // A path is relative to this process, not to `folder`; a bare name is looked up in PATH.
    let program =
        if program.components().count() > 1 { absolute(program)? } else { program.to_owned() };
    let mut command = if has_setpriv() {
        let mut command = Command::new(SETPRIV[0]);
        command.args(&SETPRIV[1..]).arg("--").arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

/// Exit statuses of `setpriv` when it cannot start what it was given.
pub(super) const NOT_STARTED: [i32; 2] = [126, 127];

const SETPRIV: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// Busybox has one that does not know the option.
fn has_setpriv() -> bool {
    let mut tried = Command::new(SETPRIV[0]);
    tried.args(&SETPRIV[1..]).arg("true");
    tried.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    tried.status().is_ok_and(|status| status.success())
}

/// Starts `command`. To the kernel the parent is the thread that does, so it is one that lasts.
pub(super) fn spawn(mut command: Command) -> io::Result<TiedChild> {
    let (to_us, from_parent) = channel();
    let (parent, dropped) = channel();
    std::thread::Builder::new().name("parent of QEMU".to_owned()).spawn(move || {
        let _ = to_us.send(command.spawn());
        let _ = dropped.recv(); // nothing is ever sent
    })?;
    let child = from_parent.recv().map_err(io::Error::other)??;
    Ok(TiedChild { child, _parent: parent })
}
