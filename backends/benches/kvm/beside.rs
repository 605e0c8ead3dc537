//! An event beside a thread that masks and unmasks another vector, all the time; and beside one that has
//! nothing to do with interrupts, for what two busy processors of the machine cost each other.

use crate::measure::{Outcome, Report, Side, Turn, timed};
use crate::nothing::Nothing;
use crate::vm::Ours;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Irqchip, RouteOptions, Routes};
use msix_core::{Delivery, Vector};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Events that are timed together.
const BATCH: u32 = 200;
/// Batches of a turn, of which the quickest counts: in others the threads share a processor with other work.
const BATCHES: u32 = 20;
/// Rounds of the thread between two notes of them, which cost what they cost.
const ROUNDS: u32 = 8;

/// On a VM that does nothing: in the kernel the two threads would wait for each other, whoever calls.
pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    for (of_another, whose) in [(false, "another vector"), (true, "one of another function")] {
        let scenario = format!("event beside a thread that masks {whose}, best {BATCH} of a turn");
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
    let mask = || {
        masked.mask(1, true);
        masked.mask(1, false);
    };
    let compute = || (0..200).for_each(|n| _ = std::hint::black_box(n));
    let sides = vec![
        Side::new("floor: write of an eventfd", 0, || alone(write)),
        Side::new("the same, beside a thread that computes", 0, || beside_thread(compute, &write)),
        Side::new("the same, beside the thread", 1, || beside_thread(mask, &write)),
        Side::new("notify, armed", 3, || alone(notify)),
        Side::new("the same, beside a thread that computes", 3, || beside_thread(compute, &notify)),
        Side::new("the same, beside the thread", 4, || beside_thread(mask, &notify)),
    ];
    report.compare(scenario, 300, sides)
}

fn batch(fire: &impl Fn() -> Outcome<()>) -> Outcome<Turn> {
    Ok(timed(|| (0..BATCH).try_for_each(|_| fire()))?.divided(BATCH))
}

fn alone(fire: impl Fn() -> Outcome<()>) -> Outcome<Turn> {
    (1..BATCHES).try_fold(batch(&fire)?, |least, _| Ok(least.or_quicker(batch(&fire)?)))
}

/// Has a turn while another thread does `work` over and over, of batches during which it did so often
/// enough to have had a processor.
fn beside_thread(work: impl Fn() + Send + Copy, fire: &impl Fn() -> Outcome<()>) -> Outcome<Turn> {
    let (rounds, ended) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (rounds, ended) = (&rounds, &ended);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                (0..ROUNDS).for_each(|_| work());
                rounds.fetch_add(ROUNDS, Ordering::Relaxed);
            }
        });
        let beside = || loop {
            let before = rounds.load(Ordering::Relaxed);
            let turn = batch(fire);
            if turn.is_err() || rounds.load(Ordering::Relaxed).wrapping_sub(before) >= BATCH / 8 {
                break turn;
            }
        };
        let turn = beside().and_then(|first| {
            (1..BATCHES).try_fold(first, |least, _| Ok(least.or_quicker(beside()?)))
        });
        ended.store(true, Ordering::Relaxed);
        turn
    })
}
