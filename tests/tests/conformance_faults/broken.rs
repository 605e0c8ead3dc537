//! The engine, broken in one way: every call goes through to it, but for what the fault changes.

use super::Fault;
use msix_conformance::{
    Attachment, BackendCall, BackendLog, BusMaster, Claims, Device, FunctionReset, HostCall,
    HostLog, HostScript, IntxCall, IntxLog, Message, QemuField, Refused, SideChannel, Snapshots,
    Withdrawal,
};
use std::collections::{BTreeMap, BTreeSet};

/// A device with a fault.
pub(super) struct Broken {
    pub(super) inner: Box<dyn Device>,
    pub(super) fault: Fault,
    pub(super) vectors: u16,
    /// Messages that the fault sends.
    extra: Vec<Message>,
    /// The calls to the host, after the fault had its way.
    pub(super) log: Vec<HostCall>,
    /// What the kernel was asked for.
    pub(super) kernel: Vec<BackendCall>,
    /// The routes it has.
    pub(super) routes: BTreeMap<u16, Message>,
    /// INTx calls of the fault.
    pub(super) intx: Vec<IntxCall>,
    /// Vectors the fault remembers something of.
    pub(super) marked: BTreeSet<u16>,
    /// Bits of the control byte that the fault remembers.
    control: u8,
    /// Events that the fault counts.
    counted: usize,
    /// The messages from before a rewrite that the fault ignores.
    stale: BTreeMap<u16, Message>,
    /// Whether a backend listens.
    pub(super) attached: bool,
    /// Whether a load waits for its resume.
    pub(super) loading: bool,
}

impl Broken {
    pub(super) fn new(inner: Box<dyn Device>, fault: Fault, vectors: u16) -> Self {
        Self {
            inner,
            fault,
            vectors,
            extra: Vec::new(),
            log: Vec::new(),
            kernel: Vec::new(),
            routes: BTreeMap::new(),
            intx: Vec::new(),
            marked: BTreeSet::new(),
            control: 0,
            counted: 0,
            stale: BTreeMap::new(),
            attached: true,
            loading: false,
        }
    }

    pub(super) fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn high(&mut self) -> u8 {
        let mut high = [0];
        self.inner.read_config(3, &mut high);
        high[0]
    }

    fn dword(&mut self, v: u16, field: u64) -> u32 {
        let mut bytes = [0; 4];
        self.inner.read_table(16 * u64::from(v) + 4 * field, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn is_masked(&mut self, v: u16) -> bool {
        self.dword(v, 3) & 1 != 0
    }

    pub(super) fn message(&mut self, v: u16) -> Message {
        let address = u64::from(self.dword(v, 1)) << 32 | u64::from(self.dword(v, 0));
        Message { address, data: self.dword(v, 2) }
    }

    fn is_pending(&mut self, v: u16) -> bool {
        let mut bytes = [0; 8];
        self.inner.read_pba(8 * u64::from(v / 64), &mut bytes);
        u64::from_le_bytes(bytes) >> (v % 64) & 1 != 0
    }

    pub(super) fn withdraw_all(&mut self) {
        let device = self.inner.withdrawal().expect("the engine offers it");
        for v in 0..self.vectors {
            device.withdraw(u32::from(v)).expect("in the table");
        }
    }

    /// Collects the calls to the host, without the calls that the fault swallows.
    pub(super) fn log_calls(&mut self, keep: impl Fn(&HostCall) -> bool) {
        let log = self.inner.host_log().expect("the engine offers it");
        let mut calls: Vec<HostCall> = log.calls().into_iter().filter(keep).collect();
        if self.is(Fault::SendBeforeArm) {
            calls.sort_by_key(|call| !matches!(call, HostCall::Send { .. }));
        }
        self.tell_kernel(&calls);
        self.log.extend(calls);
    }

    /// A backend made of the host's calls: routes are kept, and committed when they changed.
    fn tell_kernel(&mut self, calls: &[HostCall]) {
        let each = self.is(Fault::CommitPerVector);
        let (mut arm, mut changed) = (Vec::new(), false);
        for call in calls {
            if let HostCall::Arm { vector, message } | HostCall::Reroute { vector, message } = *call
                && self.routes.insert(vector, message) != Some(message)
            {
                self.kernel.push(BackendCall::Route { vector });
                if each {
                    self.kernel.push(BackendCall::Commit);
                }
                changed = true;
            }
            match *call {
                HostCall::Arm { vector, .. } => arm.push(BackendCall::Arm { vector }),
                HostCall::Disarm { vector } => self.kernel.push(BackendCall::Disarm { vector }),
                _ => {}
            }
        }
        let commit = (changed && !each).then_some(BackendCall::Commit);
        if self.is(Fault::ArmBeforeCommit) {
            self.kernel.extend(arm);
            self.kernel.extend(commit);
        } else {
            self.kernel.extend(commit);
            self.kernel.extend(arm);
        }
    }

    fn before_config_write(&mut self, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let Some(high) = 3_usize.checked_sub(offset).and_then(|at| bytes.get_mut(at)) else {
            return bytes;
        };
        match self.fault {
            Fault::ReservedControlBits => self.control = *high & 0x20,
            Fault::IgnoresFunctionMask => {
                self.control = *high & 0x40;
                *high &= !0x40;
            }
            _ => {}
        }
        bytes
    }

    fn after_config_write(&mut self, before: u8, after: u8) {
        let (on, off) = (after & !before, before & !after);
        let unmask = match self.fault {
            Fault::FunctionUnmaskUnmasksAll => off & 0x40 != 0,
            Fault::EnableUnmasks => on & 0x80 != 0,
            _ => false,
        };
        for v in (0..self.vectors).filter(|_| unmask) {
            self.inner.write_table(16 * u64::from(v) + 12, &[0; 4]);
        }
        if self.is(Fault::EnableForgetsUnmasks) && on & 0x80 != 0 {
            for v in std::mem::take(&mut self.marked) {
                self.inner.write_table(16 * u64::from(v) + 12, &[1, 0, 0, 0]);
            }
        }
        if self.is(Fault::IntxAtEveryWrite) && after & 0x80 != 0 {
            self.intx.push(IntxCall::Deassert);
        }
    }

    /// A dword or qword of one entry; whether the fault did it instead.
    fn entry_write(&mut self, v: u16, field: u64, bytes: &[u8]) -> bool {
        let at = 16 * u64::from(v);
        let (masked, old) = (self.is_masked(v), self.message(v));
        let unmasks = field == 3 && bytes[0] & 1 == 0;
        let fault = self.fault;
        match fault {
            Fault::QwordLosesItsHalf if bytes.len() == 8 => {
                self.inner.write_table(at + 4 * field, &bytes[..4]);
                return true;
            }
            Fault::QwordControlFirst if bytes.len() == 8 && field == 2 => {
                self.inner.write_table(at + 12, &bytes[4..]);
                self.inner.write_table(at + 8, &bytes[..4]);
                return true;
            }
            Fault::SteeringTagMasks if unmasks && bytes.iter().any(|byte| *byte != 0) => {
                self.inner.write_table(at + 12, &[1, 0, 0, 0]);
                return true;
            }
            Fault::LosesPendingAtFirstUnmask if unmasks && self.marked.insert(v) => {
                let device = self.inner.withdrawal().expect("the engine offers it");
                device.withdraw(u32::from(v)).expect("in the table");
            }
            Fault::SecondUnmaskSends if unmasks && !masked => self.extra.push(old),
            Fault::EnableForgetsUnmasks if unmasks && self.high() & 0x80 == 0 => {
                self.marked.insert(v);
            }
            Fault::ArmsMaskedEntries if masked && field < 3 => {
                self.log.push(HostCall::Arm { vector: v, message: old });
            }
            Fault::TornReroute if !masked && field == 0 && bytes.len() == 4 => {
                self.inner.write_table(at, bytes);
                let message = self.message(v);
                self.log.push(HostCall::Reroute { vector: v, message });
                return true;
            }
            Fault::CommitPerWrite if masked && field < 3 => {
                self.inner.write_table(at + 4 * field, bytes);
                let message = self.message(v);
                self.log.push(HostCall::Reroute { vector: v, message });
                return true;
            }
            Fault::SaveDoesNotPoll if unmasks => self.let_held_events_in(),
            Fault::LiveRewriteNotSent if !masked && field < 3 => {
                self.stale.entry(v).or_insert(old);
            }
            _ => {}
        }
        false
    }

    /// Events that the fault keeps out of the engine until it has to look.
    fn let_held_events_in(&mut self) {
        for v in std::mem::take(&mut self.marked) {
            self.inner.host_script().expect("the engine offers it").signal(v);
        }
    }
}

impl Device for Broken {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.inner.read_config(offset, bytes);
        if let Some(high) = 3_usize.checked_sub(offset).and_then(|at| bytes.get_mut(at)) {
            *high |= self.control;
        }
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if self.is(Fault::StraddlingWritesIgnored) && offset == 1 {
            return;
        }
        if self.is(Fault::AddressWriteDisables) && offset == 4 {
            self.inner.write_config(3, &[0]);
        }
        self.log_calls(|_| true);
        let before = self.high();
        let bytes = self.before_config_write(offset, bytes);
        if self.is(Fault::DisableLosesPending) && bytes.last().is_some_and(|b| b & 0x80 == 0) {
            self.withdraw_all();
        }
        self.inner.write_config(offset, &bytes);
        let after = self.high();
        self.after_config_write(before, after);
        let leaks = self.is(Fault::DisableDoesNotDisarm) && after & 0x80 == 0;
        self.log_calls(|call| !leaks || !matches!(call, HostCall::Disarm { .. }));
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.inner.read_table(offset, bytes);
        if self.is(Fault::PastTheEndReadsZero) && offset >= 16 * u64::from(self.vectors) {
            bytes.fill(0);
        }
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        let aligned = matches!(bytes.len(), 4 | 8) && offset.is_multiple_of(bytes.len() as u64);
        assert!(aligned || !self.is(Fault::MisalignedPanics), "unaligned access");
        if !aligned && self.is(Fault::BytesWriteDwords) {
            return self.inner.write_table(offset / 4 * 4, &[bytes[0]; 4]);
        }
        self.log_calls(|_| true);
        if let (Ok(v), true) = (u16::try_from(offset / 16), aligned)
            && v < self.vectors
            && self.entry_write(v, offset / 4 % 4, bytes)
        {
            return;
        }
        self.inner.write_table(offset, bytes);
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        if self.is(Fault::SaveDoesNotPoll) {
            self.let_held_events_in();
        }
        if self.is(Fault::PollsEverything) {
            for word in 0..u64::from(self.vectors.div_ceil(64)) {
                self.inner.read_pba(8 * word, &mut [0; 8]);
            }
        }
        self.inner.read_pba(offset, bytes);
        if self.is(Fault::HighPendingBitsLost) {
            for (at, byte) in (offset..).zip(bytes) {
                if at % 8 >= 4 {
                    *byte = 0;
                }
            }
        }
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        if self.is(Fault::PbaIsWritable) {
            self.withdraw_all();
        }
        self.inner.write_pba(offset, bytes);
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let Some(v) = u16::try_from(vector).ok().filter(|v| *v < self.vectors) else {
            let answer = self.inner.fire(vector);
            return if self.is(Fault::OutOfRangeAccepted) { Ok(()) } else { answer };
        };
        let fault = self.fault;
        match fault {
            Fault::MaskedEventfdDelivers if self.is_masked(v) => {
                let message = self.message(v);
                self.extra.push(message);
            }
            Fault::CountsMaskedEvents if self.is_pending(v) => self.counted += 1,
            Fault::SendsWhileDisabled if self.high() & 0x80 == 0 && !self.is_masked(v) => {
                let message = self.message(v);
                self.extra.push(message);
            }
            Fault::FailedArmIsDead if self.marked.contains(&v) => return Ok(()),
            Fault::LiveRewriteNotSent if self.stale.contains_key(&v) => {
                self.extra.push(self.stale[&v]);
                return Ok(());
            }
            Fault::SendsBeforeResume if self.loading => {
                let message = self.message(v);
                self.extra.push(message);
            }
            _ => {}
        }
        self.inner.fire(vector)
    }

    fn messages(&mut self) -> Vec<Message> {
        let mut messages = self.inner.messages();
        messages.append(&mut self.extra);
        match self.fault {
            Fault::SendsTwice => messages = messages.into_iter().flat_map(|m| [m, m]).collect(),
            Fault::HighestFirst => messages.reverse(),
            Fault::EqualMessagesAreOne => messages.dedup(),
            Fault::CountsMaskedEvents => {
                if let Some(last) = messages.last().copied() {
                    messages.extend(vec![last; std::mem::take(&mut self.counted)]);
                }
            }
            _ => {}
        }
        messages
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        Some(self)
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        self.inner.side_channel()
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
        Some(self)
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
