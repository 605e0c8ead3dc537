//! How an engine is made: its memory, its layout and policy, and the callbacks of its host.

use crate::engine::{CEngine, Engine};
use crate::error::{CError, done};
use crate::layout::CLayout;
use crate::policy::CPolicy;
use crate::raw;
use core::ffi::{c_int, c_void};
use msix_core::{Message, Msix};

/// What a vector writes to memory: 32 bits, `data`, at `address` of the bus master's address space.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CMessage {
    /// Where to.
    pub address: u64,
    /// What.
    pub data: u32,
}

impl From<Message> for CMessage {
    fn from(message: Message) -> Self {
        Self { address: message.address, data: message.data }
    }
}

impl From<CMessage> for Message {
    fn from(message: CMessage) -> Self {
        Self { address: message.address, data: message.data }
    }
}

/// The callbacks of a host, one for each kind of effect. They are called in the order of the list while
/// the input that emitted it runs; see "Callbacks" at the top of this file for what they may call.
/// `opaque` is that of the configuration. A callback must return: no longjmp(), no exception.
///
/// `send` must be there. Each other may be null, with the meaning that its comment gives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CHostOps {
    /// sizeof(struct msix_host_ops).
    pub size: usize,
    /// Sends one message now. If it cannot, it must send it later: the engine has forgotten it.
    pub send: Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32, message: CMessage)>,
    /// Attaches the host to a vector ("use notifier"): delivers its events from now on, with this message.
    /// Returns 0, or anything else if it cannot; then its events must come in through
    /// msix_engine_notify(), until the vector is disarmed. Null: it never can.
    pub arm:
        Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32, message: CMessage) -> c_int>,
    /// Changes the message of an armed vector. Returns 0, or anything else if it cannot; then it must no
    /// longer deliver the vector. Null: the vector is disarmed and armed again instead.
    pub reroute:
        Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32, message: CMessage) -> c_int>,
    /// Detaches the host from a vector ("release notifier"): it stops to deliver the vector, and holds its
    /// events until it is polled or armed again. Called for every vector that `arm` was called for, also
    /// if that failed. Null: nothing.
    pub disarm: Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32)>,
    /// Ends the `arm` and `reroute` calls of one input, which come one after the other: for a host that
    /// commits routes together. Report what fails with msix_engine_report_failed(). Null: nothing.
    pub commit: Option<unsafe extern "C" fn(opaque: *mut c_void)>,
    /// Asks which of up to 64 vectors have held events, and takes the events from where they are held. Bit
    /// k of `vectors` and of the answer stands for vector `first` + k. It may call
    /// msix_engine_set_pending() instead for each. Null: nothing is ever held.
    pub poll: Option<unsafe extern "C" fn(opaque: *mut c_void, first: u32, vectors: u64) -> u64>,
    /// Throws away the held events of a vector. Null: nothing is ever held.
    pub drain: Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32)>,
    /// Notes that the guest wrote the entry of a vector; only under `snoop` of the policy. Null: nothing.
    pub snoop: Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32, message: CMessage)>,
    /// Lowers the INTx line. Null: the device has none.
    pub intx_deassert: Option<unsafe extern "C" fn(opaque: *mut c_void)>,
    /// Lets the device drive its INTx line again, as its own status says. Null: the device has none.
    pub intx_reevaluate: Option<unsafe extern "C" fn(opaque: *mut c_void)>,
}

/// How an engine is made.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CEngineConfig {
    /// sizeof(struct msix_engine_config).
    pub size: usize,
    /// Vector count, and where table and PBA lie.
    pub layout: CLayout,
    /// The sizes of the six BARs, bytes, 0 for one that is not there, to check the layout against; null if
    /// they are not known.
    pub bar_sizes: *const u64,
    /// The choices that PCI leaves open.
    pub policy: CPolicy,
    /// Nonzero: as under Xen, messages with data that names vector 0 (bits 7:0) are exempt from both
    /// masks.
    pub exempt_pirqs: u32,
    /// The callbacks, which are copied. Null: effects stay in a list, from which
    /// msix_engine_take_effects() takes them.
    pub ops: *const CHostOps,
    /// Passed to every callback.
    pub opaque: *mut c_void,
}

/// Alignment of an engine's memory, bytes. msix_engine_align() is what is needed.
pub const MSIX_ENGINE_ALIGN: usize = 16;
/// Bytes of an engine's memory for any number of vectors: see MSIX_ENGINE_SIZE.
pub const MSIX_ENGINE_FIXED_SIZE: usize = 640;
/// Bytes of an engine's memory for every 64 vectors: see MSIX_ENGINE_SIZE.
pub const MSIX_ENGINE_WORD_SIZE: usize = 112;
/// Bytes of an engine's memory for each vector: see MSIX_ENGINE_SIZE.
pub const MSIX_ENGINE_VECTOR_SIZE: usize = 18;

/// Returns how many bytes of memory an engine for `vectors` vectors needs; 0 unless there are 1 to 2048.
/// MSIX_ENGINE_SIZE(n) is a constant that is at least this.
#[unsafe(no_mangle)]
pub extern "C" fn msix_engine_size(vectors: u32) -> usize {
    u16::try_from(vectors)
        .ok()
        .filter(|count| (1..=2048).contains(count))
        .and_then(raw::Places::of)
        .map_or(0, |places| places.size)
}

/// Returns the alignment that an engine's memory needs, bytes. MSIX_ENGINE_ALIGN is at least this.
#[unsafe(no_mangle)]
pub extern "C" fn msix_engine_align() -> usize {
    raw::ALIGN
}

/// Makes an engine in `size` bytes of `memory`, whatever they hold, in its reset state: MSI-X disabled,
/// all vectors masked, nothing pending, no claims, no host attached, bus master on. The memory belongs to
/// the engine from then on: it must stay where it is, and there is nothing to free. `*engine` is the
/// engine. `config` and its `ops` are copied. No callback is called.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE if there is too little memory or
/// `size` of a struct is wrong, MSIX_ERROR_VALUE for a policy, and the MSIX_ERROR_LAYOUT ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_init(
    memory: *mut c_void,
    size: usize,
    config: *const CEngineConfig,
    engine: *mut *mut CEngine,
) -> c_int {
    done(init(memory, size, config, engine))
}

fn init(
    memory: *mut c_void,
    size: usize,
    config: *const CEngineConfig,
    engine: *mut *mut CEngine,
) -> Result<(), CError> {
    raw::write(engine, core::ptr::null_mut())?;
    sized(raw::read(config.cast())?, size_of::<CEngineConfig>())?;
    let config = raw::read(config)?;
    let layout = config.layout.checked(config.bar_sizes)?;
    let policy = config.policy.checked()?;
    let host = if config.ops.is_null() {
        None
    } else {
        sized(raw::read(config.ops.cast())?, size_of::<CHostOps>())?;
        let ops = raw::read(config.ops)?;
        if ops.send.is_none() {
            return Err(CError::Null);
        }
        Some((ops, config.opaque))
    };
    let made = raw::place(memory, size, layout.vectors(), |parts| {
        let mut msix = Msix::with_storage(parts.storage, layout, policy)?;
        if config.exempt_pirqs != 0 {
            msix = msix.with_exempt_messages(|message| message.data & 0xff == 0); // H25
        }
        Ok(Engine::new(msix, parts.list, parts.held, parts.address, host))
    })?;
    raw::write(engine, made)
}

/// Checks the first field of a struct: later versions add fields.
pub(crate) fn sized(size: usize, expected: usize) -> Result<(), CError> {
    if size == expected { Ok(()) } else { Err(CError::Size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_of_the_header_are_enough_for_every_count() {
        assert!(msix_engine_align() <= MSIX_ENGINE_ALIGN);
        for n in 1..=2048_u16 {
            let (vectors, n) = (u32::from(n), usize::from(n));
            let constant = MSIX_ENGINE_FIXED_SIZE
                + MSIX_ENGINE_WORD_SIZE * n.div_ceil(64)
                + MSIX_ENGINE_VECTOR_SIZE * n;
            let needed = msix_engine_size(vectors);
            assert!(needed > 0 && needed <= constant, "{vectors}: {needed} of {constant}");
        }
        assert_eq!((msix_engine_size(0), msix_engine_size(2049)), (0, 0));
        assert_eq!(msix_engine_size(0x1_0001), 0, "not truncated");
    }
}
