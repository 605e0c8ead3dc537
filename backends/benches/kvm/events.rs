//! From an event to the interrupt: the four ways there are.

use crate::guest::{Guest, Idle, enable_apic, take_request};
use crate::measure::{Asked, Outcome, Report, Side, Turn, timed};
use crate::vm::{ADDRESS, DATA, FIRST_GSI, Ours, machine};
use kvm_bindings::kvm_msi;
use kvm_ioctls::{VcpuFd, VmFd};
use msix_backends::kvm::Deferral;
use msix_core::{Delivery, Vector};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Events of a turn, where they are timed together.
const BATCH: u32 = 2000;
/// Events of a turn, where each is timed.
const SINGLE: u32 = 50;

/// A machine whose first processor takes all messages.
struct Wires {
    ours: Ours,
    /// A second irqfd on the route of vector 0.
    bare: EventFd,
    vm: Arc<VmFd>,
}

/// How an event gets to the kernel.
#[derive(Debug, Clone, Copy)]
enum Way {
    BareEventfd,
    /// Vector 0 is armed.
    Notify,
    BareSignal,
    /// The route of vector 1 waits for a flush that nobody does.
    NotifyWaiting,
}

impl Wires {
    fn new() -> Outcome<(Self, VcpuFd)> {
        let vm = machine()?;
        let vcpu = vm.create_vcpu(0)?;
        enable_apic(&vcpu)?;
        let ours = Ours::new(Arc::clone(&vm), 2, Deferral::default())?;
        for vector in 0..2 {
            ours.program(vector, ADDRESS, DATA);
            ours.mask(vector, false);
        }
        let bare = EventFd::new(EFD_NONBLOCK)?;
        vm.register_irqfd(&bare, FIRST_GSI)?;
        Ok((Self { ours, bare, vm }, vcpu))
    }

    fn fire(&self, way: Way) -> Outcome<()> {
        let vector = match way {
            Way::BareEventfd => return Ok(self.bare.write(1)?),
            Way::BareSignal => {
                let msi = kvm_msi { address_lo: ADDRESS, data: DATA, ..Default::default() };
                self.vm.signal_msi(msi)?;
                return Ok(());
            }
            Way::Notify => 0,
            Way::NotifyWaiting => 1,
        };
        let delivery = self.ours.function.notify(Vector::new(vector))?;
        debug_assert_eq!(delivery, Delivery::Sent);
        Ok(())
    }

    /// The four in comparison; what a turn is, `turn` says.
    fn sides<'a>(&'a self, turn: &'a impl Fn(Way) -> Outcome<Turn>) -> Vec<Side<'a>> {
        let side = |name, baseline, way, ours: bool| {
            Side::new(name, baseline, move || {
                let before = self.ours.routes.stats();
                let turn = turn(way)?;
                let asked = Asked::between(before, self.ours.routes.stats());
                Ok(if ours { turn.asked(asked) } else { turn })
            })
        };
        vec![
            side("floor: write of an irqfd's eventfd", 0, Way::BareEventfd, false),
            side("notify, armed", 0, Way::Notify, true),
            side("floor: KVM_SIGNAL_MSI", 2, Way::BareSignal, false),
            side("notify, route waiting", 2, Way::NotifyWaiting, true),
        ]
    }
}

pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    let scenario = format!("event to a processor that does not run, {BATCH} a turn");
    if report.wants(&scenario) {
        calls(report, &scenario)?;
    }
    for (idle, what) in [(Idle::Spins, "spins"), (Idle::Halts, "halts")] {
        let scenario =
            format!("event to the handler of a guest that {what}, median of {SINGLE} a turn");
        if report.wants(&scenario) {
            latency(report, &scenario, idle)?;
        }
    }
    Ok(())
}

fn calls(report: &mut Report, scenario: &str) -> Outcome<()> {
    let (wires, vcpu) = Wires::new()?;
    for way in [Way::BareEventfd, Way::Notify, Way::BareSignal, Way::NotifyWaiting] {
        wires.fire(way)?;
        assert!(take_request(&vcpu)?, "{way:?} reaches the processor");
    }
    let turn = |way| {
        let all = timed(|| (0..BATCH).try_for_each(|_| wires.fire(way)))?;
        Ok(all.divided(BATCH))
    };
    report.compare(scenario, 200, wires.sides(&turn))
}

fn latency(report: &mut Report, scenario: &str, idle: Idle) -> Outcome<()> {
    let (wires, vcpu) = Wires::new()?;
    let guest = Guest::start(Arc::clone(&wires.vm), vcpu, idle)?;
    let turn = |way| {
        let each = (0..SINGLE).map(|_| guest.latency(|| wires.fire(way)));
        let mut each = each.collect::<Outcome<Vec<Duration>>>()?;
        each.sort();
        Ok(Turn::of(each[each.len() / 2]))
    };
    report.compare(scenario, 30, wires.sides(&turn))
}
