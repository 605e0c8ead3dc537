//! I/O ports: those of configuration space, and those that reset the machine.
//!
//! An access belongs to the register in which it begins, and is split into aligned parts, each of which
//! begins anew. It was watched on QEMU 7.2.

use super::machine::Machine;
use super::setup::MachineKind;

/// Configuration address. Only a dword written here changes it; every read begins with its lowest byte.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;
/// Reset control of the south bridges, in the middle of the configuration address.
const RESET_CONTROL: u16 = 0xcf9;
const RESET: u8 = 1 << 2;
/// The keyboard controller's command, of which one is known here: reset.
const KEYBOARD: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;
/// System control port A.
const CONTROL_A: u16 = 0x92;
const CONTROL_A_RESET: u8 = 1 << 0;

/// The registers behind the ports.
#[derive(Debug)]
pub(super) struct Ports {
    kind: MachineKind,
    config_address: u32,
    reset_control: u8,
    /// Whether the guest asked for a reset, until somebody takes it.
    reset_wanted: bool,
}

impl Ports {
    pub(super) const fn new(kind: MachineKind) -> Self {
        Self { kind, config_address: 0, reset_control: 0, reset_wanted: false }
    }

    /// The configuration address outlives it, as QEMU's.
    pub(super) const fn reset(&mut self) {
        self.reset_control = 0;
    }

    /// Function and offset that are selected at `port`: its low bits are or-ed to those of the address.
    fn selected(&self, port: u16) -> Option<(u32, usize)> {
        let there = self.config_address & CONFIG_ENABLE != 0 && self.kind != MachineKind::None;
        let register = self.config_address & 0xff | u32::from(port & 3);
        there.then_some((self.config_address >> 8 & 0xffff, register as usize))
    }

    /// How many of `left` bytes at `port` are one access.
    fn part(&self, port: u16, left: usize) -> usize {
        match port {
            _ if self.kind == MachineKind::None => 1,
            RESET_CONTROL if self.kind == MachineKind::Q35 => left,
            RESET_CONTROL => 1,
            CONFIG_ADDRESS..=0xcff => aligned(usize::from(port), left),
            _ => 1,
        }
    }

    fn each_part(&self, port: u16, len: usize, mut each: impl FnMut(u16, std::ops::Range<usize>)) {
        let mut from = 0;
        while from < len {
            // Behind the last port is none.
            let port = u16::try_from(from).ok().and_then(|from| port.checked_add(from));
            let (at, fits) = match port {
                Some(port) => (port, self.part(port, len - from)),
                None => (u16::MAX, len - from),
            };
            each(at, from..from + fits);
            from += fits;
        }
    }
}

impl Machine {
    /// A port is read, 1, 2 or 4 bytes. Where nothing is, it reads all ones.
    pub(super) fn input(&self, port: u16, len: usize) -> u32 {
        let mut bytes = [0; 4];
        self.ports.each_part(port, len, |at, part| self.input_part(at, &mut bytes[part]));
        u32::from_le_bytes(bytes)
    }

    fn input_part(&self, port: u16, bytes: &mut [u8]) {
        let ports = &self.ports;
        match port {
            RESET_CONTROL if ports.kind != MachineKind::None => {
                bytes.fill(0);
                bytes[0] = ports.reset_control;
            }
            CONFIG_ADDRESS..CONFIG_DATA if ports.kind != MachineKind::None => {
                bytes.copy_from_slice(&ports.config_address.to_le_bytes()[..bytes.len()]);
            }
            CONFIG_DATA..=0xcff => {
                bytes.fill(0xff);
                if let Some((function, offset)) = ports.selected(port)
                    && self.read_config(function, offset, bytes)
                {
                    // Behind the end of a function that is there is 0.
                    let inside = (LEN - offset).min(bytes.len());
                    bytes[inside..].fill(0);
                }
            }
            _ => bytes.fill(0xff),
        }
    }

    /// A port is written.
    pub(super) fn output(&mut self, port: u16, bytes: &[u8]) {
        let mut parts = Vec::new();
        self.ports.each_part(port, bytes.len(), |at, part| parts.push((at, part)));
        for (at, part) in parts {
            self.output_part(at, &bytes[part]);
        }
        if std::mem::take(&mut self.ports.reset_wanted) {
            self.reset();
            self.resets += 1;
        }
        self.carry_out();
    }

    fn output_part(&mut self, port: u16, bytes: &[u8]) {
        let ports = &mut self.ports;
        match (port, bytes) {
            (RESET_CONTROL, &[value, ..]) => {
                let kept = if ports.kind == MachineKind::Q35 { 0x0a } else { 0x02 };
                ports.reset_control = value & kept;
                ports.reset_wanted |= value & RESET != 0;
            }
            (KEYBOARD, &[KEYBOARD_RESET, ..]) => ports.reset_wanted = true,
            (CONTROL_A, &[value, ..]) => ports.reset_wanted |= value & CONTROL_A_RESET != 0,
            (CONFIG_ADDRESS, &[a, b, c, d]) => {
                ports.config_address = u32::from_le_bytes([a, b, c, d]);
            }
            (CONFIG_DATA..=0xcff, _) => {
                if let Some((function, offset)) = ports.selected(port) {
                    let inside = (LEN - offset).min(bytes.len());
                    self.write_config(function, offset, &bytes[..inside]);
                }
            }
            _ => {}
        }
    }
}

/// How many of `left` bytes at `offset` are an aligned access, of at most a dword.
pub(super) fn aligned(offset: usize, left: usize) -> usize {
    let most = if offset.is_multiple_of(4) { 4 } else { 1 << offset.trailing_zeros() };
    (1 << left.ilog2()).min(most)
}

/// Bytes of conventional configuration space.
const LEN: usize = 256;
