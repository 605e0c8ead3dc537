//! MSI-X as firmware embeds it: the engine and the backend, without an allocator.

use crate::backend::Backend;
use crate::record::Record;
use crate::{arena, stack};
use heapless::Vec;
use msix_conformance::IntxCall;
use msix_core::{
    Effect, Effects, Layout, MAX_EFFECTS, Msix, NotCarriedOut, Policy, Storage, Vector,
    VectorError, Vectors,
};

type List = Effects<MAX_EFFECTS>;

/// The engine with its memory in `S`, over a backend for `N` vectors.
pub(crate) struct Embedded<S, const N: usize> {
    msix: Msix<S>,
    list: List,
    backend: Backend<N>,
    is_attached: bool,
    is_loading: bool,
}

impl<S: Storage, const N: usize> Embedded<S, N> {
    /// Puts the backend under an engine.
    pub(crate) fn new(msix: Msix<S>) -> Self {
        let (list, backend) = (List::new(), Backend::new());
        Self { msix, list, backend, is_attached: false, is_loading: false }
    }

    /// The engine, to be asked.
    pub(crate) const fn msix(&self) -> &Msix<S> {
        &self.msix
    }

    /// Has the engine take an input on its own stack, and carries out what it emits.
    pub(crate) fn input<T>(
        &mut self,
        record: &mut Record,
        input: impl FnOnce(&mut Msix<S>, &mut List) -> T,
    ) -> T {
        arena::shut(|| {
            stack::on(|| {
                let answer = input(&mut self.msix, &mut self.list);
                self.settle(record);
                answer
            })
        })
    }

    /// As [`input`](Self::input), for what is refused only while effects wait.
    pub(crate) fn always<T>(
        &mut self,
        record: &mut Record,
        input: impl FnOnce(&mut Msix<S>, &mut List) -> Result<T, NotCarriedOut>,
    ) {
        let answer = self.input(record, input);
        assert!(answer.is_ok(), "the list was carried out");
    }

    /// Attaches or detaches the backend.
    pub(crate) fn attach(&mut self, record: &mut Record, on: bool) {
        self.is_attached = on;
        self.always(record, if on { Msix::attach } else { Msix::detach });
    }

    /// Resets the function.
    pub(crate) fn reset(&mut self, record: &mut Record) {
        self.is_loading = false;
        self.always(record, Msix::reset);
    }

    /// Loads, by one of the engine's two encodings.
    pub(crate) fn load<E>(
        &mut self,
        load: impl FnOnce(&mut Msix<S>) -> Result<(), E>,
    ) -> Result<(), E> {
        let loaded = arena::shut(|| stack::on(|| load(&mut self.msix)));
        self.is_loading |= loaded.is_ok();
        loaded
    }

    /// Ends a load.
    pub(crate) fn resume(&mut self, record: &mut Record) {
        self.is_loading = false;
        self.always(record, Msix::resume);
    }

    /// Takes an event of the device, which goes past the engine, `by_backend`, where that listens.
    pub(crate) fn event(
        &mut self,
        record: &mut Record,
        vector: Vector,
        by_backend: bool,
    ) -> Result<(), VectorError> {
        let is_claimed = self.msix.claims(vector).is_some_and(|claims| claims > 0);
        if by_backend && is_claimed && self.is_attached && !self.is_loading {
            self.signal(record, vector);
            return Ok(());
        }
        self.input(record, |msix, list| msix.notify(vector, list)).map(drop)
    }

    /// The backend sees an event.
    pub(crate) fn signal(&mut self, record: &mut Record, vector: Vector) {
        arena::shut(|| {
            stack::on(|| {
                self.backend.signal(vector, record);
                self.settle(record);
            });
        });
    }

    /// Carries out what was emitted, and gives the engine the events that nobody else takes: of vectors
    /// that the backend could not arm (H11), and all while it is detached.
    fn settle(&mut self, record: &mut Record) {
        self.carry_out(record);
        while let Some(vector) = self.backend.take_held(!self.is_attached) {
            let taken = self.msix.notify(vector, &mut self.list);
            debug_assert!(taken.is_ok(), "only vectors of the table are signalled");
            self.carry_out(record);
        }
    }

    fn carry_out(&mut self, record: &mut Record) {
        // As many as a Poll of every vector can answer, one a word.
        let mut held = Vec::<Vectors, 32>::new();
        loop {
            while let Some(effect) = self.list.take() {
                match effect {
                    Effect::IntxDeassert => record.intx(IntxCall::Deassert),
                    Effect::IntxReevaluate => record.intx(IntxCall::Reevaluate),
                    _ => {}
                }
                let message = |vector| self.msix.message(vector);
                let answer = self.backend.carry_out(effect, message, record);
                self.msix.report_failed(answer.failed);
                if answer.held.bits() != 0 {
                    let _ = held.push(answer.held);
                }
            }
            let Some(vectors) = held.pop() else { return };
            let reported = self.msix.report_held(vectors, &mut self.list);
            debug_assert!(reported.is_ok(), "the list was carried out");
        }
    }
}

/// Where table and PBA lie, for a function of `vectors` vectors.
pub(crate) fn layout(vectors: u32) -> Result<Layout, msix_core::LayoutError> {
    Layout::exclusive_bar(vectors, msix_core::BarIndex::new(0)?)
}

/// The policy of the image.
pub(crate) const POLICY: Policy = Policy::SPEC;
