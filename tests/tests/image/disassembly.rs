//! Text size and worst stack of a linked x86-64 image, read from its disassembly. What this reader
//! does not understand (recursion, a stack pointer that is computed) fails the test that asked.
//!
//! An indirect call is counted as one of the function nobody calls by name that needs most. What an
//! embedder's own predicate for `Msix::with_exempt_messages` needs is not in the image and so not in the figure.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

pub(crate) struct Disassembly {
    /// Bytes of machine code.
    pub(crate) text: u64,
    functions: HashMap<String, Function>,
    /// Worst stack of what only pointers call.
    pointed_at: u64,
}

#[derive(Default)]
struct Function {
    /// Bytes pushed and reserved, without the return address.
    frame: u64,
    callees: Vec<String>,
    calls_pointers: bool,
    /// An instruction that makes the depth unknown.
    not_understood: Option<String>,
}

impl Disassembly {
    /// Reads an image that exports `exported`.
    pub(crate) fn of(image: &Path, exported: &[&str]) -> Self {
        let mut functions: HashMap<String, Function> = HashMap::new();
        let mut name = String::new();
        for line in run("objdump", &["-d", "--no-show-raw-insn"], image).lines() {
            if let Some(header) = line.strip_suffix(">:") {
                name = header.split_once('<').expect("ADDRESS <NAME>:").1.to_owned();
            } else if let Some((_, instruction)) = line.split_once(":\t") {
                functions.entry(name.clone()).or_default().read(&name, instruction);
            }
        }
        let sections = run("size", &["-A"], image);
        let text = sections.lines().find_map(|line| line.strip_prefix(".text"));
        let text = text.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let called: HashSet<&str> = functions
            .values()
            .flat_map(|function| function.callees.iter().map(String::as_str))
            .chain(exported.iter().copied())
            .collect();
        let uncalled = functions.keys().filter(|&name| !called.contains(name.as_str()));
        let uncalled: Vec<String> = uncalled.cloned().collect();
        let mut disassembly =
            Self { text: text.expect("a text section"), functions, pointed_at: 0 };
        let worst = uncalled.iter().map(|name| disassembly.stack(name)).max();
        disassembly.pointed_at = worst.unwrap_or(0);
        disassembly
    }

    /// Bytes of stack that a call of `name` needs at worst, with the return addresses.
    pub(crate) fn stack(&self, name: &str) -> u64 {
        self.deepest(name, &mut Vec::new())
    }

    fn deepest<'a>(&'a self, name: &'a str, callers: &mut Vec<&'a str>) -> u64 {
        assert!(!callers.contains(&name), "{name} calls itself");
        let function = self.functions.get(name).unwrap_or_else(|| panic!("no function {name}"));
        assert_eq!(function.not_understood, None, "in {name}");
        callers.push(name);
        let below = function.callees.iter().map(|callee| self.deepest(callee, callers)).max();
        let pointed_at = if function.calls_pointers { self.pointed_at } else { 0 };
        callers.pop();
        8 + function.frame + below.unwrap_or(0).max(pointed_at)
    }
}

impl Function {
    fn read(&mut self, own_name: &str, instruction: &str) {
        let mut words = instruction.split_whitespace();
        let (mnemonic, operands) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match mnemonic {
            "push" => self.frame += 8,
            "sub" | "add" if operands.ends_with(",%rsp") => {
                // A reservation of 128 bytes is shorter as the addition of -128.
                let value = operands.strip_prefix("$0x").and_then(|o| o.strip_suffix(",%rsp"));
                let value = value.and_then(|hex| u64::from_str_radix(hex, 16).ok());
                let value =
                    value.unwrap_or_else(|| panic!("{own_name}: {instruction}")).cast_signed();
                let reserved = if mnemonic == "sub" { value } else { -value };
                self.frame += u64::try_from(reserved).unwrap_or(0);
            }
            _ if operands.ends_with(",%rsp") => self.not_understood = Some(instruction.to_owned()),
            "call" | "jmp" if operands.starts_with('*') => self.calls_pointers = true,
            _ if mnemonic.starts_with("call") || mnemonic.starts_with('j') => {
                let target = words.next().and_then(|target| target.strip_prefix('<'));
                let target = target.and_then(|target| target.strip_suffix('>'));
                // A jump elsewhere is a call in the last place; its frame is counted as if this
                // one's were still there.
                self.callees.extend(
                    target.filter(|t| !t.starts_with(&format!("{own_name}+"))).map(str::to_owned),
                );
            }
            _ => {}
        }
    }
}

fn run(program: &str, arguments: &[&str], image: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(image).output();
    let output = output.unwrap_or_else(|error| panic!("{program} of binutils: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
