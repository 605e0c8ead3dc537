//! Live update of the VMM: a device goes on in a program that takes the place of the first (`execve`), with
//! another machine. MSI and MSI-X stay bound meanwhile; a line is a level, which waits.

use super::{TestApart, same, text};
use crate::controllers::{Controllers, GSI, Wire, route_line};
use crate::device::{Device, loop_back};
use crate::nested::{Access, LINE, Nested, SATISFY};
use crate::process;
use crate::rig::{
    Kind, MSIX, NotedPin, Pin, Rig, Told, Vmm, capabilities, msi_interrupt, raise, satisfied_at,
    wait_line,
};
use kvm_ioctls::Kvm;
use msix_backends::eventfd::{Loop, import};
use msix_backends::kvm::{
    AssignedLine, DeviceControl, Function, FunctionSetup, GuestPin, IndexState, Irqchip,
    PassedThrough, PhysicalMsi, PhysicalMsix, RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, LineIrqs, VectorIrqs, WhileMasked};
use msix_core::{Mode, Vector};
use rustix::io::{FdFlags, dup, fcntl_setfd};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfio_ioctls::VfioContainer;

pub(super) const TESTS: &[(&str, TestApart)] =
    &[("a live device goes on in the next program, and no interrupt is lost", every_device)];

/// What goes on.
#[derive(Debug, Clone, Copy)]
enum Case {
    /// MSI or MSI-X.
    Messages(Kind, Mode),
    /// The pin, which the device asserts at some time.
    Line(Kind, By, Asserted),
}

/// Who brings the pin to the guest.
#[derive(Debug, Clone, Copy)]
enum By {
    Userspace,
    Kernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asserted {
    /// The guest has not answered yet.
    Before,
    /// While nobody has the line.
    Between,
}

const CASES: [Case; 13] = [
    Case::Messages(Kind::Edu, Mode::Msi),
    Case::Messages(Kind::E1000e, Mode::MsiX),
    Case::Messages(Kind::Nvme, Mode::MsiX),
    Case::Messages(Kind::Xhci, Mode::Msi),
    Case::Messages(Kind::Xhci, Mode::MsiX),
    Case::Line(Kind::Edu, By::Userspace, Asserted::Before),
    Case::Line(Kind::Edu, By::Userspace, Asserted::Between),
    Case::Line(Kind::Edu, By::Kernel, Asserted::Before),
    Case::Line(Kind::Edu, By::Kernel, Asserted::Between),
    Case::Line(Kind::E1000e, By::Userspace, Asserted::Before),
    Case::Line(Kind::E1000e, By::Userspace, Asserted::Between),
    Case::Line(Kind::E1000e, By::Kernel, Asserted::Before),
    Case::Line(Kind::E1000e, By::Kernel, Asserted::Between),
];

impl Case {
    const fn kind(self) -> Kind {
        let (Self::Messages(kind, _) | Self::Line(kind, ..)) = self;
        kind
    }

    const fn mode(self) -> Mode {
        match self {
            Self::Messages(_, mode) => mode,
            Self::Line(..) => Mode::Intx,
        }
    }

    /// The interrupts of events that come before the device is handed over, meanwhile, and while masked.
    fn interrupts(self) -> Interrupts {
        let (before, between, masked) = match self {
            Self::Line(_, _, Asserted::Before) => (Some(0), None, None),
            Self::Line(_, _, Asserted::Between) | Self::Messages(Kind::Edu, _) => {
                (None, Some(0), None)
            }
            Self::Messages(_, Mode::Msi) => (Some(0), Some(1), None),
            Self::Messages(..) => (Some(0), Some(1), Some(2)),
        };
        Interrupts { before, between, masked }
    }

    fn interrupt(self, vector: u16) -> u8 {
        match self {
            Self::Line(..) => LINE,
            Self::Messages(kind, Mode::Msi) => msi_interrupt(kind, vector),
            Self::Messages(..) => MSIX + vector.to_le_bytes()[0],
        }
    }
}

/// The vectors of a case; those that a device lacks are left out.
struct Interrupts {
    before: Option<u16>,
    between: Option<u16>,
    masked: Option<u16>,
}

fn every_device() -> Result<(), String> {
    for (number, case) in CASES.iter().enumerate() {
        process::run(&["give", &number.to_string()]).map_err(|why| format!("{case:?}: {why}"))?;
    }
    println!("VM-FIGURE: {} times a live device went on in the next program", CASES.len());
    Ok(())
}

/// Does what [`every_device`], or the program before, started this one for.
pub(super) fn part(arguments: &[String]) -> Result<(), String> {
    let [part, number] = arguments else { return Err(format!("{arguments:?}")) };
    let at: usize = number.parse().map_err(text)?;
    let case = *CASES.get(at).ok_or("no such case")?;
    if part == "give" { give(case, number) } else { take(case) }
}

/// The first program.
fn give(case: Case, number: &str) -> Result<(), String> {
    let (kind, mode) = (case.kind(), case.mode());
    let container = Arc::new(VfioContainer::new(None).map_err(text)?);
    let device = Device::find(kind.id(), &container)?.ok_or("the device is not there")?;
    let kvm = Kvm::new().map_err(text)?;
    let nested = Nested::new(&kvm, &[])?;
    let pin = match case {
        Case::Messages(..) => Pin::Absent,
        Case::Line(_, By::Userspace, _) => Pin::Driven(Box::new(Wire(Arc::clone(&nested.vm)))),
        Case::Line(_, By::Kernel, _) => Pin::Kernel(GSI),
    };
    route_line(&nested.vm, LINE)?;
    let rig = Rig::on(&device, kind, &nested.vm, pin)?;
    rig.switch(mode);
    let requested = || Controllers::of(&nested.vm, nested.cpu()?).map(|all| all.requested());
    let Interrupts { before, between, masked } = case.interrupts();
    if let Some(vector) = before {
        rig.raise(mode, vector)?;
        super::wait("an interrupt", || {
            rig.routes.run(Some(Duration::ZERO)).map_err(text)?;
            Ok(requested()?.contains(&case.interrupt(vector)))
        })?;
        if mode != Mode::Intx {
            rig.satisfy()?;
        }
    }
    if let Some(vector) = masked {
        rig.mask(vector, true);
    }
    let handed = rig.function.hand_over().map_err(text)?;
    // Now nobody has the eventfds but the device, and nobody the line.
    if let Some(vector) = between {
        rig.raise(mode, vector)?;
    }
    if let Some(vector) = masked {
        rig.satisfy()?;
        rig.raise(mode, vector)?;
    }
    let controllers = Controllers::of(&nested.vm, nested.cpu()?)?;
    let waits: Vec<u8> = before.into_iter().map(|vector| case.interrupt(vector)).collect();
    same("interrupts that wait", controllers.requested(), waits)?;

    let mut note = format!("{}\n{}\n", keep(device.as_fd())?, handed.msi);
    if let IndexState::Active { allocated, bound } = &handed.msix {
        let bound: Vec<String> = bound.iter().map(u32::to_string).collect();
        write!(note, "{allocated} {}", bound.join(" ")).map_err(text)?;
    }
    note.push('\n');
    for (vector, eventfd) in &handed.eventfds {
        // SAFETY: it is open as long as `eventfd` is there.
        #[expect(unsafe_code, reason = "EventFd does not have AsFd")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) };
        writeln!(note, "{} {}", vector.index(), keep(descriptor)?).map_err(text)?;
    }
    keep_container()?;
    std::fs::write(NOTE, note).map_err(text)?;
    std::fs::write(SNAPSHOT, &handed.snapshot).map_err(text)?;
    std::fs::write(CONTROLLERS, controllers.to_bytes()).map_err(text)?;
    let program = std::env::current_exe().map_err(text)?;
    Err(text(Command::new(program).args(["take", number]).exec()))
}

/// A copy of a descriptor that the next program has.
fn keep(descriptor: BorrowedFd<'_>) -> Result<RawFd, String> {
    let kept = dup(descriptor).map_err(text)?;
    Ok(std::os::fd::IntoRawFd::into_raw_fd(kept))
}

/// Has the next program keep the container and the group: the device is the group's as long as they are open.
fn keep_container() -> Result<(), String> {
    for entry in std::fs::read_dir("/proc/self/fd").map_err(text)? {
        let entry = entry.map_err(text)?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| target.starts_with("/dev/vfio")) {
            // SAFETY: this process has it open, and one thread.
            #[expect(unsafe_code, reason = "vfio-ioctls has neither")]
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(descriptor, FdFlags::empty()).map_err(text)?;
        }
    }
    Ok(())
}

/// The next program.
fn take(case: Case) -> Result<(), String> {
    let (kind, mode) = (case.kind(), case.mode());
    let note = std::fs::read_to_string(NOTE).map_err(text)?;
    let mut lines = note.lines();
    let mut line = || lines.next().ok_or("half a note");
    let device = owned(line()?)?;
    let msi: u16 = line()?.parse().map_err(text)?;
    let mut numbers = line()?.split_whitespace().map(|number| number.parse::<u32>().map_err(text));
    let msix = match numbers.next() {
        None => IndexState::Idle,
        Some(allocated) => {
            IndexState::Active { allocated: allocated?, bound: numbers.collect::<Result<_, _>>()? }
        }
    };
    let mut eventfds = Vec::new();
    for line in lines {
        let (vector, descriptor) = line.split_once(' ').ok_or("half a line")?;
        let eventfd = import(owned(descriptor)?).map_err(text)?;
        eventfds.push((Vector::new(vector.parse().map_err(text)?), eventfd));
    }

    let mut nested = Nested::new(&Kvm::new().map_err(text)?, &[])?;
    let controllers = std::fs::read(CONTROLLERS).map_err(text)?;
    let controllers = Controllers::from_bytes(&controllers).ok_or("half of the controllers")?;
    controllers.put(&nested.vm, nested.cpu()?)?;
    let copy = || device.try_clone().map_err(text);
    let mut copies = Vec::new();
    for (vector, eventfd) in &eventfds {
        copies.push((*vector, Arc::new(eventfd.try_clone().map_err(text)?)));
    }
    let (layout, msi_capability) = capabilities(kind)?;
    let mut behind = PassedThrough::new(Box::new(Alone));
    if layout.is_some() {
        let irqs = VectorIrqs::msix(copy()?);
        let (index, masked) = (irqs.index().map_err(text)?, WhileMasked::Eventfd);
        let taken: Box<dyn PhysicalMsix> =
            Box::new(DeviceMsix::taken_over(irqs, index, masked, msix, copies));
        behind.msix = Some(taken);
    }
    if msi_capability.is_some() {
        let irqs = VectorIrqs::msi(copy()?);
        let count = u16::try_from(irqs.index().map_err(text)?.count).map_err(text)?;
        let taken: Box<dyn PhysicalMsi> = Box::new(DeviceMsi::taken_over(irqs, count, msi));
        behind.msi = Some(taken);
    }
    let mut pin: Option<Box<dyn GuestPin>> = None;
    let told = Arc::new(Mutex::new(Told::default()));
    if let Case::Line(_, by, _) = case {
        route_line(&nested.vm, LINE)?;
        controllers.put(&nested.vm, nested.cpu()?)?;
        let line = AssignedLine::new(Box::new(LineIrqs::new(copy()?))).map_err(text)?;
        let driven: Option<Box<dyn GuestPin>> = Some(Box::new(Wire(Arc::clone(&nested.vm))));
        pin = Some(Box::new(NotedPin { told: Arc::clone(&told), driven }));
        behind.line = Some(match by {
            By::Userspace => line,
            By::Kernel => line.resampled_by(Box::new(Arc::clone(&nested.vm)), GSI),
        });
    }
    let setup = FunctionSetup {
        msi: msi_capability,
        msix: layout,
        pin,
        device: Some(behind),
        ..FunctionSetup::new(Vmm)
    };
    let vm = Box::new(Arc::clone(&nested.vm));
    let routes = Routes::new(vm, RouteOptions::new(Irqchip::Full), Loop::new().map_err(text)?);
    let function = Function::new(&routes, setup).map_err(text)?;
    function.load(&std::fs::read(SNAPSHOT).map_err(text)?).map_err(text)?;
    for (vector, eventfd) in eventfds {
        function.connect(vector, eventfd).map_err(text)?;
    }
    function.resume();
    if matches!(case, Case::Line(_, By::Userspace, _)) {
        // Before the guest satisfies the device: a level that is taken in later interrupts once more.
        wait_line(&routes, &told, true)?;
    }
    let write = {
        let device = copy()?;
        move |at, value: u32| {
            let written = rustix::io::pwrite(&device, &value.to_le_bytes(), at); // BAR0 is at 0
            same("bytes written", written.map_err(text)?, 4)
        }
    };
    let (satisfy, of_guest) = (copy()?, function.clone());
    nested.start(move |access| {
        if matches!(access, Access::Out(SATISFY, _)) {
            // What fails shows in the test.
            let at = satisfied_at(kind).unwrap_or_default();
            let _ = rustix::io::pwrite(&satisfy, &u32::MAX.to_le_bytes(), at);
            of_guest.bar_accessed();
        }
        0
    });

    let Interrupts { before, between, masked } = case.interrupts();
    let mut expected: BTreeMap<u8, u32> = BTreeMap::new();
    for vector in before.into_iter().chain(between) {
        expected.insert(case.interrupt(vector), 1);
    }
    took(&nested, &routes, &expected).map_err(|why| format!("after the resume {why}"))?;
    if let Some(vector) = masked {
        function.write_table(u64::from(vector) * 16 + 12, &[0; 4]);
        expected.insert(case.interrupt(vector), 1);
        took(&nested, &routes, &expected).map_err(|why| format!("once unmasked {why}"))?;
    }
    for vector in before.into_iter().chain(between).chain(masked) {
        let again = |index, vector| loop_back(&device, index, vector);
        raise(kind, mode, vector, &write, again)?;
        *expected.entry(case.interrupt(vector)).or_default() += 1;
        took(&nested, &routes, &expected).map_err(|why| format!("later {why}"))?;
    }
    Ok(())
}

/// Waits until the guest took these interrupts, and no others for a while.
fn took(nested: &Nested, routes: &Routes, expected: &BTreeMap<u8, u32>) -> Result<(), String> {
    let counts = || -> Result<BTreeMap<u8, u32>, String> {
        let all = (0x40..=0x4f).map(|interrupt| Ok((interrupt, nested.count(interrupt)?)));
        Ok(all
            .collect::<Result<BTreeMap<_, _>, String>>()?
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect())
    };
    super::wait(&format!("the guest takes {expected:x?}"), || {
        routes.run(Some(Duration::ZERO)).map_err(text)?;
        Ok(counts()? == *expected)
    })
    .or_else(|_| same("interrupts taken", counts()?, expected.clone()))?;
    let begun = Instant::now();
    while begun.elapsed() < QUIET {
        routes.run(Some(Duration::from_millis(1))).map_err(text)?;
    }
    same("interrupts taken", counts()?, expected.clone())
}

/// A descriptor that the program before left open.
fn owned(number: &str) -> Result<OwnedFd, String> {
    let number: RawFd = number.parse().map_err(text)?;
    // SAFETY: the program before left it open, and named it once.
    #[expect(unsafe_code, reason = "a descriptor comes as a number")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A device that is not reset, and has no BARs to map.
struct Alone;

impl DeviceControl for Alone {
    fn set_mappings(&mut self, _: bool) {}
    fn reset_device(&mut self) {}
}

/// How long nothing else must come.
const QUIET: Duration = Duration::from_millis(50);
/// What the first program leaves.
const NOTE: &str = "/note";
const SNAPSHOT: &str = "/snapshot";
const CONTROLLERS: &str = "/controllers";
