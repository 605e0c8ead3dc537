//! Runs harnesses natively on states that it reads, and prints what they assume and prove.
//!
//! Each line of the standard input is one run: the name of a harness, then words `any=VALUE` (one for
//! each value that the harness asks for, in order), `entries+OFFSET=VALUE`, `claims+OFFSET=VALUE` and
//! `words+OFFSET=VALUE` and `bytes+OFFSET=VALUE`, all hexadecimal: 8 bytes of memory each. What is not
//! given is 0. `exempt+ADDRESS=DATA` makes a message exempt from masks. For each run
//! it prints one line: the numbers of the properties in order, each followed by `+` where it holds and
//! `-` where it does not, then what the harness observed as `=VALUE`, then `assumed+` or `assumed-`.

use prove::engine::{BYTES, N, WORDS};
use prove::{HARNESSES, Harness};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, Write};

#[derive(Default)]
struct Run {
    any: VecDeque<u64>,
    exempt: Vec<(u64, u32)>,
    assumed: bool,
    properties: Vec<(u32, bool)>,
    observed: Vec<u64>,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

#[unsafe(no_mangle)]
extern "C" fn __any_u64() -> u64 {
    RUN.with_borrow_mut(|run| run.any.pop_front().unwrap_or(0))
}

#[unsafe(no_mangle)]
extern "C" fn __assume(condition: bool) {
    RUN.with_borrow_mut(|run| run.assumed &= condition);
}

#[unsafe(no_mangle)]
extern "C" fn __prove(condition: bool, property: u32) {
    RUN.with_borrow_mut(|run| run.properties.push((property, condition)));
}

#[unsafe(no_mangle)]
extern "C" fn __observe(value: u64) {
    RUN.with_borrow_mut(|run| run.observed.push(value));
}

#[unsafe(no_mangle)]
extern "C" fn __exempt(address: u64, data: u32) -> bool {
    RUN.with_borrow(|run| run.exempt.contains(&(address, data)))
}

/// Memory that can be given as bytes.
struct Memory {
    entries: [msix_core::Entry; N],
    claims: [u16; N],
    words: [msix_core::Word; WORDS],
    bytes: [u8; BYTES],
}

impl Memory {
    fn new() -> Self {
        // SAFETY: entries, claim counts and words are plain integers.
        unsafe { std::mem::zeroed() }
    }

    /// Stores 8 bytes, or those of them that lie inside.
    fn store(&mut self, name: &str, offset: usize, value: u64) -> Option<()> {
        let (start, len) = match name {
            "entries" => (self.entries.as_mut_ptr().cast::<u8>(), size_of_val(&self.entries)),
            "claims" => (self.claims.as_mut_ptr().cast::<u8>(), size_of_val(&self.claims)),
            "words" => (self.words.as_mut_ptr().cast::<u8>(), size_of_val(&self.words)),
            "bytes" => (self.bytes.as_mut_ptr().cast::<u8>(), size_of_val(&self.bytes)),
            _ => return None,
        };
        // SAFETY: the bytes of one array, of plain integers.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let bytes = bytes.get_mut(offset..)?;
        bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        Some(())
    }
}

fn one(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let &(_, harness): &(_, Harness) = HARNESSES.iter().find(|(known, _)| *known == name)?;
    let mut memory = Box::new(Memory::new());
    let mut run = Run { assumed: true, ..Run::default() };
    for word in words {
        let (place, value) = word.split_once('=')?;
        let value = u64::from_str_radix(value, 16).ok()?;
        if place == "any" {
            run.any.push_back(value);
        } else {
            let (array, offset) = place.split_once('+')?;
            let offset = u64::from_str_radix(offset, 16).ok()?;
            if array == "exempt" {
                run.exempt.push((offset, u32::try_from(value).ok()?));
            } else {
                memory.store(array, usize::try_from(offset).ok()?, value)?;
            }
        }
    }
    RUN.set(run);
    harness(&mut memory.entries, &mut memory.claims, &mut memory.words, &mut memory.bytes);
    let run = RUN.take();
    let mut line = String::new();
    for (property, holds) in run.properties {
        line += &format!("{property}{} ", if holds { '+' } else { '-' });
    }
    for value in run.observed {
        line += &format!("={value:x} ");
    }
    line += if run.assumed { "assumed+" } else { "assumed-" };
    Some(line)
}

fn main() {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the input is text");
        let answer = one(&line).unwrap_or_else(|| panic!("not understood: {line}"));
        writeln!(out, "{answer}").expect("somebody reads the answers");
    }
}
