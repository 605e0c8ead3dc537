//! Processes of their own: this program, started again for a part of a test.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a part of a test in a new process, to its end. What it writes to standard error is why it
/// failed.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let named = |why: &dyn std::fmt::Display| format!("the process {arguments:?}: {why}");
    let program = std::env::current_exe().map_err(|error| named(&error))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| named(&error))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if begun.elapsed() > LIMIT => {
                break Err(named(&format!("no end in {} s", LIMIT.as_secs())));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => break Err(named(&error)),
        }
    };
    if status.is_err() {
        // One that has ended meanwhile needs no end.
        let _ = (child.kill(), child.wait());
    }
    let status = status?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).map_err(|error| named(&error))?;
    }
    if status.success() { Ok(()) } else { Err(named(&format!("{status}: {}", said.trim_end()))) }
}

/// Longest life of a process: the longest wait for an interrupt, and some.
const LIMIT: Duration = Duration::from_secs(30);
