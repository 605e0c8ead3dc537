//! Linux brings all vectors of a function up, one by one.

use crate::measure::{Outcome, Report, Side, Turn, timed};
use crate::vm::{Floor, Ours, machine};
use msix_backends::kvm::Deferral;
use msix_core::Vector;

/// Each turn on a machine of its own, made and unmade outside of the time.
pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    for (vectors, rounds, every) in [(64, 60, 3), (256, 40, 4), (1024, 25, 8), (2048, 24, 4)] {
        let log = f64::from(vectors).log(8.0);
        let scenario = format!("bring-up of {vectors} (log8 is {log:.1})");
        if !report.wants(&scenario) {
            continue;
        }
        let each = Side::new("a commit per vector, ratio to ours", 1, || {
            ours(vectors, Deferral::NONE, false)
        });
        let sides = vec![
            Side::new("floor", 0, || floor(vectors, false)),
            Side::new("ours", 0, || ours(vectors, Deferral::default(), false)),
            each.every(every),
            Side::new("floor, external producers", 3, || floor(vectors, true)),
            Side::new("ours, external producers", 3, || ours(vectors, Deferral::default(), true)),
        ];
        report.compare(&scenario, rounds, sides)?;
    }
    Ok(())
}

/// `external`: the eventfds are there before, for others to write.
fn floor(vectors: u16, external: bool) -> Outcome<Turn> {
    let mut floor = Floor::new(machine()?, vectors);
    if external {
        floor.make_eventfds()?;
    }
    timed(|| {
        if !external {
            floor.make_eventfds()?;
        }
        floor.bring_up()
    })
}

fn ours(vectors: u16, deferral: Deferral, external: bool) -> Outcome<Turn> {
    let ours = Ours::new(machine()?, vectors, deferral)?;
    if external {
        for vector in 0..vectors {
            ours.function.eventfd(Vector::new(vector))?;
        }
    }
    let turn = ours.turn(Ours::bring_up)?;
    assert_eq!(ours.routes.stats().assigns, u64::from(vectors), "all are armed");
    Ok(turn)
}
