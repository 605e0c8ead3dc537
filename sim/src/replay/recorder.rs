//! The host of a replay: it delivers nothing and writes down what it was asked to do.

use crate::report::EffectCounts;
use msix_backends::{Host, Route};
use msix_core::Vectors;

/// Counts effects and keeps the messages to be sent.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) counts: EffectCounts,
    pub(crate) sends: Vec<Route>,
}

fn len(vectors: Vectors) -> u64 {
    u64::from(vectors.len())
}

const fn none(like: Vectors) -> Vectors {
    Vectors::new(like.word(), 0)
}

impl Host for Recorder {
    fn use_vectors(&mut self, vectors: Vectors, _: &[Route]) -> Vectors {
        self.counts.uses += len(vectors);
        none(vectors)
    }

    fn release(&mut self, vectors: Vectors) {
        self.counts.release += len(vectors);
    }

    fn reroute(&mut self, vectors: Vectors, _: &[Route]) -> Vectors {
        self.counts.reroute += len(vectors);
        none(vectors)
    }

    fn send(&mut self, route: Route) {
        self.counts.send += 1;
        self.sends.push(route);
    }

    fn poll(&mut self, vectors: Vectors) -> Vectors {
        self.counts.poll += len(vectors);
        none(vectors)
    }

    fn drain(&mut self, _: Vectors) {} // it keeps no events

    fn snoop(&mut self, _: Route) {} // only under a Xen policy

    fn intx_deassert(&mut self) {} // INTx is not in the log

    fn intx_reevaluate(&mut self) {}
}
