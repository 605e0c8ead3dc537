//! Running another program for a bounded time.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Why a program did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{program} is not in the PATH")]
    Missing { program: String },
    #[error("{program} cannot be run: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} did not answer within {limit:?}")]
    TooSlow { program: String, limit: Duration },
    #[error("{program} failed: {said}")]
    Failed { program: String, said: String },
}

const LIMIT: Duration = Duration::from_secs(5);
/// Most bytes taken of each of its outputs.
const MOST: u64 = 64 * 1024;

/// What the program printed.
pub(super) fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    output_within(LIMIT, program, arguments)
}

fn output_within(limit: Duration, program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let name = || program.to_owned();
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Missing { program: name() },
        _ => Failure::Start { program: name(), source },
    })?;
    let said = child.stdout.take().map(reader);
    let complained = child.stderr.take().map(reader);
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It may have ended just now; either way it is gone after this.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::TooSlow { program: name(), limit });
            }
            Err(source) => return Err(Failure::Start { program: name(), source }),
        }
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (said, complained) = (text(said), text(complained));
    if status.success() {
        return Ok(said);
    }
    let line = complained.lines().find(|line| !line.trim().is_empty());
    let said = line.map_or_else(|| status.to_string(), |line| line.trim().to_owned());
    Err(Failure::Failed { program: name(), said })
}

/// The first line of what the program printed.
pub(super) fn first_line(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    output(program, arguments).map(|text| text.lines().next().unwrap_or_default().to_owned())
}

fn reader(from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read is enough.
        let _ = from.take(MOST).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_a_failing_and_a_hanging_one_are_told_apart() {
        let missing = output("no-such-program-msix", &[]).unwrap_err();
        assert_eq!(missing.to_string(), "no-such-program-msix is not in the PATH");
        let failed = output("sh", &["-c", "echo; echo broken >&2; exit 3"]).unwrap_err();
        assert_eq!(failed.to_string(), "sh failed: broken");
        let slow = output_within(Duration::from_millis(200), "sleep", &["60"]).unwrap_err();
        assert_eq!(slow.to_string(), "sleep did not answer within 200ms");
        assert_eq!(first_line("echo", &["hello"]).unwrap(), "hello");
    }
}
