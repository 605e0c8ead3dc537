//! The C interface as a subject: a program in C or C++ with the engine, and the model host at this end of
//! its pipes.

use crate::c_programs::CProgram;
use msix_backends::{Host, Route};
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Choices, Claims, Device, ExclusiveBar, FunctionReset,
    HostCall, HostLog, HostScript, IntxCall, IntxLog, Layouts, Message, NoDevice, Placement,
    QemuField, Refused, SideChannel, Snapshots, Subject, Withdrawal,
};
use msix_core::{Policy, Vector, Vectors};
use msix_subjects::{EventPath, ModelHost, SuiteHost, name_of, policy_name};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

/// How an engine in C gives its effects out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectPath {
    /// It calls the callbacks of its host.
    Callbacks,
    /// They are taken from a list.
    List,
}

/// An adapter in C or C++ (`tests/c/adapter.c`), under one policy.
#[derive(Debug, Clone)]
pub struct CSubject {
    /// The program.
    pub program: Arc<CProgram>,
    /// `C` or `C++`.
    pub language: &'static str,
    /// The policy: SPEC or QEMU.
    pub policy: Policy,
    /// How effects come out.
    pub effects: EffectPath,
    /// How events come in.
    pub events: EventPath,
}

impl Subject for CSubject {
    fn name(&self) -> String {
        let (policy, path) = (policy_name(&self.policy), name_of(self.events));
        format!("{} by {:?}, {policy}, {path}", self.language, self.effects)
    }

    fn choices(&self) -> Choices {
        Choices::of(&self.policy)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        let mut device = CDevice::start(self);
        let (policy, list) = (policy_name(&self.policy), self.effects == EffectPath::List);
        let made = device.call(&format!("new {vectors} {policy} {}", u8::from(list)));
        made.map_err(|Refused(why)| NoDevice::Refused(why))?;
        device.attach();
        Ok(Box::new(device))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        Some(self)
    }
}

impl Layouts for CSubject {
    fn exclusive_bar(&self, vectors: u32) -> Result<ExclusiveBar, Refused> {
        let (_, data) = CDevice::start(self).call(&format!("exclusive_bar {vectors} 3"))?;
        let numbers: Vec<u64> =
            data.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [table, pba, size] = numbers[..] else { panic!("three numbers: {data}") };
        Ok(ExclusiveBar { table, pba, size })
    }

    fn check(&self, placement: &Placement) -> Result<(), Refused> {
        let ((table_bar, table), (pba_bar, pba)) = (placement.table, placement.pba);
        let mut line = format!("check_layout {}", placement.vectors);
        write!(line, " {table_bar} {table} {pba_bar} {pba}").expect("a string");
        for size in placement.bar_sizes {
            write!(line, " {size}").expect("a string");
        }
        CDevice::start(self).call(&line).map(drop)
    }
}

/// A running adapter.
struct CDevice {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    host: ModelHost,
    events: EventPath,
    /// Vectors that the host could not deliver at some time: no others can be fallback.
    failed: BTreeSet<u16>,
}

impl CDevice {
    fn start(subject: &CSubject) -> Self {
        let mut child = subject
            .program
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the adapter starts");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            to,
            from,
            host: ModelHost::default(),
            events: subject.events,
            failed: BTreeSet::new(),
        }
    }

    fn line(&mut self, line: &str) {
        writeln!(self.to, "{line}").expect("the adapter reads");
    }

    /// Calls a function, and does what it asks of the host meanwhile.
    fn call(&mut self, line: &str) -> Result<(u32, String), Refused> {
        self.line(line);
        loop {
            let mut said = String::new();
            self.from.read_line(&mut said).expect("the adapter writes text");
            let (sign, rest) =
                said.trim_end_matches('\n').split_at_checked(2).unwrap_or_else(|| {
                    panic!("the adapter ended at `{line}`: its reason is on standard error")
                });
            if sign == "! " {
                let answer = self.ask(rest);
                self.line(&answer.to_string());
                continue;
            }
            let (answer, data) = rest.split_once(' ').unwrap_or((rest, ""));
            let answer: i32 = answer.parse().unwrap_or_else(|_| panic!("no answer: {said}"));
            return match u32::try_from(answer) {
                Ok(answer) => Ok((answer, data.to_owned())),
                Err(_) => Err(Refused(data.to_owned())),
            };
        }
    }

    /// One thing that the host is asked: its answer.
    fn ask(&mut self, asked: &str) -> u8 {
        let words: Vec<&str> = asked.split(' ').collect();
        let [kind, vector, address, data] = words[..] else { panic!("asked: {asked}") };
        let number = |word: &str| word.parse::<u64>().expect("a number");
        let vector = Vector::new(number(vector).try_into().expect("a vector"));
        let message =
            Message { address: number(address), data: number(data).try_into().expect("32 bits") };
        let (routes, set) = ([Route { vector, message }], [Vectors::one(vector)]);
        match kind {
            "send" => self.host.send(routes[0]),
            "arm" | "reroute" => {
                let failed = match kind {
                    "arm" => self.host.arm(&routes),
                    _ => self.host.reroute(&routes),
                };
                self.failed.extend(failed.iter().map(|vector| vector.index()));
                return u8::from(!failed.is_empty());
            }
            "disarm" => self.host.disarm(&set),
            "poll" => return u8::from(!self.host.poll(&set).is_empty()),
            "drain" => self.host.drain(&set),
            "intx_deassert" => self.host.intx_deassert(),
            "intx_reevaluate" => self.host.intx_reevaluate(),
            other => panic!("asked for {other}"),
        }
        0
    }

    /// An input, carried out to the end.
    fn input(&mut self, line: &str) -> Result<u32, Refused> {
        let answer = self.call(line).map(|(answer, _)| answer);
        self.take_fallback();
        answer
    }

    /// What the host cannot deliver, userspace reads from the eventfd (H11), and everything while there is
    /// no host.
    fn take_fallback(&mut self) {
        let held = self.host.held();
        let all = !held.is_empty() && self.ask_engine("is_attached") == 0;
        for vector in held {
            let failed = self.failed.contains(&vector);
            if all || failed && self.ask_engine(&format!("is_fallback {vector}")) == 1 {
                let taken = self.host.take_held(&|held| held == vector);
                assert_eq!(taken, [vector]);
                self.call(&format!("notify {vector}")).expect("a vector of the table");
            }
        }
    }

    fn ask_engine(&mut self, line: &str) -> u32 {
        self.call(line).expect("a query of what exists").0
    }

    /// An input that is never refused.
    fn always(&mut self, line: &str) {
        let answer = self.input(line);
        assert!(answer.is_ok(), "{line}: {answer:?}");
    }

    fn read(&mut self, what: &str, offset: u64, bytes: &mut [u8]) {
        let (_, data) = self.call(&format!("{what} {offset} {}", bytes.len())).expect("a read");
        bytes.copy_from_slice(&from_hex(&data));
    }

    fn bytes_of(&mut self, line: &str) -> Vec<u8> {
        self.always("prepare_save");
        let (_, data) = self.call(line).expect("a buffer that is long enough");
        from_hex(&data)
    }
}

impl Drop for CDevice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}

fn from_hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}

impl Device for CDevice {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.read("read_config", offset as u64, bytes);
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.always(&format!("write_config {offset} {}", hex(bytes)));
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.read("read_table", offset, bytes);
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.always(&format!("write_table {offset} {}", hex(bytes)));
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.always(&format!("poll_pba {offset} {}", bytes.len()));
        self.read("read_pba", offset, bytes);
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        self.call(&format!("write_pba {offset} {}", hex(bytes))).expect("an ignored write");
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let claims = self.call(&format!("claims {vector}"))?.0;
        let by_host = self.events == EventPath::Irqfd
            && claims > 0
            && self.ask_engine("is_attached") == 1
            && self.ask_engine("is_loading") == 0;
        match u16::try_from(vector) {
            Ok(vector) if by_host => {
                self.signal(vector);
                Ok(())
            }
            _ => self.input(&format!("notify {vector}")).map(drop),
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        self.host.messages()
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        Some(self)
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        Some(self)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        Some(self)
    }
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        Some(self)
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        Some(self)
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        Some(self)
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        None
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        Some(self)
    }
}

impl Claims for CDevice {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        self.input(&format!("claim {vector}")).map(drop)
    }

    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        self.input(&format!("unclaim {vector}")).map(drop)
    }

    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        Ok(self.call(&format!("claims {vector}"))?.0)
    }
}

impl Withdrawal for CDevice {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        self.input(&format!("withdraw {vector}")).map(drop)
    }
}

impl SideChannel for CDevice {
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused> {
        self.input(&format!("set_mask {vector} {}", u8::from(masked))).map(drop)
    }

    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused> {
        let Message { address, data } = message;
        self.input(&format!("set_message {vector} {address} {data}")).map(drop)
    }
}

impl FunctionReset for CDevice {
    fn reset(&mut self) {
        self.always("reset");
    }
}

impl BusMaster for CDevice {
    fn set_bus_master(&mut self, on: bool) {
        self.always(&format!("set_bus_master {}", u8::from(on)));
    }
}

impl IntxLog for CDevice {
    fn calls(&mut self) -> Vec<IntxCall> {
        self.host.intx()
    }
}

impl HostLog for CDevice {
    fn calls(&mut self) -> Vec<HostCall> {
        self.host.calls()
    }
}

impl HostScript for CDevice {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        self.host.fail_arm(vector, fail);
    }

    fn signal(&mut self, vector: u16) {
        self.host.signal(vector);
        self.take_fallback();
    }
}

impl Attachment for CDevice {
    fn attach(&mut self) {
        self.always("attach");
    }

    fn detach(&mut self) {
        self.always("detach");
        self.host.detached();
    }
}

impl Snapshots for CDevice {
    fn save(&mut self) -> Vec<u8> {
        self.bytes_of("save")
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.call(&format!("load {}", hex(bytes))).map(drop)
    }

    fn resume(&mut self) {
        self.always("resume");
    }
}

impl QemuField for CDevice {
    fn save_field(&mut self) -> Vec<u8> {
        self.bytes_of("save_qemu")
    }

    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        self.call(&format!("load_qemu {control} {}", hex(field))).map(drop)
    }

    fn resume_field(&mut self) {
        self.always("resume");
    }
}
