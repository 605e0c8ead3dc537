//! A state of the engine and the host around it.

use super::host::Host;
use super::registers::{MAX_EXPLORED, Registers};
use super::tampering::SeededEngine;
use super::world::MsixWorld;
use msix_core::Storage;

/// A state: the engine, the host, and what the guest would read.
#[derive(Debug, Clone)]
pub(crate) struct Node<S> {
    pub(crate) engine: SeededEngine<S>,
    pub(crate) host: Host,
    pub(crate) registers: Registers,
}

impl<S: Storage + Clone> Node<S> {
    pub(crate) fn start(world: &MsixWorld<S>) -> Self {
        let engine = world.start.clone();
        let registers = engine.registers(&world.at);
        Self { engine, host: Host::START, registers }
    }

    /// The state as a number: equal numbers, same future. 13 bits a vector, 6 of the function, and
    /// what a seeded defect remembers.
    ///
    /// Of the messages only counts whether the host was told another address low, address high or
    /// data than the table holds: the engine compares messages and never looks into them, so
    /// exchanging the two values of a dword everywhere changes nothing else. After a load even
    /// that is forgotten, because the resume, as well as a reset, tells everything anew (H15).
    pub(crate) fn key(&self, world: &MsixWorld<S>) -> u64 {
        let mut parts = [0_u64; MAX_EXPLORED];
        let lines = self.host.lines.iter().zip(&self.registers.entries);
        for (part, (line, entry)) in parts.iter_mut().zip(lines).take(world.at.len()) {
            let mut bits = Bits(0);
            bits.push(1, entry.masked().into());
            bits.push(1, entry.pending.into());
            bits.push(2, entry.claims.into());
            bits.push(1, line.armed.into());
            bits.push(2, line.failure as u64);
            bits.push(1, line.held.into());
            bits.push(1, line.answer.into());
            let (old, new) = (line.message, entry.message(&world.policy));
            let address =
                if line.armed && !self.host.loading { old.address ^ new.address } else { 0 };
            bits.push(1, (address & 0xffff_ffff != 0).into());
            bits.push(1, (address >> 32 != 0).into());
            bits.push(1, (line.armed && !self.host.loading && old.data != new.data).into());
            bits.push(1, (line.rewriting && !self.host.loading).into());
            *part = bits.0;
        }
        if world.symmetry {
            parts.sort_unstable();
        }
        let mut bits = Bits(0);
        parts.iter().for_each(|part| bits.push(13, *part));
        for flag in [
            self.registers.enabled,
            self.registers.function_masked,
            self.host.attached,
            self.host.bus_master,
            self.host.loading,
            self.host.intx_told,
        ] {
            bits.push(1, flag.into());
        }
        bits.push(16, self.engine.memory().into());
        bits.0
    }
}

struct Bits(u64);

impl Bits {
    fn push(&mut self, width: u32, value: u64) {
        debug_assert!(value >> width == 0, "{value} has more than {width} bits");
        self.0 = self.0 << width | value;
    }
}
