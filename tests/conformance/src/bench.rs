//! What a case works with: a device, the guest's and the host's view of it, and a record of what
//! was done, for the report.

use super::adapter::{Device, HostCall, IntxCall, Message, Refused};
use super::lab::Lab;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;

/// Why a case ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was seen not to conform.
    Failed {
        /// The last things that were done.
        did: String,
        /// What should have been seen.
        expected: String,
        /// What was seen.
        got: String,
    },
    /// The adapter does not offer what it takes.
    NotObservable(String),
}

/// How a case ends.
pub(super) type Outcome = Result<(), Stop>;

/// The message a case gives to `v` unless it says otherwise: no two alike. It goes to one of four
/// processors, and that of every sampled vector is an interrupt there, so that a real interrupt
/// controller can be asked for it.
pub(super) fn message_of(v: u16) -> Message {
    Message { address: 0xfee0_0000 | u64::from(v & 3) << 12, data: 0x4020 + u32::from(v) }
}

/// All that a guest can read, and the claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    config: [u8; 12],
    entries: Vec<(u16, [u32; 4])>,
    pba: Vec<u64>,
    claims: Vec<u32>,
}

/// A device under test.
pub(super) struct Bench<'a> {
    pub(super) lab: &'a Lab<'a>,
    pub(super) device: Box<dyn Device>,
    done: Vec<String>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(lab: &'a Lab<'a>, device: Box<dyn Device>) -> Self {
        Self { lab, device, done: Vec::new() }
    }

    /// Records a step.
    pub(super) fn did(&mut self, step: impl Into<String>) {
        self.done.push(step.into());
    }

    /// Fails the case.
    pub(super) fn fail(&self, expected: impl Into<String>, got: impl Into<String>) -> Outcome {
        let skipped = self.done.len().saturating_sub(LAST_STEPS);
        let mut did = format!("N={}: ", self.lab.n);
        if skipped > 0 {
            did += &format!("({skipped} steps) ... ");
        }
        did += &self.done[skipped..].join("; ");
        Err(Stop::Failed { did, expected: expected.into(), got: got.into() })
    }

    /// `got` must be `expected`.
    pub(super) fn expect<T: PartialEq + Debug>(
        &self,
        what: &str,
        got: &T,
        expected: &T,
    ) -> Outcome {
        if got == expected {
            return Ok(());
        }
        self.fail(format!("{what}: {}", short(expected)), short(got))
    }

    /// Something must hold.
    pub(super) fn must(&self, holds: bool, what: &str, got: &impl Debug) -> Outcome {
        if holds { Ok(()) } else { self.fail(what, short(got)) }
    }

    /// A call must be refused.
    pub(super) fn must_refuse<T: Debug>(&self, call: &str, got: Result<T, Refused>) -> Outcome {
        match got {
            Err(Refused(why)) if !why.is_empty() => Ok(()),
            Err(_) => self.fail(format!("{call}: refused with a reason"), "no reason"),
            Ok(value) => self.fail(format!("{call}: refused"), format!("accepted: {value:?}")),
        }
    }

    // The guest.

    pub(super) fn config(&mut self) -> [u8; 12] {
        let mut bytes = [0; 12];
        self.device.read_config(0, &mut bytes);
        bytes
    }

    pub(super) fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.did(format!("config write at {offset}: {bytes:02x?}"));
        self.device.write_config(offset, bytes);
    }

    /// Message Control as Linux writes it, 16 bits.
    fn control(&mut self, name: &str, high: u8) {
        self.did(name);
        self.device.write_config(2, &[0, high]);
    }

    pub(super) fn enable(&mut self) {
        self.control("enable", 0x80);
    }

    pub(super) fn enable_masked(&mut self) {
        self.control("set Enable and Function Mask", 0xc0);
    }

    pub(super) fn disable(&mut self) {
        self.control("disable", 0);
    }

    pub(super) fn read_table(&mut self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0x5a; len];
        self.device.read_table(offset, &mut bytes);
        bytes
    }

    pub(super) fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.did(format!("table write at {offset:#x}: {bytes:02x?}"));
        self.device.write_table(offset, bytes);
    }

    pub(super) fn read_pba(&mut self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0x5a; len];
        self.device.read_pba(offset, &mut bytes);
        bytes
    }

    /// Dword `field` (0 to 3) of the entry of `v`.
    pub(super) fn dword(&mut self, v: u16, field: u64) -> u32 {
        let mut bytes = [0x5a; 4];
        self.device.read_table(entry(v) + 4 * field, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn set_dword(&mut self, v: u16, field: u64, value: u32) {
        self.did(format!("v{v}+{:x}={value:x}", 4 * field));
        self.device.write_table(entry(v) + 4 * field, &value.to_le_bytes());
    }

    /// {data, control} as one qword (A4).
    pub(super) fn set_data_and_control(&mut self, v: u16, data: u32, control: u32) {
        let value = u64::from(control) << 32 | u64::from(data);
        self.did(format!("v{v}+8={value:x} (8 bytes)"));
        self.device.write_table(entry(v) + 8, &value.to_le_bytes());
    }

    pub(super) fn entry(&mut self, v: u16) -> [u32; 4] {
        [0, 1, 2, 3].map(|field| self.dword(v, field))
    }

    /// Address and data, in three dwords.
    pub(super) fn program(&mut self, v: u16, message: Message) {
        self.set_dword(v, 0, message.address as u32);
        self.set_dword(v, 1, (message.address >> 32) as u32);
        self.set_dword(v, 2, message.data);
    }

    pub(super) fn mask(&mut self, v: u16) {
        self.did(format!("mask v{v}"));
        self.device.write_table(entry(v) + 12, &1_u32.to_le_bytes());
    }

    pub(super) fn unmask(&mut self, v: u16) {
        self.did(format!("unmask v{v}"));
        self.device.write_table(entry(v) + 12, &0_u32.to_le_bytes());
    }

    /// The PBA in qwords.
    pub(super) fn pba(&mut self) -> Vec<u64> {
        let words = u64::from(self.lab.n.div_ceil(64));
        (0..words).map(|word| self.pba_qword(8 * word)).collect()
    }

    pub(super) fn pba_qword(&mut self, offset: u64) -> u64 {
        let mut bytes = [0x5a; 8];
        self.device.read_pba(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn is_pending(&mut self, v: u16) -> bool {
        self.pba_qword(u64::from(v / 64) * 8) >> (v % 64) & 1 != 0
    }

    pub(super) fn expect_pending(&mut self, v: u16, expected: bool) -> Outcome {
        let got = self.is_pending(v);
        self.did(format!("read the PBA bit of v{v}"));
        self.expect("PBA bit", &u8::from(got), &u8::from(expected))
    }

    pub(super) fn image(&mut self) -> Image {
        let vectors = self.lab.looked_at();
        let claims = self.device.claims().map(|claims| {
            vectors.iter().map(|v| claims.count(u32::from(*v)).unwrap_or(u32::MAX)).collect()
        });
        Image {
            config: self.config(),
            entries: vectors.into_iter().map(|v| (v, self.entry(v))).collect(),
            pba: self.pba(),
            claims: claims.unwrap_or_default(),
        }
    }

    // The device.

    pub(super) fn fire(&mut self, v: u16) -> Outcome {
        self.did(format!("fire v{v}"));
        match self.device.fire(u32::from(v)) {
            Ok(()) => Ok(()),
            Err(Refused(why)) => self.fail("the event is taken", why),
        }
    }

    /// What was sent since the last look.
    pub(super) fn messages(&mut self) -> Vec<Message> {
        self.device.messages()
    }

    pub(super) fn expect_messages(&mut self, expected: &[Message]) -> Outcome {
        let got = self.messages();
        self.expect("messages", &Shown(&got), &Shown(expected))
    }

    pub(super) fn expect_message(&mut self, v: u16) -> Outcome {
        self.expect_messages(&[message_of(v)])
    }

    pub(super) fn expect_silence(&mut self) -> Outcome {
        self.expect_messages(&[])
    }

    pub(super) fn claim_if_offered(&mut self, v: u16) -> Outcome {
        let Some(claims) = self.device.claims() else { return Ok(()) };
        let claimed = claims.claim(u32::from(v));
        self.did(format!("claim v{v}"));
        claimed.or_else(|Refused(why)| self.fail("the claim is taken", why))
    }

    /// Claims again after a reset, which may have ended the claims (C01).
    pub(super) fn claim_again(&mut self, v: u16) -> Outcome {
        match self.device.claims().map(|claims| claims.count(u32::from(v))) {
            Some(Ok(0)) => self.claim_if_offered(v),
            _ => Ok(()),
        }
    }

    pub(super) fn withdraw(&mut self, v: u16) -> Outcome {
        self.did(format!("withdraw v{v}"));
        let device = self.device.withdrawal().ok_or_else(|| no("withdrawal"))?;
        let got = device.withdraw(u32::from(v));
        got.or_else(|Refused(why)| self.fail("the withdrawal is taken", why))
    }

    pub(super) fn reset(&mut self) -> Outcome {
        self.did("reset");
        self.device.function_reset().ok_or_else(|| no("function reset"))?.reset();
        Ok(())
    }

    pub(super) fn bus_master(&mut self, on: bool) -> Outcome {
        self.did(if on { "bus master on" } else { "bus master off" });
        self.device.bus_master().ok_or_else(|| no("bus master"))?.set_bus_master(on);
        Ok(())
    }

    pub(super) fn intx_calls(&mut self) -> Result<Vec<IntxCall>, Stop> {
        Ok(self.device.intx().ok_or_else(|| no("the INTx log"))?.calls())
    }

    // The host.

    pub(super) fn logs_host(&mut self) -> bool {
        self.device.host_log().is_some()
    }

    /// All host calls since the last look.
    pub(super) fn all_calls(&mut self) -> Result<Vec<HostCall>, Stop> {
        Ok(self.device.host_log().ok_or_else(|| no("the host log"))?.calls())
    }

    /// Those that change what the host delivers: Arm, Disarm and Reroute.
    pub(super) fn moves(&mut self) -> Result<Vec<HostCall>, Stop> {
        let moves = |call: &HostCall| {
            !matches!(call, HostCall::Send { .. } | HostCall::Poll { .. } | HostCall::Drain { .. })
        };
        Ok(self.all_calls()?.into_iter().filter(moves).collect())
    }

    pub(super) fn expect_moves(&mut self, expected: &[HostCall]) -> Outcome {
        let got = self.moves()?;
        self.expect("host calls", &got.as_slice(), &expected)
    }

    /// As [`expect_moves`](Self::expect_moves), where a host is logged; otherwise notes it.
    pub(super) fn expect_moves_if_logged(&mut self, expected: &[HostCall]) -> Outcome {
        if self.logs_host() {
            return self.expect_moves(expected);
        }
        self.lab.note("host calls are not logged");
        Ok(())
    }

    pub(super) fn can_script(&mut self) -> bool {
        self.device.host_script().is_some()
    }

    pub(super) fn signal(&mut self, v: u16) -> Outcome {
        self.did(format!("host event for v{v}"));
        self.device.host_script().ok_or_else(|| no("a host script"))?.signal(v);
        Ok(())
    }

    pub(super) fn fail_arm(&mut self, v: u16, fail: bool) -> Outcome {
        self.did(format!("host: arming v{v} {}", if fail { "fails" } else { "works" }));
        self.device.host_script().ok_or_else(|| no("a host script"))?.fail_arm(v, fail);
        Ok(())
    }

    // Snapshots.

    pub(super) fn save(&mut self) -> Result<Vec<u8>, Stop> {
        self.did("save");
        Ok(self.device.snapshots().ok_or_else(|| no("snapshots"))?.save())
    }

    pub(super) fn load(&mut self, bytes: &[u8]) -> Outcome {
        self.did("load");
        let got = self.device.snapshots().ok_or_else(|| no("snapshots"))?.load(bytes);
        got.or_else(|Refused(why)| self.fail("the snapshot is taken", why))
    }

    pub(super) fn resume(&mut self) -> Outcome {
        self.did("resume");
        self.device.snapshots().ok_or_else(|| no("snapshots"))?.resume();
        Ok(())
    }

    /// Forgets all messages and calls so far.
    pub(super) fn forget(&mut self) {
        self.device.messages();
        if let Some(log) = self.device.host_log() {
            log.calls();
        }
        if let Some(log) = self.device.backend_log() {
            log.calls();
        }
        if let Some(log) = self.device.intx() {
            log.calls();
        }
    }
}

/// Keeps count of the armed vectors.
#[derive(Debug, Default)]
pub(super) struct Live(pub(super) BTreeMap<u16, Message>);

impl Live {
    /// Takes calls in; the first one that is not balanced (H1).
    pub(super) fn follow(&mut self, calls: &[HostCall]) -> Result<(), String> {
        for call in calls {
            let balanced = match *call {
                HostCall::Arm { vector, message } => self.0.insert(vector, message).is_none(),
                HostCall::Disarm { vector } => self.0.remove(&vector).is_some(),
                HostCall::Reroute { vector, message } => self.0.insert(vector, message).is_some(),
                _ => true,
            };
            if !balanced {
                return Err(format!("{call:x?} is not balanced"));
            }
        }
        Ok(())
    }
}

pub(super) fn no(what: &str) -> Stop {
    Stop::NotObservable(format!("{what}: not offered"))
}

pub(super) fn entry(v: u16) -> u64 {
    16 * u64::from(v)
}

/// Messages for people.
#[derive(PartialEq, Eq)]
struct Shown<'a>(&'a [Message]);

impl Debug for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let one = |m: &Message| format!("{:#x}={:#x}", m.address, m.data);
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

fn short(value: &impl Debug) -> String {
    let mut text = format!("{value:x?}");
    if text.len() > LONGEST {
        text = format!("{}...", text.chars().take(LONGEST).collect::<String>());
    }
    text
}

/// Steps that a failure names.
const LAST_STEPS: usize = 14;
/// Characters of a value that a failure shows.
const LONGEST: usize = 400;
