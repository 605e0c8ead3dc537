//! The qtest text protocol: one command a line, one answer a line.

use super::machine::Machine;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Most bytes that one command may move.
pub(super) const MOST: usize = 16 << 20;
/// Longest line, bytes: a write of [`MOST`] bytes and some more.
pub(super) const LONGEST: usize = 2 * MOST + 128;

/// A width of memory and port accesses.
#[derive(Clone, Copy)]
struct Width(usize);

impl Width {
    fn of(suffix: &str, most: usize) -> Option<Self> {
        let len = match suffix {
            "b" => 1,
            "w" => 2,
            "l" => 4,
            "q" => 8,
            _ => return None,
        };
        (len <= most).then_some(Self(len))
    }
}

/// Carries out one line on `machine`; the answer, without the end of the line. What is no command is
/// answered by `FAIL` and a reason, and does nothing.
pub(super) fn answer(machine: &mut Machine, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let Some((&command, arguments)) = words.split_first() else {
        return "FAIL Unknown command ''".to_owned();
    };
    let outcome = match command {
        "endianness" => Ok("OK little".to_owned()),
        "irq_intercept_in" | "irq_intercept_out" => intercept(arguments),
        "clock_step" => clock(machine, arguments, true),
        "clock_set" => clock(machine, arguments, false),
        "read" => bytes(machine, arguments).map(|bytes| format!("OK 0x{}", hex(&bytes))),
        "b64read" => bytes(machine, arguments).map(|bytes| format!("OK {}", BASE64.encode(bytes))),
        "write" => write(machine, arguments, from_hex),
        "b64write" => write(machine, arguments, |text| BASE64.decode(text).ok()),
        "memset" => memset(machine, arguments),
        _ => match access(machine, command, arguments) {
            Some(outcome) => outcome,
            None => return format!("FAIL Unknown command '{}'", shortened(command)),
        },
    };
    outcome.unwrap_or_else(|why| format!("FAIL {command}: {why}"))
}

type Outcome = Result<String, &'static str>;

/// `inb` to `outl`, `readb` to `writeq`.
fn access(machine: &mut Machine, command: &str, arguments: &[&str]) -> Option<Outcome> {
    let width = |prefix, most| Width::of(command.strip_prefix(prefix)?, most);
    if let Some(Width(len)) = width("in", 4) {
        let port = one(arguments).and_then(|port| u16::try_from(port).map_err(|_| "no such port"));
        return Some(port.map(|port| format!("OK {:#06x}", machine.input(port, len))));
    }
    if let Some(Width(len)) = width("out", 4) {
        return Some(two(arguments).and_then(|(port, value)| {
            let port = u16::try_from(port).map_err(|_| "no such port")?;
            machine.output(port, &value.to_le_bytes()[..len]);
            Ok("OK".to_owned())
        }));
    }
    if let Some(Width(len)) = width("read", 8) {
        return Some(one(arguments).map(|address| {
            let mut bytes = [0; 8];
            machine.read(address, &mut bytes[..len]);
            format!("OK {:#018x}", u64::from_le_bytes(bytes))
        }));
    }
    let Width(len) = width("write", 8)?;
    Some(two(arguments).map(|(address, value)| {
        machine.write(address, &value.to_le_bytes()[..len]);
        "OK".to_owned()
    }))
}

/// Lines of interrupt controllers, of which there are none: no line ever changes.
fn intercept(arguments: &[&str]) -> Outcome {
    if arguments.len() == 1 { Ok("OK".to_owned()) } else { Err("one argument") }
}

fn clock(machine: &mut Machine, arguments: &[&str], step: bool) -> Outcome {
    let now = match (arguments, step) {
        // Without an argument to the next deadline, and nothing here has one.
        ([], true) => machine.clock,
        (_, true) => machine.clock.saturating_add(one(arguments)?),
        (_, false) => one(arguments)?,
    };
    machine.clock = now.max(machine.clock);
    Ok(format!("OK {}", machine.clock))
}

fn bytes(machine: &mut Machine, arguments: &[&str]) -> Result<Vec<u8>, &'static str> {
    let (address, len) = two(arguments)?;
    let mut bytes = vec![0; checked(len)?];
    machine.read(address, &mut bytes);
    Ok(bytes)
}

fn write(
    machine: &mut Machine,
    arguments: &[&str],
    decode: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Outcome {
    let &[address, len, data] = arguments else { return Err("three arguments") };
    let (address, len) = two(&[address, len])?;
    let mut bytes = decode(data).ok_or("data that is not encoded as it must be")?;
    bytes.resize(checked(len)?, 0); // as QEMU: what is missing is 0, what is too much is ignored
    machine.write(address, &bytes);
    Ok("OK".to_owned())
}

fn memset(machine: &mut Machine, arguments: &[&str]) -> Outcome {
    let &[address, len, pattern] = arguments else { return Err("three arguments") };
    let (address, len) = two(&[address, len])?;
    let pattern = number(pattern).ok_or("no number")? as u8;
    if len > 0 {
        machine.write(address, &vec![pattern; checked(len)?]);
    }
    Ok("OK".to_owned())
}

fn checked(len: u64) -> Result<usize, &'static str> {
    let len = usize::try_from(len).ok().filter(|len| (1..=MOST).contains(len));
    len.ok_or("a length from 1 byte to 16 MiB")
}

fn one(arguments: &[&str]) -> Result<u64, &'static str> {
    let &[only] = arguments else { return Err("one argument") };
    number(only).ok_or("no number")
}

fn two(arguments: &[&str]) -> Result<(u64, u64), &'static str> {
    let &[first, second] = arguments else { return Err("two arguments") };
    number(first).zip(number(second)).ok_or("no number")
}

/// As C reads numbers: 0x for hexadecimal, 0 for octal.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let signless = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| signless)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// `0x` and two digits a byte; an odd one at the end is ignored, as QEMU does.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty())?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, _) = digits.as_bytes().as_chunks();
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

fn shortened(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}
