//! Live update of the VMM: a device goes on in a program that takes the place of the first (`execve`), with
//! another machine, and its interrupts stay bound meanwhile.

use super::{TestApart, same, text};
use crate::controllers::Controllers;
use crate::device::{Device, loop_back};
use crate::nested::Nested;
use crate::process;
use crate::rig::{Kind, MSIX, Pin, Rig, Vmm, capabilities, msi_interrupt, raise};
use kvm_ioctls::Kvm;
use msix_backends::eventfd::{Loop, import};
use msix_backends::kvm::{
    DeviceControl, Function, FunctionSetup, IndexState, Irqchip, PassedThrough, PhysicalMsi,
    PhysicalMsix, RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, VectorIrqs, WhileMasked};
use msix_core::{Mode, Vector};
use rustix::io::{FdFlags, dup, fcntl_setfd};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_ioctls::VfioContainer;

pub(super) const TESTS: &[(&str, TestApart)] =
    &[("a live device goes on in the next program, its interrupts bound", every_device)];

const CASES: [(Kind, Mode); 5] = [
    (Kind::Edu, Mode::Msi),
    (Kind::E1000e, Mode::MsiX),
    (Kind::Nvme, Mode::MsiX),
    (Kind::Xhci, Mode::Msi),
    (Kind::Xhci, Mode::MsiX),
];

fn every_device() -> Result<(), String> {
    for (kind, mode) in CASES {
        process::run(&["give", &format!("{kind:?}"), &format!("{mode:?}")])
            .map_err(|why| format!("{kind:?} {mode:?}: {why}"))?;
    }
    println!("VM-FIGURE: {} devices went on in the next program", CASES.len());
    Ok(())
}

/// Does what [`every_device`], or the program before, started this one for.
pub(super) fn part(arguments: &[String]) -> Result<(), String> {
    let [part, kind, mode] = arguments else { return Err(format!("{arguments:?}")) };
    let named =
        |case: &&(Kind, Mode)| format!("{:?}", case.0) == *kind && format!("{:?}", case.1) == *mode;
    let &(kind, mode) = CASES.iter().find(named).ok_or("no such case")?;
    if part == "give" { give(kind, mode) } else { take(kind, mode) }
}

/// The vectors of the test: one whose event waits in the local APIC, one whose event comes while nobody is
/// there, and one that is masked. A device with one vector has the second only.
fn vectors(kind: Kind, mode: Mode) -> (Option<u16>, u16, Option<u16>) {
    match (kind, mode) {
        (Kind::Edu, _) => (None, 0, None),
        (_, Mode::Msi) => (Some(0), 1, None),
        _ => (Some(0), 1, Some(2)),
    }
}

fn interrupt(kind: Kind, mode: Mode, vector: u16) -> u8 {
    match mode {
        Mode::Msi => msi_interrupt(kind, vector),
        _ => MSIX + vector.to_le_bytes()[0],
    }
}

/// The first program.
fn give(kind: Kind, mode: Mode) -> Result<(), String> {
    let container = Arc::new(VfioContainer::new(None).map_err(text)?);
    let device = Device::find(kind.id(), &container)?.ok_or("the device is not there")?;
    let kvm = Kvm::new().map_err(text)?;
    let nested = Nested::new(&kvm, &[])?;
    let rig = Rig::on(&device, kind, &nested.vm, Pin::Absent)?;
    rig.switch(mode);
    let (before, between, masked) = vectors(kind, mode);
    if let Some(vector) = before {
        rig.raise(mode, vector)?;
        let requested = || Controllers::of(&nested.vm, nested.cpu()?).map(|all| all.requested());
        super::wait("an interrupt", || {
            rig.routes.run(Some(Duration::ZERO)).map_err(text)?;
            Ok(requested()?.contains(&interrupt(kind, mode, vector)))
        })?;
        rig.satisfy()?;
    }
    if let Some(vector) = masked {
        rig.mask(vector, true);
    }
    let handed = rig.function.hand_over().map_err(text)?;
    // Now nobody has the eventfds but the device.
    rig.raise(mode, between)?;
    if let Some(vector) = masked {
        rig.satisfy()?;
        rig.raise(mode, vector)?;
    }
    let controllers = Controllers::of(&nested.vm, nested.cpu()?)?;

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
    let next = ["take".to_owned(), format!("{kind:?}"), format!("{mode:?}")];
    Err(text(Command::new(program).args(next).exec()))
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
fn take(kind: Kind, mode: Mode) -> Result<(), String> {
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
    let setup = FunctionSetup {
        msi: msi_capability,
        msix: layout,
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
    nested.start(|_| 0);

    let (before, between, masked) = vectors(kind, mode);
    let mut expected: BTreeMap<u8, u32> = BTreeMap::new();
    for vector in before.into_iter().chain([between]) {
        expected.insert(interrupt(kind, mode, vector), 1);
    }
    took(&nested, &routes, &expected).map_err(|why| format!("after the resume {why}"))?;
    if let Some(vector) = masked {
        function.write_table(u64::from(vector) * 16 + 12, &[0; 4]);
        expected.insert(interrupt(kind, mode, vector), 1);
        took(&nested, &routes, &expected).map_err(|why| format!("once unmasked {why}"))?;
    }
    for vector in before.into_iter().chain([between]).chain(masked) {
        let write = |at, value: u32| {
            let written = rustix::io::pwrite(&device, &value.to_le_bytes(), at); // BAR0 is at 0
            same("bytes written", written.map_err(text)?, 4)
        };
        let again = |index, vector| loop_back(&device, index, vector);
        raise(kind, mode, vector, write, again)?;
        *expected.entry(interrupt(kind, mode, vector)).or_default() += 1;
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
