//! Lines out, lines in: the qtest protocol, and QMP beside it.

use super::error::{PATIENCE, QemuError};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;

/// Longest line that is accepted, bytes: a 1 MiB memory read in hexadecimal and some more.
const LONGEST: usize = 4 << 20;
/// Most bytes of commands that are sent without reading an answer, unless one alone is longer: far less
/// than a socket holds, so that sending never waits for a receiver that waits for us.
const IN_FLIGHT: usize = 8 << 10;

/// A connection that answers every line with a line.
#[derive(Debug)]
pub struct QemuClient {
    stream: BufReader<UnixStream>,
    /// Intercepted lines that are high.
    raised: BTreeSet<u32>,
    round_trips: u64,
}

impl QemuClient {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// [`QemuError::System`] when its time limit cannot be set.
    pub fn new(stream: UnixStream) -> Result<Self, QemuError> {
        let limited = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        limited.map_err(QemuError::system("socket time limit"))?;
        let stream = BufReader::with_capacity(1 << 16, stream);
        Ok(Self { stream, raised: BTreeSet::new(), round_trips: 0 })
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        // Closed already is as good.
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
    }

    /// Sends a qtest command. Returns the words after `OK`.
    ///
    /// # Errors
    /// [`QemuError`] when there is no answer, or another than `OK`.
    pub fn command(&mut self, line: &str) -> Result<String, QemuError> {
        self.send(line)?;
        self.round_trips += 1;
        self.answer(line)
    }

    /// Sends qtest commands without a wait between them. Returns the words after each `OK`.
    ///
    /// # Errors
    /// As [`command`](Self::command), for the first that fails; those after it were sent too.
    pub fn commands(&mut self, lines: &[String]) -> Result<Vec<String>, QemuError> {
        let mut answers = Vec::with_capacity(lines.len());
        let mut rest = lines;
        while let Some(first) = rest.first() {
            // As many as the other side can take while it waits until its answers are read.
            let mut bytes = first.len() + 1;
            let fits = rest.iter().skip(1).take_while(|line| {
                bytes += line.len() + 1;
                bytes <= IN_FLIGHT
            });
            let (now, later) = rest.split_at(1 + fits.count());
            self.send(&now.join("\n"))?;
            self.round_trips += 1;
            let mut wrong = None;
            for line in now {
                match self.answer(line) {
                    Ok(answer) => answers.push(answer),
                    // The answers of the others follow.
                    Err(error @ QemuError::Garbled { .. }) => _ = wrong.get_or_insert(error),
                    Err(error) => return Err(error),
                }
            }
            if let Some(error) = wrong {
                return Err(error);
            }
            rest = later;
        }
        Ok(answers)
    }

    /// Returns how often answers to qtest commands were waited for.
    #[must_use]
    pub const fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// Receives the answer to `line`.
    fn answer(&mut self, line: &str) -> Result<String, QemuError> {
        loop {
            let answer = self.line(line)?;
            if let Some(change) = answer.strip_prefix("IRQ ") {
                self.changed(change); // told whenever an intercepted line changes
                continue;
            }
            return match answer.strip_prefix("OK") {
                Some(rest) if rest.is_empty() || rest.starts_with(' ') => {
                    Ok(rest.trim_start().to_owned())
                }
                _ => Err(QemuError::Garbled { sent: line.to_owned(), got: shortened(&answer) }),
            };
        }
    }

    /// Returns the lines that are high, of those that `irq_intercept_in` has intercepted.
    #[must_use]
    pub const fn raised(&self) -> &BTreeSet<u32> {
        &self.raised
    }

    fn changed(&mut self, change: &str) {
        match change.split_once(' ').map(|(what, line)| (what, line.parse())) {
            Some(("raise", Ok(line))) => _ = self.raised.insert(line),
            Some(("lower", Ok(line))) => _ = self.raised.remove(&line),
            _ => {}
        }
    }

    /// Sends a qtest command that answers with a number, as [`command`](Self::command) does.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn number(&mut self, line: &str) -> Result<u64, QemuError> {
        let answer = self.command(line)?;
        number(line, &answer)
    }

    /// Sends a QMP command and waits for its `return`; events that come meanwhile are passed to
    /// `event`.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn qmp(
        &mut self,
        command: &serde_json::Value,
        mut event: impl FnMut(&serde_json::Value),
    ) -> Result<serde_json::Value, QemuError> {
        let sent = command.to_string();
        self.send(&sent)?;
        loop {
            let mut message = self.qmp_message(&sent)?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if message.get("error").is_some() {
                return Err(QemuError::Garbled { sent, got: shortened(&message.to_string()) });
            }
            event(&message);
        }
    }

    /// Receives the next QMP message: a greeting, an event or an answer. `sent` is for the error.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn qmp_message(&mut self, sent: &str) -> Result<serde_json::Value, QemuError> {
        let line = self.line(sent)?;
        serde_json::from_str(&line)
            .map_err(|_| QemuError::Garbled { sent: sent.to_owned(), got: shortened(&line) })
    }

    fn send(&mut self, line: &str) -> Result<(), QemuError> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.stream.get_mut().write_all(&bytes).map_err(|error| failed(line, error))
    }

    fn line(&mut self, sent: &str) -> Result<String, QemuError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = match self.stream.fill_buf() {
                // A signal; who waits for it looks between two inputs.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|error| failed(sent, error))?,
            };
            if chunk.is_empty() {
                return Err(QemuError::Closed { sent: shortened(sent) });
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            bytes.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
            self.stream.consume(taken);
            if end.is_some() || bytes.len() > LONGEST {
                break;
            }
        }
        match String::from_utf8(bytes) {
            Ok(line) if line.len() <= LONGEST => Ok(line.trim_end().to_owned()),
            Ok(line) => Err(QemuError::Garbled { sent: shortened(sent), got: shortened(&line) }),
            Err(_) => Err(QemuError::Garbled { sent: shortened(sent), got: "no text".to_owned() }),
        }
    }
}

/// Returns the number that `answer` to `line` is.
pub(super) fn number(line: &str, answer: &str) -> Result<u64, QemuError> {
    let digits = answer.strip_prefix("0x");
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| QemuError::Garbled { sent: line.to_owned(), got: shortened(answer) })
}

fn failed(sent: &str, source: std::io::Error) -> QemuError {
    let sent = shortened(sent);
    match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => QemuError::Silent { sent },
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => QemuError::Closed { sent },
        _ => QemuError::System { what: "QEMU's socket", source },
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered_with(answer: &[u8]) -> Result<String, QemuError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer).unwrap();
        drop(theirs.shutdown(std::net::Shutdown::Write));
        QemuClient::new(ours).unwrap().command("readl 0x0")
    }

    #[test]
    fn an_answer_is_what_follows_ok_past_interrupt_lines() {
        assert_eq!(answered_with(b"OK\n").unwrap(), "");
        assert_eq!(answered_with(b"IRQ raise 3\nOK 0x12\n").unwrap(), "0x12");
    }

    #[test]
    fn lines_that_rise_and_fall_are_remembered() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"IRQ raise 3\nIRQ raise 20\nOK\nIRQ lower 3\nIRQ x\nOK\n").unwrap();
        let mut client = QemuClient::new(ours).unwrap();
        client.command("clock_step").unwrap();
        assert_eq!(client.raised(), &BTreeSet::from([3, 20]));
        client.command("clock_step").unwrap();
        assert_eq!(client.raised(), &BTreeSet::from([20]));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        for answer in [&b"FAIL Unknown command\n"[..], b"OKAY\n", b"\xff\xfe\n", b"\n"] {
            assert!(matches!(answered_with(answer), Err(QemuError::Garbled { .. })), "{answer:?}");
        }
        for answer in [&b""[..], b"OK 0x1", b"IRQ raise 1\n"] {
            assert!(matches!(answered_with(answer), Err(QemuError::Closed { .. })), "{answer:?}");
        }
    }

    #[test]
    fn commands_are_answered_in_order_with_few_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Answers each line with its length, and does not read on before its answer is taken.
        let peer = std::thread::spawn(move || {
            let mut to = theirs.try_clone().unwrap();
            for line in BufReader::new(theirs).lines().map_while(Result::ok) {
                let padding = "0".repeat(40_000);
                to.write_all(format!("OK 0x{padding}{:x}\n", line.len()).as_bytes()).unwrap();
            }
        });
        let mut client = QemuClient::new(ours).unwrap();
        let lines: Vec<String> = (1..=400).map(|len| "x".repeat(len)).collect();
        let answers = client.commands(&lines).unwrap();
        let numbers =
            lines.iter().zip(&answers).map(|(line, answer)| number(line, answer).unwrap());
        assert!(numbers.eq(1..=400));
        // 80,600 bytes with their ends, of which 8 KiB are sent at once.
        assert_eq!((client.round_trips(), client.commands(&[]).unwrap().len()), (10, 0));
        client.close();
        peer.join().unwrap();
    }

    #[test]
    fn a_command_that_fails_among_others_is_named_and_the_connection_goes_on() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK\nFAIL\nOK 1\nIRQ raise 3\nOK 2\n").unwrap();
        let mut client = QemuClient::new(ours).unwrap();
        let lines = ["a", "b", "c"].map(str::to_owned);
        let error = client.commands(&lines).unwrap_err();
        assert!(matches!(error, QemuError::Garbled { sent, got } if sent == "b" && got == "FAIL"));
        assert_eq!(client.command("d").unwrap(), "2");
    }

    #[test]
    fn a_number_must_be_one() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK 0xff\nOK ff\nOK 0x\nOK 0x11111111111111111\n").unwrap();
        let mut client = QemuClient::new(ours).unwrap();
        assert_eq!(client.number("inl 0xcfc").unwrap(), 0xff);
        for _ in 0..3 {
            assert!(matches!(client.number("inl 0xcfc"), Err(QemuError::Garbled { .. })));
        }
    }
}
