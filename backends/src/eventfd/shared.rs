//! Eventfds that other processes hold, read and written so that nothing they do makes the caller
//! wait.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use rustix::io::{Errno, ReadWriteFlags, preadv2, read};
use std::io::{self, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use vmm_sys_util::aio::{IOCB_CMD_PREAD, IOCB_FLAG_RESFD, IoContext, IoControlBlock, IoEvent};
use vmm_sys_util::eventfd::EventFd;

/// Takes over an eventfd that another process sent. The sender is not trusted: another kind of
/// descriptor could block, raise a signal, or fill up when it is written. The eventfd is made
/// non-blocking, for all processes that have it. Any of them can undo that, so use [`take`] and
/// [`ring`] for all that follows.
///
/// # Errors
/// `InvalidInput` for another kind of descriptor, and for an eventfd that was made with
/// EFD_SEMAPHORE, where the kernel tells (6.5 and later, in `/proc`): it keeps events behind. Errors of
/// `fcntl`. Without asynchronous I/O, those of reading `/proc`. The descriptor is then closed.
#[expect(unsafe_code, reason = "`EventFd` is made of a raw descriptor only")]
pub fn import(descriptor: OwnedFd) -> io::Result<EventFd> {
    let is_eventfd = match bell().and_then(|bell| bell.can_ring(&descriptor)) {
        Some(can) => can,
        None => has_name_of_eventfd(&descriptor)?,
    };
    if !is_eventfd {
        let what = format!("descriptor {} is no eventfd", descriptor.as_raw_fd());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? | OFlags::NONBLOCK)?;
    // SAFETY: the descriptor is open and owned here, and given up.
    let eventfd = unsafe { EventFd::from_raw_fd(descriptor.into_raw_fd()) };
    refuse_semaphore(&eventfd)?;
    Ok(eventfd)
}

/// Calls `call` with `descriptor` as an [`EventFd`], which has it for that time only: for calls of other
/// crates, and for [`EventFd::try_clone`].
#[expect(unsafe_code, reason = "`EventFd` is made of a raw descriptor only")]
pub fn with<T>(descriptor: BorrowedFd<'_>, call: impl FnOnce(&EventFd) -> T) -> T {
    // SAFETY: the descriptor is open for as long as it is borrowed, and is not closed here.
    let eventfd = ManuallyDrop::new(unsafe { EventFd::from_raw_fd(descriptor.as_raw_fd()) });
    call(&eventfd)
}

/// Takes all events from `eventfd`. Returns whether there were any. Never waits, whatever other
/// holders do to the flags of the open file (K14).
///
/// An eventfd that was made with EFD_SEMAPHORE gives its events one by one: at most 64 are taken,
/// and more stay for the next call.
pub fn take(eventfd: &EventFd) -> bool {
    take_by(eventfd, read_at_once)
}

fn take_by(eventfd: &EventFd, read: fn(BorrowedFd<'_>) -> Option<u64>) -> bool {
    let eventfd = borrow(eventfd);
    let mut taken = false;
    for _ in 0..SEMAPHORE_EVENTS {
        match read(eventfd) {
            None => break,
            // Only one, or one of a semaphore.
            Some(1) => taken = true,
            Some(_) => return true,
        }
    }
    taken
}

/// Adds an event to `eventfd`. Returns whether one is in it now: a full counter counts as well,
/// because one message stands for all its events (A12). Never waits, whatever other holders do
/// (K14). With asynchronous I/O ([`IoContext`]) that is certain. Where the kernel refuses it, a
/// holder that clears O_NONBLOCK and fills the counter within the same microsecond can make the
/// caller wait.
pub fn ring(eventfd: &EventFd) -> bool {
    bell().is_some_and(|bell| bell.ring(eventfd)) || write_if_room(eventfd)
}

/// Returns the bell of the process, if the kernel has any.
fn bell() -> Option<&'static Bell> {
    static BELL: OnceLock<Option<Bell>> = OnceLock::new();
    BELL.get_or_init(|| Bell::new().ok()).as_ref()
}

/// Asks `/proc` what a descriptor is.
fn has_name_of_eventfd(descriptor: &OwnedFd) -> io::Result<bool> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?;
    Ok(name.as_os_str() == "anon_inode:[eventfd]")
}

/// Refuses an eventfd of which each read takes one event and leaves the others (EFD_SEMAPHORE): KVM
/// reads like that too, so such a one cannot be a vector's (K14). Before Linux 6.5, and without
/// `/proc`, the kernel does not tell, and [`take`] alone looks after what is left.
pub(crate) fn refuse_semaphore(eventfd: &EventFd) -> io::Result<()> {
    if is_semaphore(eventfd) == Some(true) {
        let what = "an eventfd with EFD_SEMAPHORE keeps events behind";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

/// Returns whether `eventfd` is a semaphore, if the kernel tells.
fn is_semaphore(eventfd: &EventFd) -> Option<bool> {
    let facts = format!("/proc/self/fdinfo/{}", eventfd.as_raw_fd());
    let facts = openat(CWD, facts, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // Some 150 bytes; they come in one read.
    let mut text = [0; 1024];
    let length = read(&facts, &mut text[..]).ok()?;
    let facts = std::str::from_utf8(text.get(..length)?).ok()?;
    let told = facts.lines().find_map(|line| line.strip_prefix("eventfd-semaphore:"))?;
    Some(told.trim() != "0")
}

/// The most events that one [`take`] reads from a semaphore.
const SEMAPHORE_EVENTS: usize = 64;

/// Reads the counter, if it is not 0. RWF_NOWAIT holds for this call alone, so that no flag that
/// others can change matters.
fn read_at_once(eventfd: BorrowedFd<'_>) -> Option<u64> {
    let mut count = [0; 8];
    let here = u64::MAX; // an eventfd has no offsets
    match preadv2(eventfd, &mut [IoSliceMut::new(&mut count)], here, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(u64::from_ne_bytes(count)),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => read_if_ready(eventfd),
        Err(_) => None,
    }
}

/// Reads the counter, if it is not 0, on a kernel before 5.8. Another holder that clears O_NONBLOCK
/// and empties the counter within the same microsecond can make the caller wait.
fn read_if_ready(eventfd: BorrowedFd<'_>) -> Option<u64> {
    let mut count = [0; 8];
    is_ready(eventfd, PollFlags::IN).then(|| read(eventfd, &mut count[..]).ok())??;
    Some(u64::from_ne_bytes(count))
}

/// Writes 1, unless the counter is full.
fn write_if_room(eventfd: &EventFd) -> bool {
    if !is_ready(borrow(eventfd), PollFlags::OUT) {
        return true;
    }
    match eventfd.write(1) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Returns whether `eventfd` is ready, after making it non-blocking again.
fn is_ready(eventfd: BorrowedFd<'_>, how: PollFlags) -> bool {
    // Where this fails, `poll` alone decides.
    let _ = fcntl_getfl(eventfd).and_then(|flags| fcntl_setfl(eventfd, flags | OFlags::NONBLOCK));
    let mut polled = [PollFd::new(&eventfd, how)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(how)
}

#[expect(unsafe_code, reason = "`EventFd` shows a raw descriptor only")]
pub(crate) fn borrow(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: it is that of `eventfd`, which lives as long as the result.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}

/// Makes the kernel itself signal eventfds, which never waits: a full counter stays full. `write`
/// has no flag for that (K14). Each signal announces the end of a read of no bytes, of the eventfd
/// itself.
struct Bell(IoContext);

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self(IoContext::new(ENDED_READS)?))
    }

    /// Returns whether the kernel could signal `descriptor`, which it can if it is an eventfd; `None` when
    /// that cannot be told. Nothing is signalled: the read that would end has a flag that no kernel knows,
    /// which is found after the descriptor was looked at.
    fn can_ring(&self, descriptor: &OwnedFd) -> Option<bool> {
        match self.refuse(descriptor.as_fd())? {
            Errno::OPNOTSUPP => Some(true),
            // Before Linux 4.13 there are no flags, and every refusal is the same.
            Errno::INVAL => {
                let known = EventFd::new(0).ok()?;
                (self.refuse(borrow(&known))? == Errno::OPNOTSUPP).then_some(false)
            }
            _ => None, // about the kernel, not the descriptor: no memory, or no room
        }
    }

    /// Returns the error of a read that is refused.
    fn refuse(&self, descriptor: BorrowedFd<'_>) -> Option<Errno> {
        // One of these is `aio_rw_flags`, by the byte order; the kernel sets the other.
        let (aio_key, aio_reserved1) = (1 << 31, 1 << 31);
        let read = IoControlBlock { aio_key, aio_reserved1, ..read_nothing(descriptor)? };
        let error = self.submit(read).err()?;
        error.raw_os_error().map(Errno::from_raw_os_error)
    }

    /// Returns whether the kernel signalled `eventfd`.
    fn ring(&self, eventfd: &EventFd) -> bool {
        let read = read_nothing(borrow(eventfd));
        read.is_some_and(|read| self.submit(read).is_ok_and(|submitted| submitted == 1))
    }

    /// Has the kernel carry out `read`. It keeps what ended until it is asked, and has room for so many: then
    /// it refuses all others (`WouldBlock`), whatever they are, until it was asked.
    fn submit(&self, mut read: IoControlBlock) -> io::Result<usize> {
        // Other threads may take the room that is made here.
        for _ in 1..ATTEMPTS {
            match self.0.submit(&[&mut read]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ended = [IoEvent::default(); ENDED_READS as usize];
                    self.0.get_events(0, &mut ended, None)?;
                }
                other => return other,
            }
        }
        self.0.submit(&[&mut read])
    }
}

/// A read of no bytes of a descriptor, whose end is signalled to that as an eventfd.
fn read_nothing(descriptor: BorrowedFd<'_>) -> Option<IoControlBlock> {
    let descriptor = u32::try_from(descriptor.as_raw_fd()).ok()?;
    Some(IoControlBlock {
        aio_lio_opcode: IOCB_CMD_PREAD as u16,
        aio_fildes: descriptor,
        aio_flags: IOCB_FLAG_RESFD,
        aio_resfd: descriptor,
        ..IoControlBlock::default()
    })
}

/// How many reads may end before the kernel is asked for them.
const ENDED_READS: u32 = 64;
/// How often a read is tried.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_time, make_blocking};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EFD_SEMAPHORE};

    const FULL: u64 = u64::MAX - 1;

    #[test]
    fn k14_what_a_peer_made_blocking_is_read_and_rung_without_waiting() {
        in_time(|| {
            let theirs = EventFd::new(EFD_NONBLOCK).unwrap();
            let ours = import(borrow(&theirs).try_clone_to_owned().unwrap()).unwrap();
            make_blocking(&theirs);
            assert!(!take(&ours));
            assert!(ring(&ours));
            assert!(take(&ours) && !take(&ours));
            theirs.write(FULL).unwrap();
            assert!(ring(&ours), "it holds an event");
            assert!(take(&ours) && !take(&ours));
        });
    }

    #[test]
    fn k14_a_ring_never_waits_however_soon_a_peer_fills_the_counter() {
        in_time(|| {
            let ours = EventFd::new(0).unwrap();
            let theirs = ours.try_clone().unwrap();
            let rung = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&rung);
            const ROUNDS: usize = 20_000;
            let hostile = std::thread::spawn(move || {
                loop {
                    fcntl_setfl(borrow(&theirs), OFlags::NONBLOCK).unwrap();
                    let filled = theirs.write(FULL).is_ok();
                    make_blocking(&theirs);
                    // Leaves it full until the other has come by, which one that waits does not.
                    let before = seen.load(Ordering::SeqCst);
                    while filled && before < ROUNDS && seen.load(Ordering::SeqCst) < before + 2 {
                        std::hint::spin_loop();
                        if seen.load(Ordering::SeqCst) >= ROUNDS {
                            return;
                        }
                    }
                    if before >= ROUNDS {
                        return;
                    }
                    take(&theirs);
                }
            });
            for _ in 0..ROUNDS {
                assert!(ring(&ours));
                rung.fetch_add(1, Ordering::SeqCst);
            }
            hostile.join().unwrap();
        });
    }

    #[test]
    fn events_of_a_semaphore_are_all_taken_and_a_kernel_that_tells_says_what_it_is() {
        let semaphore = EventFd::new(EFD_NONBLOCK | EFD_SEMAPHORE).unwrap();
        semaphore.write(7).unwrap();
        assert!(take(&semaphore) && !take(&semaphore));
        semaphore.write(1000).unwrap();
        assert!(take(&semaphore));
        assert_eq!(semaphore.read().unwrap(), 1, "bounded: the rest is for the next call");
        let plain = EventFd::new(EFD_NONBLOCK).unwrap();
        assert!(matches!(is_semaphore(&semaphore), Some(true) | None));
        assert!(matches!(is_semaphore(&plain), Some(false) | None));
    }

    #[test]
    fn a_descriptor_says_itself_whether_it_is_an_eventfd_and_is_left_as_it_was() {
        use rustix::event::epoll;
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let bell = Bell::new().expect("a kernel with asynchronous I/O");
        for (count, flags) in [(0, 0), (5, EFD_NONBLOCK), (3, EFD_SEMAPHORE), (FULL, 0)] {
            let eventfd = EventFd::new(flags).unwrap();
            if count > 0 {
                eventfd.write(count).unwrap();
            }
            let descriptor = borrow(&eventfd).try_clone_to_owned().unwrap();
            assert_eq!(bell.can_ring(&descriptor), Some(true));
            assert!(has_name_of_eventfd(&descriptor).unwrap());
            let left = read_at_once(borrow(&eventfd)).unwrap_or(0);
            assert_eq!(left, if flags == EFD_SEMAPHORE { 1 } else { count });
        }
        let (pipe, _writer) = std::io::pipe().unwrap();
        let others: [OwnedFd; 6] = [
            pipe.into(),
            std::os::unix::net::UnixStream::pair().unwrap().0.into(),
            std::fs::File::open("/dev/null").unwrap().into(),
            tempfile(),
            epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).unwrap(),
        ];
        for other in others {
            assert_eq!(bell.can_ring(&other), Some(false), "{other:?}");
            assert!(!has_name_of_eventfd(&other).unwrap());
            assert_eq!(import(other).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    /// A file of no bytes that nobody else sees.
    fn tempfile() -> OwnedFd {
        rustix::fs::memfd_create("", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn what_a_descriptor_is_can_be_told_with_no_room_for_another_read() {
        let bell = Bell::new().expect("a kernel with asynchronous I/O");
        let eventfd = EventFd::new(0).unwrap();
        let full = loop {
            match bell.0.submit(&[&mut read_nothing(borrow(&eventfd)).unwrap()]) {
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(full, io::ErrorKind::WouldBlock);
        let descriptor = borrow(&eventfd).try_clone_to_owned().unwrap();
        assert_eq!(bell.can_ring(&descriptor), Some(true));
        assert_eq!(bell.can_ring(&tempfile()), Some(false));
    }

    #[test]
    fn an_older_kernel_is_asked_what_is_ready_first() {
        in_time(|| {
            let eventfd = EventFd::new(0).unwrap();
            let theirs = eventfd.try_clone().unwrap();
            assert!(!take_by(&eventfd, read_if_ready));
            assert!(write_if_room(&eventfd));
            assert!(take_by(&eventfd, read_if_ready));
            theirs.write(FULL).unwrap();
            make_blocking(&theirs);
            assert!(write_if_room(&eventfd), "it holds an event");
            assert!(take_by(&eventfd, read_if_ready) && !take_by(&eventfd, read_if_ready));
        });
    }

    #[test]
    fn a_bell_that_many_threads_ring_loses_none() {
        const EACH: u64 = 5_000;
        let eventfds: Vec<EventFd> = (0..4).map(|_| EventFd::new(0).unwrap()).collect();
        let bell = Bell::new().expect("a kernel with asynchronous I/O");
        std::thread::scope(|scope| {
            for eventfd in &eventfds {
                let bell = &bell;
                scope.spawn(move || (0..EACH).for_each(|_| assert!(bell.ring(eventfd))));
            }
        });
        eventfds.iter().for_each(|eventfd| assert_eq!(eventfd.read().unwrap(), EACH));
    }
}
