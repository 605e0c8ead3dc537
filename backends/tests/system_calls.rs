//! Runs what the table of system calls says under a filter that allows exactly that, on a real VM.
//!
//! Each row runs in a process of its own, in a thread of its own under the filter. A call that is not
//! allowed ends it with the call's number. Then each call that the row needs is taken away once, and the
//! process must end for that.
#![cfg(target_arch = "x86_64")]

use kvm_ioctls::{Kvm, VmFd};
use msix_backends::Route;
use msix_backends::eventfd::{Loop, import};
use msix_backends::kvm::{
    Deferral, EventfdOrigin, Function, FunctionSetup, Irqchip, MessageGroup, MessageGroupSetup,
    Notified, Platform, RouteOptions, Routes, Runner, SendingThread,
};
use msix_core::{BarIndex, Delivery, Layout, MsiCapability, Vector};
use rustix::event::{EventfdFlags, eventfd};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::register_signal_handler;

const TABLE: &str = include_str!("../src/kvm/system_calls.md");

/// The number of each system call that the table names.
const NUMBERS: [(&str, i64); 29] = [
    ("brk", libc::SYS_brk),
    ("clock_gettime", libc::SYS_clock_gettime),
    ("close", libc::SYS_close),
    ("epoll_create1", libc::SYS_epoll_create1),
    ("epoll_ctl", libc::SYS_epoll_ctl),
    ("epoll_wait", libc::SYS_epoll_wait),
    ("eventfd2", libc::SYS_eventfd2),
    ("fcntl", libc::SYS_fcntl),
    ("futex", libc::SYS_futex),
    ("io_getevents", libc::SYS_io_getevents),
    ("io_setup", libc::SYS_io_setup),
    ("io_submit", libc::SYS_io_submit),
    ("ioctl", libc::SYS_ioctl),
    ("madvise", libc::SYS_madvise),
    ("mmap", libc::SYS_mmap),
    ("mprotect", libc::SYS_mprotect),
    ("mremap", libc::SYS_mremap),
    ("munmap", libc::SYS_munmap),
    ("openat", libc::SYS_openat),
    ("preadv2", libc::SYS_preadv2),
    ("read", libc::SYS_read),
    ("readlink", libc::SYS_readlink),
    ("sched_yield", libc::SYS_sched_yield),
    ("timerfd_create", libc::SYS_timerfd_create),
    ("timerfd_settime", libc::SYS_timerfd_settime),
    ("write", libc::SYS_write),
    ("exit", libc::SYS_exit),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("sigaltstack", libc::SYS_sigaltstack),
];

/// A row of the table.
struct Row {
    name: &'static str,
    needs: Vec<&'static str>,
    rarely: Vec<&'static str>,
}

/// The rows of the table of `columns` columns.
fn cells(columns: usize) -> impl Iterator<Item = Vec<&'static str>> {
    let row = |line: &'static str| -> Option<Vec<&'static str>> {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(line.split('|').map(str::trim).collect())
    };
    let is_head = |row: &Vec<&str>| row[0] == "row" || row[0].starts_with("---");
    TABLE.lines().filter_map(row).filter(move |row| row.len() == columns && !is_head(row))
}

fn calls(cell: &'static str) -> Vec<&'static str> {
    let calls = cell.split(", ").filter(|call| !call.is_empty());
    calls.map(|call| call.trim_matches('`')).collect()
}

fn rows() -> Vec<Row> {
    let row = |cells: Vec<&'static str>| Row {
        name: cells[0],
        needs: calls(cells[2]),
        rarely: calls(cells[3]),
    };
    cells(4).map(row).collect()
}

fn row(name: &str) -> Row {
    rows().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}

/// The number of a request of `ioctl`.
fn request(name: &str) -> u64 {
    let quoted = format!("`{name}`");
    let found = cells(2).find(|row| row[0] == quoted);
    let number = found.unwrap_or_else(|| panic!("no number of {name}"))[1].trim_matches('`');
    u64::from_str_radix(number.trim_start_matches("0x"), 16).expect("a hexadecimal number")
}

/// Makes the filter of these calls.
fn filter(calls: &[&str]) -> BpfProgram {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let (name, argument) = match call.split_once('(') {
            Some((name, argument)) => (name, Some(argument.trim_end_matches(')'))),
            None => (*call, None),
        };
        let number = NUMBERS.iter().find(|(known, _)| *known == name);
        let rules = rules.entry(number.unwrap_or_else(|| panic!("which call is {name}?")).1);
        let rules = rules.or_default();
        if let Some(argument) = argument {
            let is = SeccompCondition::new(
                1,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                request(argument),
            );
            rules.push(SeccompRule::new(vec![is.unwrap()]).unwrap());
        }
    }
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch)
        .and_then(TryInto::try_into)
        .unwrap()
}

/// The number of the call that was refused.
static REFUSED: AtomicI32 = AtomicI32::new(-1);
/// Whether the thread under the filter has done all.
static DONE: AtomicBool = AtomicBool::new(false);

#[expect(unsafe_code, reason = "the signal's information is a raw pointer")]
extern "C" fn refuse(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler of SIGSYS this structure of 128 bytes, with `si_syscall` 24
    // bytes from its beginning.
    let number = unsafe { info.cast::<i32>().add(6).read() };
    REFUSED.store(number, Ordering::SeqCst);
    spin();
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Runs `act` in this thread under `filter`. The thread never ends: that would take more calls.
fn confined(filter: BpfProgram, act: impl FnOnce()) {
    apply_filter(&filter).expect("a filter");
    act();
    DONE.store(true, Ordering::SeqCst);
    spin();
}

/// Ends the process when all is done, or a call was refused. The thread of that may hold any lock.
fn finish() -> ! {
    let late = Instant::now() + Duration::from_secs(30);
    loop {
        let number = i64::from(REFUSED.load(Ordering::SeqCst));
        if number >= 0 {
            let name = NUMBERS.iter().find(|(_, known)| *known == number);
            println!("refused: {} ({number})", name.map_or("?", |(name, _)| name));
            exit(3);
        }
        if DONE.load(Ordering::SeqCst) {
            exit(0);
        }
        if Instant::now() > late {
            println!("it hangs");
            exit(4);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

struct Vmm;

impl Platform for Vmm {
    fn write_memory(&mut self, _: u64, _: u32) {}
    fn snoop(&mut self, _: Route) {}
}

const VECTORS: u16 = 5;

fn vector(index: u16) -> Vector {
    Vector::new(index)
}

fn vm() -> VmFd {
    let vm = Kvm::new().and_then(|kvm| kvm.create_vm()).expect("a VM");
    vm.create_irq_chip().expect("interrupt controllers");
    vm
}

fn routes(quiet: Duration) -> Arc<Routes> {
    let deferral = Deferral { growth: 100, quiet, longest: Duration::from_secs(3600) };
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = deferral;
    Routes::new(Box::new(vm()), options, Loop::new().expect("a loop"))
}

fn setup() -> FunctionSetup<Vmm> {
    let layout = Layout::exclusive_bar(VECTORS.into(), BarIndex::new(0).unwrap()).unwrap();
    FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) }
}

/// A function with programmed and masked entries.
fn function(routes: &Arc<Routes>, setup: FunctionSetup<Vmm>) -> Function<Vmm> {
    let function = Function::new(routes, setup).expect("no device id is needed");
    function.write_command(0, &[6, 0]);
    for index in 0..VECTORS {
        function.claim(vector(index)).unwrap();
        let entry = u64::from(index) * 16;
        function.write_table(entry, &0xfee0_0000_u64.to_le_bytes());
        function.write_table(entry + 8, &(0x40 + u32::from(index)).to_le_bytes());
    }
    function.write_msix(3, &[0x80]);
    function
}

fn mask(function: &Function<Vmm>, index: u16, masked: bool) {
    function.write_table(u64::from(index) * 16 + 12, &u32::from(masked).to_le_bytes());
}

const PATIENT: Duration = Duration::from_secs(3600);

/// What processors' threads do: the first route at once, a second one that waits, one that others
/// write, one with a pending event, and a look at the PBA.
fn inputs(function: &Function<Vmm>) {
    mask(function, 0, false);
    mask(function, 1, false);
    mask(function, 2, false);
    mask(function, 3, false);
    mask(function, 0, true);
    function.read_pba(0, &mut [0; 8]);
    let _ = function.save();
}

/// Runs a row in this process.
fn run_row(name: &str, filter: BpfProgram) {
    match name {
        "loop" => confined(filter, || std::mem::forget(Loop::new().unwrap())),
        "make" => {
            let (vm, events) = (vm(), Loop::new().unwrap());
            confined(filter, move || {
                let routes = Routes::new(Box::new(vm), RouteOptions::new(Irqchip::Full), events);
                let function = Function::new(&routes, setup()).expect("no device id is needed");
                let group = MessageGroup::new(&routes, MessageGroupSetup::new(2, Vmm));
                let notifier = function.notifier().unwrap();
                let hold = routes.hold();
                routes.close();
                std::mem::forget((routes, function, group, notifier, hold));
            });
        }
        "make queued" => {
            let routes = routes(PATIENT);
            let function =
                function(&routes, FunctionSetup { sender: SendingThread::Loop, ..setup() });
            confined(filter, move || std::mem::forget((function.notifier().unwrap(), function)));
        }
        "make eventfds" => {
            let function = function(&routes(PATIENT), setup());
            confined(filter, move || {
                function.make_eventfds().unwrap();
                std::mem::forget(function);
            });
        }
        "hand out" => {
            let function = function(&routes(PATIENT), setup());
            mask(&function, 0, false);
            mask(&function, 1, false);
            confined(filter, move || {
                std::mem::forget((function.eventfd(vector(1)).unwrap(), function));
            });
        }
        "input" | "input early" => {
            let routes = routes(PATIENT);
            let function = function(&routes, setup());
            if name == "input early" {
                function.make_eventfds().unwrap();
            }
            let held = function.eventfd(vector(2)).unwrap();
            function.notify(vector(3)).unwrap();
            confined(filter, move || {
                inputs(&function);
                std::mem::forget((function, held));
            });
        }
        "unmask" => {
            let function = function(&routes(PATIENT), setup());
            function.make_eventfds().unwrap();
            let held = [3, 4].map(|index| function.eventfd(vector(index)).unwrap());
            held[1].write(1).unwrap();
            mask(&function, 0, false);
            mask(&function, 1, false); // the first one that waits
            confined(filter, move || {
                for index in 2..5 {
                    mask(&function, index, false);
                }
                std::mem::forget((function, held));
            });
        }
        "notify" | "notify early" => notify(name == "notify early", filter),
        "notify queued" => {
            let routes = routes(PATIENT);
            let function =
                function(&routes, FunctionSetup { sender: SendingThread::Loop, ..setup() });
            mask(&function, 0, false);
            mask(&function, 1, false);
            let notifier = function.notifier().unwrap();
            confined(filter, move || {
                let sent = Ok(Notified::Taken(Delivery::Sent));
                assert_eq!(notifier.notify(vector(0)), sent);
                for waiting_or_masked in [1, 2] {
                    assert_eq!(notifier.notify(vector(waiting_or_masked)), Ok(Notified::Queued));
                }
                std::mem::forget((notifier, function));
            });
        }
        "run" | "stop" => run(name == "stop", filter),
        "connect" => {
            let routes = routes(PATIENT);
            let eventfds = EventfdOrigin::Connected;
            let function = function(&routes, FunctionSetup { eventfds, ..setup() });
            let new = || EventFd::new(EFD_NONBLOCK).unwrap();
            for index in 0..3 {
                mask(&function, index, false);
                let pending = new();
                pending.write(1).unwrap();
                function.connect(vector(index), pending).unwrap();
            }
            mask(&function, 2, true);
            function.eventfd(vector(2)).unwrap().write(1).unwrap();
            let others = [new(), new(), new()];
            confined(filter, move || {
                // KVM's, the loop's, and nobody's.
                for (index, other) in (0..).zip(others) {
                    function.reconnect(vector(index), other).unwrap();
                }
                std::mem::forget(function);
            });
        }
        "import" => {
            let theirs = eventfd(0, EventfdFlags::empty()).unwrap();
            confined(filter, move || std::mem::forget(import(theirs).unwrap()));
        }
        "drop" | "drop dying" => {
            let routes = routes(PATIENT);
            let function = function(&routes, setup());
            let held = function.eventfd(vector(2)).unwrap();
            inputs(&function);
            mask(&function, 0, false);
            if name == "drop dying" {
                routes.close();
            }
            confined(filter, move || {
                drop(function);
                std::mem::forget((routes, held));
            });
        }
        "drop notifier" => {
            let function = function(&routes(PATIENT), setup());
            mask(&function, 0, false);
            let notifier = function.notifier().unwrap();
            drop(function);
            confined(filter, move || drop(notifier));
        }
        _ => panic!("the row {name} has no scenario"),
    }
}

/// Notifies in the thread's own hands: KVM's vector, one with a route that waits, an MSI that is sent as
/// another, and a vector of a detached function.
fn notify(early: bool, filter: BpfProgram) {
    let routes = routes(PATIENT);
    let folded = Function::new(
        &routes,
        FunctionSetup { msi: Some(MsiCapability::new(4).unwrap()), ..FunctionSetup::new(Vmm) },
    )
    .expect("no device id is needed");
    if early {
        folded.make_eventfds().unwrap();
    }
    folded.write_command(0, &[6, 0]);
    folded.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    folded.write_msi(8, &0x50_u16.to_le_bytes());
    folded.write_msi(2, &[1]);
    let function = function(&routes, setup());
    mask(&function, 0, false);
    routes.flush();
    mask(&function, 1, false);
    let [first, second] = [&function, &folded].map(|function| function.notifier().unwrap());
    let detached = self::function(&routes, setup());
    detached.make_eventfds().unwrap();
    detached.detach();
    confined(filter, move || {
        let sent = Ok(Notified::Taken(Delivery::Sent));
        assert_eq!(first.notify(vector(0)), sent);
        assert_eq!(first.notify(vector(1)), sent);
        // The second one goes to KVM if the eventfd is there.
        assert_eq!(second.notify(vector(1)), sent);
        assert_eq!(detached.notify(vector(0)), Ok(Delivery::Pending));
        std::mem::forget((first, second, function, folded, detached));
    });
}

/// Lets the loop commit what waits, after a deadline that was put off, and read an eventfd; and end.
fn run(stops: bool, filter: BpfProgram) {
    let quiet = Duration::from_millis(60);
    let routes = routes(quiet);
    let function = function(&routes, setup());
    let runner = Runner::start(&routes, "msix", move || {
        apply_filter(&filter).map_err(std::io::Error::other)
    });
    let held = function.eventfd(vector(1)).unwrap();
    mask(&function, 0, false);
    mask(&function, 1, false); // waits
    held.write(1).unwrap();
    thread::sleep(quiet / 2);
    mask(&function, 2, false); // puts it off
    while routes.stats().assigns < 3 || routes.stats().signals == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    if stops {
        runner.unwrap().stop().unwrap();
        DONE.store(true, Ordering::SeqCst);
        return;
    }
    DONE.store(true, Ordering::SeqCst);
    std::mem::forget((runner, function, routes, held));
}

/// Runs a row in a process of its own, without one of the calls that it allows.
fn in_process(row: &str, without: Option<&str>) -> (ExitStatus, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env("MSIX_ROW", row).env("MSIX_WITHOUT", without.unwrap_or(""));
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

fn child(name: String) -> ! {
    register_signal_handler(libc::SIGSYS, refuse).expect("a handler");
    let (mut row, any) = (row(&name), row("any"));
    let without = std::env::var("MSIX_WITHOUT").unwrap_or_default();
    row.needs.retain(|call| *call != without);
    let mut allowed = [row.needs, row.rarely].concat();
    if name != "notify queued" {
        allowed.extend(any.rarely);
    }
    if name == "stop" {
        allowed.extend(self::row("run").needs);
    }
    let filter = filter(&allowed);
    thread::spawn(move || run_row(&name, filter));
    finish()
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var("MSIX_ROW") {
        child(name);
    }
    if let Err(error) = Kvm::new() {
        let all = std::env::var_os("MSIX_REQUIRE_ALL").is_some_and(|all| all == "1");
        println!("skipped: the table of system calls (/dev/kvm: {error})");
        return if all { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed = false;
    let mut fail = |what: String| {
        println!("FAILED {what}");
        failed = true;
    };
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.name != "any").collect();
    assert!(rows.len() > 12, "the table was not found");
    for Row { name, needs, .. } in &rows {
        let (status, text) = in_process(name, None);
        if !status.success() {
            fail(format!("{name}: {status}: {text}"));
            continue;
        }
        for call in needs {
            let (status, text) = in_process(name, Some(call));
            let expected = format!("refused: {} (", call.split('(').next().unwrap_or(call));
            // A thread that ends takes no signal any more.
            let is_killed = status.signal() == Some(libc::SIGSYS);
            let is_refused = status.code() == Some(3) && text.contains(&expected);
            if !is_killed && !is_refused {
                fail(format!("{name} without {call}: {status}: {text}"));
            }
        }
        println!("ok {name}: {}", needs.join(", "));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
