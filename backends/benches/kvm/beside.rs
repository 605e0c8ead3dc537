//! An event beside a thread that masks and unmasks another vector, all the time.

use crate::measure::{Outcome, Report, Side, Turn, timed};
use crate::nothing::Nothing;
use crate::vm::Ours;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Irqchip, RouteOptions, Routes};
use msix_core::{Delivery, Vector};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Events of a turn.
const BATCH: u32 = 2000;

/// On a VM that does nothing: in the kernel the two threads would wait for each other, whoever calls.
pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    for (of_another, whose) in [(false, "another vector"), (true, "one of another function")] {
        let scenario = format!("event beside a thread that masks {whose}, {BATCH} a turn");
        if report.wants(&scenario) {
            beside(report, &scenario, of_another)?;
        }
    }
    Ok(())
}

fn beside(report: &mut Report, scenario: &str, of_another: bool) -> Outcome<()> {
    let routes = Routes::new(Box::new(Nothing), RouteOptions::new(Irqchip::Full), Loop::new()?);
    let (ours, other) = (Ours::on(Arc::clone(&routes), 2)?, Ours::on(routes, 2)?);
    ours.bring_up();
    other.bring_up();
    let masked = if of_another { &other } else { &ours };
    let bare = EventFd::new(EFD_NONBLOCK)?;
    let write = || -> Outcome<()> { Ok(bare.write(1)?) };
    let notify = || -> Outcome<()> {
        let delivery = ours.function.notify(Vector::new(0))?;
        debug_assert_eq!(delivery, Delivery::Sent);
        Ok(())
    };
    let sides = vec![
        Side::new("floor: write of an eventfd", 0, || batch(write)),
        Side::new("the same, beside the thread", 0, || with_masker(masked, || batch(write))),
        Side::new("notify, armed", 2, || batch(notify)),
        Side::new("the same, beside the thread", 2, || with_masker(masked, || batch(notify))),
    ];
    report.compare(scenario, 300, sides)
}

fn batch(fire: impl Fn() -> Outcome<()>) -> Outcome<Turn> {
    Ok(timed(|| (0..BATCH).try_for_each(|_| fire()))?.divided(BATCH))
}

/// Has a turn while another thread masks and unmasks vector 1.
fn with_masker(ours: &Ours, turn: impl FnOnce() -> Outcome<Turn>) -> Outcome<Turn> {
    let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                ours.mask(1, true);
                ours.mask(1, false);
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let turn = turn();
        ended.store(true, Ordering::Relaxed);
        turn
    })
}
