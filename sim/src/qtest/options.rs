//! QEMU's command line, as far as this machine is one that it can ask for.

use super::keyed::Keyed;
use super::setup::{Backing, DeviceKind, Front, MachineKind, SeatedDevice};
use crate::replay::Peer;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Why a command line is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// QEMU may know it; here it is not.
    #[error("{0}: this option of QEMU is not supported here")]
    Unknown(String),
    /// No value follows an option that has one.
    #[error("{0}: its value is missing")]
    NoValue(String),
    /// Part of an option's value.
    #[error("{option}: `{key}` is not supported here")]
    Key {
        /// Of which option.
        option: String,
        /// What is not.
        key: String,
    },
    /// A part that must be there.
    #[error("{option}: `{key}` is missing")]
    Missing {
        /// Of which option.
        option: String,
        /// What is missing.
        key: &'static str,
    },
    /// A value that cannot be.
    #[error("{option}: {key}={value}: {expected} expected")]
    Value {
        /// Of which option.
        option: String,
        /// Of which of its parts.
        key: &'static str,
        /// The value.
        value: String,
        /// What can be.
        expected: &'static str,
    },
    /// A name that nothing has.
    #[error("{option}: there is no {what} `{name}`")]
    NotThere {
        /// Which option says it.
        option: String,
        /// Of what kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that something has already.
    #[error("{option}: {what} `{name}` is there already")]
    Taken {
        /// Which option says it.
        option: String,
        /// Of what kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is nobody to take commands from.
    #[error("-qtest is missing: the machine is driven by it")]
    NoQtest,
}

type Named<T> = BTreeMap<String, T>;

/// What was read so far. Names may be used before they are given, as with QEMU.
#[derive(Default)]
struct Read {
    qtest: Option<String>,
    qmp: Vec<String>,
    sockets: Named<PathBuf>,
    memories: Named<Backing>,
    devices: Vec<Keyed>,
    machine: MachineKind,
    bare: bool,
    stopped: bool,
    memory: Option<u64>,
    log: Option<PathBuf>,
    traced: bool,
    trace: Option<PathBuf>,
}

impl Front {
    /// Reads what QEMU would be started with, its program's name left out.
    ///
    /// # Errors
    /// [`OptionError`]: everything that is not this machine's is refused by name.
    pub fn from_arguments(arguments: &[String], policy: Peer) -> Result<Self, OptionError> {
        let mut read = Read::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
            let option = format!("-{}", name.unwrap_or_default());
            match name {
                Some("nodefaults") => read.bare = true,
                Some("S") => read.stopped = true,
                Some(name) if VALUED.contains(&name) => {
                    let value = rest.next().ok_or_else(|| OptionError::NoValue(option.clone()))?;
                    read.option(&option, value)?;
                }
                _ => return Err(OptionError::Unknown(argument.clone())),
            }
        }
        read.front(policy)
    }
}

impl Read {
    fn option(&mut self, option: &str, value: &str) -> Result<(), OptionError> {
        match option {
            "-qtest" => self.qtest = Some(value.to_owned()),
            "-qmp" => self.qmp.push(value.to_owned()),
            "-qtest-log" => self.log = (value != "none").then(|| value.into()),
            "-D" => self.trace = Some(value.into()),
            "-L" => {} // nothing is loaded from there
            "-mon" => {
                let mut keyed = Keyed::new(option, value, "chardev");
                self.qmp.push(format!("chardev:{}", keyed.need("chardev")?));
                let mode = keyed.need("mode")?;
                if mode != "control" {
                    return Err(keyed.wrong("mode", mode, "control"));
                }
                keyed.finish()?;
            }
            "-chardev" => {
                let mut keyed = Keyed::new(option, value, "backend");
                let backend = keyed.need("backend")?;
                if backend != "socket" {
                    return Err(keyed.wrong("backend", backend, "socket"));
                }
                let (id, path) = (keyed.need("id")?, keyed.need("path")?);
                client(&mut keyed)?;
                insert(&mut self.sockets, option, "character device", id, path.into())?;
                keyed.finish()?;
            }
            "-object" => {
                let mut keyed = Keyed::new(option, value, "qom-type");
                let id = keyed.need("id")?;
                let backing = Backing::read(&mut keyed)?;
                insert(&mut self.memories, option, "object", id, backing)?;
                keyed.finish()?;
            }
            "-device" => self.devices.push(Keyed::new(option, value, "driver")),
            "-machine" | "-M" => {
                let mut keyed = Keyed::new(option, value, "type");
                if let Some(machine) = keyed.take("type") {
                    self.machine = match machine.as_str() {
                        "pc" => MachineKind::Pc,
                        "q35" => MachineKind::Q35,
                        "none" => MachineKind::None,
                        _ => return Err(keyed.wrong("type", machine, "pc, q35 or none")),
                    };
                }
                if let Some(accelerator) = keyed.take("accel") {
                    accelerated(&keyed, accelerator)?;
                }
                keyed.finish()?;
            }
            "-accel" => {
                let mut keyed = Keyed::new(option, value, "accel");
                let accelerator = keyed.need("accel")?;
                accelerated(&keyed, accelerator)?;
                keyed.finish()?;
            }
            "-m" => {
                let mut keyed = Keyed::new(option, value, "size");
                let size = keyed.size("size", 1 << 20)?;
                // Above, it would be in two places.
                if !(1 << 20..=2 << 30).contains(&size) {
                    return Err(keyed.wrong("size", value.to_owned(), "from 1M to 2G"));
                }
                self.memory = Some(size);
                keyed.finish()?;
            }
            "-trace" => {
                let mut keyed = Keyed::new(option, value, "enable");
                let event = keyed.need("enable")?;
                if event != "memory_region_ops_write" {
                    return Err(keyed.wrong("enable", event, "memory_region_ops_write"));
                }
                self.traced = true;
                keyed.finish()?;
            }
            // What is left says that something is not there, and nothing is.
            _ => {
                let mut keyed = Keyed::new(option, value, "kind");
                let kind = keyed.need("kind")?;
                if kind != "none" {
                    return Err(keyed.wrong("kind", kind, "none"));
                }
                keyed.finish()?;
            }
        }
        Ok(())
    }

    fn front(mut self, policy: Peer) -> Result<Front, OptionError> {
        let qtest = self.qtest.take().ok_or(OptionError::NoQtest)?;
        let qtest = self.socket("-qtest", &qtest)?;
        let qmp = std::mem::take(&mut self.qmp);
        let qmp = qmp.iter().map(|qmp| self.socket("-qmp", qmp)).collect::<Result<Vec<_>, _>>()?;
        if self.traced && self.trace.is_none() {
            return Err(OptionError::Missing { option: "-trace".to_owned(), key: "-D FILE" });
        }
        let mut devices = Vec::new();
        for keyed in std::mem::take(&mut self.devices) {
            let device = self.device(keyed, &devices)?;
            devices.push(device);
        }
        Ok(Front {
            qtest,
            qmp,
            machine: self.machine,
            memory: self.memory.unwrap_or(128 << 20),
            devices,
            policy,
            stopped: self.stopped,
            log: self.log,
            trace: self.trace.filter(|_| self.traced),
        })
    }

    fn device(
        &mut self,
        mut keyed: Keyed,
        seated: &[SeatedDevice],
    ) -> Result<SeatedDevice, OptionError> {
        let option = "-device";
        let (first, bus) = match (self.machine, self.bare) {
            (MachineKind::None, _) => {
                return Err(no(option, "bus on machine", "none".to_owned()));
            }
            // Where QEMU has its own devices, and without -nodefaults a display and a network.
            (MachineKind::Pc, bare) => (if bare { 2 } else { 4 }, "pci.0"),
            (MachineKind::Q35, bare) => (if bare { 1 } else { 3 }, "pcie.0"),
        };
        keyed.take("id");
        if let Some(asked) = keyed.take("bus")
            && asked != bus
        {
            return Err(no(option, "bus", asked));
        }
        let taken = |slot: u8| seated.iter().any(|device| device.slot == slot);
        let slot = match keyed.take("addr") {
            Some(text) => match slot(&text) {
                Some(slot) if !taken(slot) => slot,
                Some(_) => return Err(twice(option, "device in slot", text)),
                None => return Err(keyed.wrong("addr", text, "a slot from 1 to 1f")),
            },
            None => match (first..32).find(|slot| !taken(*slot)) {
                Some(slot) => slot,
                None => return Err(no(option, "slot that is free on bus", bus.to_owned())),
            },
        };
        let driver = keyed.need("driver")?;
        let kind = match driver.as_str() {
            "ivshmem-doorbell" => {
                let text = keyed.take("vectors").unwrap_or_else(|| "1".to_owned());
                let vectors = text.parse().ok().filter(|vectors| (1..=2048).contains(vectors));
                let Some(vectors) = vectors else {
                    return Err(keyed.wrong("vectors", text, "a number from 1 to 2048"));
                };
                let server = keyed.need("chardev")?;
                keyed.flag("ioeventfd")?; // KVM's, and there is none
                // Who migrates does not matter: nobody does.
                match keyed.take("master").as_deref() {
                    None | Some("on" | "off" | "auto") => {}
                    Some(other) => {
                        return Err(keyed.wrong("master", other.to_owned(), "on, off or auto"));
                    }
                }
                DeviceKind::Doorbell { server: self.chardev(option, &server)?, vectors }
            }
            "ivshmem-plain" => {
                let memory = keyed.need("memdev")?;
                keyed.flag("master")?;
                match self.memories.remove(&memory) {
                    Some(memory) => DeviceKind::Plain { memory },
                    None => return Err(no(option, "free memory object", memory)),
                }
            }
            _ => {
                return Err(keyed.wrong("driver", driver, "ivshmem-doorbell or ivshmem-plain"));
            }
        };
        keyed.finish()?;
        Ok(SeatedDevice { slot, kind })
    }

    /// `unix:PATH` or `chardev:ID`.
    fn socket(&self, option: &'static str, text: &str) -> Result<PathBuf, OptionError> {
        let mut keyed = Keyed::new(option, text, "to");
        let to = keyed.need("to")?;
        let path = match to.split_once(':') {
            Some(("unix", path)) => path.into(),
            Some(("chardev", id)) => self.chardev(option, id)?,
            _ => return Err(keyed.wrong("to", to, "unix:PATH or chardev:ID")),
        };
        client(&mut keyed)?;
        keyed.finish()?;
        Ok(path)
    }

    fn chardev(&self, option: &'static str, id: &str) -> Result<PathBuf, OptionError> {
        let path = self.sockets.get(id).cloned();
        path.ok_or_else(|| no(option, "character device", id.to_owned()))
    }
}

impl Backing {
    fn read(keyed: &mut Keyed) -> Result<Self, OptionError> {
        let kind = keyed.need("qom-type")?;
        let size = keyed.size("size", 1)?;
        let share = keyed.flag("share")?;
        match kind.as_str() {
            // Of this process alone, shared or not.
            "memory-backend-ram" | "memory-backend-memfd" => Ok(Self::Anonymous { size }),
            "memory-backend-file" if share == Some(true) => {
                Ok(Self::File { path: keyed.need("mem-path")?.into(), size })
            }
            // The file is written, not a private copy of its pages.
            "memory-backend-file" => Err(keyed.wrong("share", "off".to_owned(), "on")),
            _ => {
                let expected = "memory-backend-file, memory-backend-memfd or memory-backend-ram";
                Err(keyed.wrong("qom-type", kind, expected))
            }
        }
    }
}

/// Options with a value. Those without a meaning of their own must be `none`.
const VALUED: [&str; 20] = [
    "qtest",
    "qmp",
    "qtest-log",
    "D",
    "L",
    "mon",
    "chardev",
    "object",
    "device",
    "machine",
    "M",
    "accel",
    "m",
    "trace",
    "display",
    "monitor",
    "serial",
    "parallel",
    "vga",
    "net",
];

/// Sockets are connected to, as those of a harness that listens.
fn client(keyed: &mut Keyed) -> Result<(), OptionError> {
    match keyed.flag("server")? {
        Some(true) => Err(keyed.wrong("server", "on".to_owned(), "off")),
        _ => Ok(()),
    }
}

fn accelerated(keyed: &Keyed, accelerator: String) -> Result<(), OptionError> {
    // There are no processors; with KVM there would be a VM.
    let known = accelerator.split(':').all(|each| ["tcg", "qtest"].contains(&each));
    if known { Ok(()) } else { Err(keyed.wrong("accel", accelerator, "tcg or qtest")) }
}

/// A slot and, if it is 0, a function: hexadecimal with or without 0x.
fn slot(text: &str) -> Option<u8> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u8::from_str_radix(digits, 16).ok().filter(|slot| (1..32).contains(slot))
}

fn insert<T>(
    named: &mut Named<T>,
    option: &str,
    what: &'static str,
    name: String,
    value: T,
) -> Result<(), OptionError> {
    if named.contains_key(&name) {
        return Err(twice(option, what, name));
    }
    named.insert(name, value);
    Ok(())
}

fn no(option: &str, what: &'static str, name: String) -> OptionError {
    OptionError::NotThere { option: option.to_owned(), what, name }
}

fn twice(option: &str, what: &'static str, name: String) -> OptionError {
    OptionError::Taken { option: option.to_owned(), what, name }
}

#[cfg(test)]
mod tests;
