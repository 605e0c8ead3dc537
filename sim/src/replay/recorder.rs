//! The host of a replay: it delivers nothing and writes down what it was asked to do.

use crate::report::EffectCounts;
use msix_backends::{Host, Route};
use msix_core::{Vector, Vectors};

/// Counts effects and keeps the messages to be sent.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) counts: EffectCounts,
    pub(crate) sends: Vec<Route>,
}

fn len(sets: &[Vectors]) -> u64 {
    sets.iter().map(|set| u64::from(set.bits().count_ones())).sum()
}

impl Host for Recorder {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.counts.uses += routes.len() as u64;
        Vec::new()
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        self.counts.release += len(vectors);
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.counts.reroute += routes.len() as u64;
        Vec::new()
    }

    fn send(&mut self, route: Route) {
        self.counts.send += 1;
        self.sends.push(route);
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        self.counts.poll += len(vectors);
        Vec::new()
    }

    fn drain(&mut self, _: &[Vectors]) {} // it keeps no events

    fn snoop(&mut self, _: Route) {} // only under a Xen policy

    fn intx_deassert(&mut self) {} // INTx is not in the log

    fn intx_reevaluate(&mut self) {}
}
