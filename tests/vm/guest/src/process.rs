//! Processes of their own: this program, started again for a part of a test.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
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
    let status = ended(&mut child, LIMIT).map_err(|why| {
        let stacks = stacks(child.id());
        // One that has ended meanwhile needs no end.
        let _ = child.kill();
        let killed = ended(&mut child, KILLED).err();
        let killed = killed.map(|why| format!("; once killed, {why}")).unwrap_or_default();
        named(&format!("{why}{killed}\n{stacks}"))
    })?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).map_err(|error| named(&error))?;
    }
    if status.success() { Ok(()) } else { Err(named(&format!("{status}: {}", said.trim_end()))) }
}

/// Waits for the end of a process, no longer than this.
fn ended(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begun.elapsed() > limit => {
                return Err(format!("no end in {} s", limit.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Where the kernel has each thread of a process.
pub(crate) fn stacks(process: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    threads
        .flatten()
        .map(|thread| {
            format!("{}{}", read(thread.path().join("comm")), read(thread.path().join("stack")))
        })
        .collect()
}

/// Longest life of a process: the longest wait for an interrupt, and some.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time that one takes to end once it is killed.
const KILLED: Duration = Duration::from_secs(10);
