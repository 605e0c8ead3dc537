//! What a guest does with vectors that are up.

use crate::measure::{Outcome, Report, Side, Turn, timed};
use crate::vm::{ADDRESS, DATA, Floor, Ours, machine};
use msix_backends::kvm::Deferral;

/// The vector that changes.
const ONE: u16 = 5;

pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    for vectors in [64, 2048] {
        affinity(report, vectors)?;
    }
    for vectors in [64, 2048] {
        mask(report, vectors)?;
    }
    for (vectors, rounds) in [(64, 60), (2048, 12)] {
        mask_function(report, vectors, rounds)?;
    }
    Ok(())
}

/// Linux masks the entry, writes three words and unmasks it.
fn affinity(report: &mut Report, vectors: u16) -> Outcome<()> {
    let scenario = format!("affinity of one of {vectors}");
    if !report.wants(&scenario) {
        return Ok(());
    }
    let mut floor = Floor::live(machine()?, vectors)?;
    let at_once = Ours::live(machine()?, vectors, Deferral::NONE)?;
    let later = Ours::live(machine()?, vectors, Deferral::default())?;
    let split = Ours::live(machine()?, vectors, Deferral::default())?;
    let mut address = alternate();
    let bare = move || {
        floor.program(ONE, address());
        timed(|| {
            floor.deassign(ONE)?;
            floor.commit()?;
            floor.assign(ONE)
        })
    };
    let mut address = alternate();
    let committed = || at_once.turn(|ours| ours.retarget(address()));
    let mut address_later = alternate();
    let flushed = || {
        later.turn(|ours| {
            ours.retarget(address_later());
            ours.routes.flush();
        })
    };
    let mut address_split = alternate();
    let unflushed = || -> Outcome<Turn> {
        let turn = split.turn(|ours| ours.retarget(address_split()));
        split.routes.flush();
        turn
    };
    let sides = vec![
        Side::new("floor", 0, bare),
        Side::new("ours, a commit per change", 0, committed),
        Side::new("ours, flushed at once", 0, flushed),
        Side::new("ours, until the guest goes on", 0, unflushed),
    ];
    report.compare(&scenario, 150, sides)
}

impl Ours {
    pub(crate) fn retarget(&self, address: u32) {
        self.mask(ONE, true);
        self.program(ONE, address, DATA);
        self.mask(ONE, false);
    }
}

/// Another processor each time.
fn alternate() -> impl FnMut() -> u32 {
    let mut address = ADDRESS;
    move || {
        address ^= 0x1000;
        address
    }
}

fn mask(report: &mut Report, vectors: u16) -> Outcome<()> {
    let scenario = format!("mask and unmask one of {vectors}");
    if !report.wants(&scenario) {
        return Ok(());
    }
    let floor = Floor::live(machine()?, vectors)?;
    let ours = Ours::live(machine()?, vectors, Deferral::default())?;
    let bare = || {
        timed(|| {
            floor.deassign(ONE)?;
            floor.assign(ONE)
        })
    };
    let masked = || {
        ours.turn(|ours| {
            ours.mask(ONE, true);
            ours.mask(ONE, false);
        })
    };
    let sides = vec![Side::new("floor", 0, bare), Side::new("ours", 0, masked)];
    report.compare(&scenario, 500, sides)
}

fn mask_function(report: &mut Report, vectors: u16, rounds: usize) -> Outcome<()> {
    let scenario = format!("function mask over {vectors}");
    if !report.wants(&scenario) {
        return Ok(());
    }
    let floor = Floor::live(machine()?, vectors)?;
    let ours = Ours::live(machine()?, vectors, Deferral::default())?;
    let bare = || {
        timed(|| {
            (0..vectors).try_for_each(|vector| floor.deassign(vector))?;
            (0..vectors).try_for_each(|vector| floor.assign(vector))
        })
    };
    let masked = || {
        ours.turn(|ours| {
            ours.mask_function(true);
            ours.mask_function(false);
        })
    };
    let sides = vec![Side::new("floor", 0, bare), Side::new("ours", 0, masked)];
    report.compare(&scenario, rounds, sides)
}
