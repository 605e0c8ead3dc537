//! A guest that runs on a thread of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MP_STATE_RUNNABLE, kvm_mp_state};
use kvm_ioctls::{Error, VcpuExit, VcpuFd};
use msix_sim::real_mode;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN};

use super::program::{ENTRY, FAULT_PORT, STACK, STOP_PORT};
use super::{Machine, PATIENCE, Program, counter, eventually, load};

/// What a guest did that is not for RAM: its callback plays the devices.
#[derive(Debug, PartialEq, Eq)]
pub enum GuestAccess<'a> {
    /// It reads memory at `address`, as many bytes as `data` has; `data` is the answer, zeros at
    /// first.
    Read {
        /// Guest-physical.
        address: u64,
        /// To fill in.
        data: &'a mut [u8],
    },
    /// It writes `data` to memory at `address`.
    Write {
        /// Guest-physical.
        address: u64,
        /// 1, 2, 4 or 8 bytes.
        data: &'a [u8],
    },
    /// It writes `value` to a port.
    Out {
        /// The port.
        port: u16,
        /// What it wrote.
        value: u32,
    },
}

/// A [`Program`] running on vCPU 0 of a [`Machine`], until [`Guest::stop`], or until the guest is
/// dropped.
///
/// While it runs, the local APIC of vCPU 0 cannot be looked at.
pub struct Guest {
    // `None` once joined.
    thread: Option<JoinHandle<Result<(), String>>>,
    stop: Arc<AtomicBool>,
    ram: GuestMemoryMmap,
}

impl Guest {
    /// Loads `program` and starts it; `access` is called on the guest's thread, and the guest waits
    /// for it.
    ///
    /// # Panics
    /// When vCPU 0 is missing, already has a guest, or is refused by KVM.
    #[must_use]
    pub fn start(
        machine: &Machine,
        program: &Program,
        access: impl FnMut(GuestAccess<'_>) + Send + 'static,
    ) -> Self {
        // A handler of any kind makes the signal interrupt KVM_RUN rather than end the process.
        signal_hook::flag::register(SIGRTMIN(), Arc::default())
            .unwrap_or_else(|e| panic!("a handler for the signal that stops a guest: {e}"));
        let ram = machine.ram.clone();
        ram.write_slice(&program.image, GuestAddress(0))
            .unwrap_or_else(|e| panic!("loading a guest program: {e}"));
        reset(&mut machine.vcpu(0)).unwrap_or_else(|e| panic!("registers of vCPU 0: {e}"));

        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (vcpu, stop, ram) = (machine.vcpus[0].clone(), stop.clone(), ram.clone());
            move || {
                let ended = run(&vcpu, &stop, access);
                // The vCPU before the memory that it accesses.
                drop(vcpu);
                drop(ram);
                ended
            }
        });
        Self { thread: Some(thread), stop, ram }
    }

    /// How often the guest took interrupt `vector`.
    #[must_use]
    pub fn count(&self, vector: u8) -> u32 {
        load(&self.ram, counter(vector))
    }

    /// Waits until the guest took interrupt `vector` so many times or more.
    ///
    /// # Panics
    /// When the guest ends before that, or it takes longer than [`PATIENCE`].
    pub fn wait_count(&mut self, vector: u8, count: u32) {
        self.wait(counter(vector), &format!("{count} interrupts {vector:#x}"), |n| n >= count);
    }

    /// Waits until the word in RAM at `addr` has a value.
    ///
    /// # Panics
    /// When the guest ends before that, or it takes longer than [`PATIENCE`].
    pub fn wait_word(&mut self, addr: u32, value: u32) {
        self.wait(addr, &format!("the word at {addr:#x} to be {value:#x}"), |n| n == value);
    }

    fn wait(&mut self, addr: u32, what: &str, done: impl Fn(u32) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Before the look, which then sees all that the guest did.
            let ended = self.ended();
            let last = load(&self.ram, addr);
            if done(last) {
                return;
            }
            if ended {
                self.join();
                panic!("the guest ended before {what}: it is {last:#x}");
            }
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}: it is {last:#x}");
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Waits for a guest that ends itself by [`Step::Stop`](super::Step::Stop).
    ///
    /// # Panics
    /// When it ended otherwise, its callback panicked, or it takes longer than [`PATIENCE`].
    pub fn finish(mut self) {
        eventually("a guest that ends itself", || self.ended());
        self.join();
    }

    /// Stops the guest, wherever it is, and gives vCPU 0 back to the machine.
    ///
    /// # Panics
    /// When the guest had failed, its callback panicked or does not return.
    pub fn stop(mut self) {
        self.kick();
        self.join();
    }

    fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn kick(&self) {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = &self.thread else { return };
        let deadline = Instant::now() + PATIENCE;
        // Again and again: a signal that comes just before KVM_RUN does not interrupt it.
        while !thread.is_finished() {
            // The thread is not joined, so there is nobody else to signal.
            let _ = thread.kill(SIGRTMIN());
            if Instant::now() > deadline {
                // Not a panic: a drop may have come here from one.
                eprintln!("a guest does not stop: does its callback wait for something?");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        assert!(thread.is_finished(), "a guest that does not stop");
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(how)) => panic!("the guest failed: {how}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kick();
        if !thread::panicking() {
            self.join();
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("ended", &self.ended()).finish_non_exhaustive()
    }
}

/// Real mode at the program's entry.
fn reset(vcpu: &mut VcpuFd) -> Result<(), Error> {
    // An earlier guest may have left it halted.
    vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE })?;
    real_mode::enter(vcpu, ENTRY, STACK)
}

fn run(
    vcpu: &Mutex<VcpuFd>,
    stop: &AtomicBool,
    mut access: impl FnMut(GuestAccess<'_>),
) -> Result<(), String> {
    let mut vcpu = vcpu.lock().unwrap_or_else(PoisonError::into_inner);
    while !stop.load(Ordering::Acquire) {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(STOP_PORT, _)) => break,
            Ok(VcpuExit::IoOut(FAULT_PORT, vector)) => {
                return Err(format!("it took exception {vector:?}"));
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                let value = data.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
                access(GuestAccess::Out { port, value });
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                data.fill(0);
                access(GuestAccess::Read { address, data });
            }
            Ok(VcpuExit::MmioWrite(address, data)) => access(GuestAccess::Write { address, data }),
            // A signal: ours, or one for the whole process.
            Ok(VcpuExit::Intr) => {}
            Err(error) if interrupted(error) => {}
            Ok(exit) => return Err(format!("exit {exit:?}")),
            Err(error) => return Err(format!("KVM_RUN: {error}")),
        }
    }
    // KVM completes the last access at the next entry: this one goes no further.
    vcpu.set_kvm_immediate_exit(1);
    let _ = vcpu.run();
    vcpu.set_kvm_immediate_exit(0);
    Ok(())
}

fn interrupted(error: Error) -> bool {
    std::io::Error::from(error).kind() == std::io::ErrorKind::Interrupted
}
