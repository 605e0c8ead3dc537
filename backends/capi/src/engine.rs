//! An engine in memory of the caller.

use crate::config::CHostOps;
use crate::effects::EffectList;
use crate::error::CError;
use crate::raw;
use core::cell::{Cell, RefCell};
use core::ffi::{c_int, c_void};
use msix_core::Borrowed;
use msix_core::{Msix, NotCarriedOut, Vector, VectorError, Vectors};

/// The MSI-X side of one PCI function. It lies in memory of the caller, begins where that begins, and must
/// not be moved or copied: make a new one and load a snapshot instead. There is nothing to free.
#[derive(Debug)]
pub struct CEngine {
    _private: [u8; 0],
}

/// What lies at the start of the memory. The first field shows that it is an engine.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Engine {
    magic: usize,
    /// The list of an input is being carried out: inputs are refused.
    pub(crate) carrying_out: Cell<bool>,
    pub(crate) host: Option<(CHostOps, *mut c_void)>,
    pub(crate) state: RefCell<EngineState>,
}

/// What inputs change. Nobody borrows it while a callback runs.
#[derive(Debug)]
pub(crate) struct EngineState {
    pub(crate) msix: Msix<Borrowed<'static>>,
    pub(crate) list: EffectList,
    /// Answers to a poll, for each word, that the engine does not know yet.
    pub(crate) held: &'static mut [u64],
}

/// What an engine is made of, once its memory is there.
pub(crate) struct EngineParts {
    pub(crate) storage: Borrowed<'static>,
    pub(crate) list: EffectList,
    pub(crate) held: &'static mut [u64],
    pub(crate) address: usize,
}

/// Returns the first word of the memory of an engine at this address: elsewhere it is another one.
pub(crate) const fn magic(address: usize) -> usize {
    !address ^ 0x6d73_6978
}

impl Engine {
    pub(crate) fn new(
        msix: Msix<Borrowed<'static>>,
        list: EffectList,
        held: &'static mut [u64],
        address: usize,
        host: Option<(CHostOps, *mut c_void)>,
    ) -> Self {
        Self {
            magic: magic(address),
            carrying_out: Cell::new(false),
            host,
            state: RefCell::new(EngineState { msix, list, held }),
        }
    }

    /// Looks at the engine. Callbacks may do that.
    pub(crate) fn query<T>(
        &self,
        look: impl FnOnce(&Msix<Borrowed<'static>>) -> T,
    ) -> Result<T, CError> {
        Ok(look(&self.state.try_borrow().map_err(|_| CError::Busy)?.msix))
    }

    /// Gives the engine an input that emits nothing. Callbacks may do that.
    pub(crate) fn report(
        &self,
        report: impl FnOnce(&mut Msix<Borrowed<'static>>),
    ) -> Result<(), CError> {
        report(&mut self.state.try_borrow_mut().map_err(|_| CError::Busy)?.msix);
        Ok(())
    }

    /// Gives the engine an input, and carries out what it emits if there are callbacks.
    pub(crate) fn input<T, E: Into<CError>>(
        &self,
        input: impl FnOnce(&mut Msix<Borrowed<'static>>, &mut EffectList) -> Result<T, E>,
    ) -> Result<T, CError> {
        if self.carrying_out.get() {
            return Err(CError::Busy);
        }
        let result = {
            let mut state = self.state.try_borrow_mut().map_err(|_| CError::Busy)?;
            let EngineState { msix, list, .. } = &mut *state;
            input(msix, list).map_err(Into::into)?
        };
        self.carry_out();
        Ok(result)
    }

    /// Takes events that the host held: as an input, or from inside a callback as an answer to a poll.
    pub(crate) fn report_held(&self, vectors: Vectors) -> Result<(), CError> {
        if self.carrying_out.get() {
            let mut state = self.state.try_borrow_mut().map_err(|_| CError::Busy)?;
            return state.note_held(vectors);
        }
        self.input(|msix, list| -> Result<(), NotCarriedOut> { msix.report_held(vectors, list) })
    }
}

impl EngineState {
    pub(crate) fn note_held(&mut self, vectors: Vectors) -> Result<(), CError> {
        let word = self.held.get_mut(usize::from(vectors.word())).ok_or(CError::Vector)?;
        *word |= vectors.bits();
        Ok(())
    }
}

/// Calls `act` with an engine of C.
pub(crate) fn with<T>(
    engine: *const CEngine,
    act: impl FnOnce(&Engine) -> Result<T, CError>,
) -> Result<T, CError> {
    act(raw::engine(engine)?)
}

/// Calls an input of one vector.
pub(crate) fn with_vector<T>(
    engine: *const CEngine,
    number: u32,
    input: impl FnOnce(&mut Msix<Borrowed<'static>>, Vector, &mut EffectList) -> Result<T, VectorError>,
) -> Result<T, CError> {
    let engine = raw::engine(engine)?;
    let vector = vector(number)?;
    engine.input(|msix, list| input(msix, vector, list))
}

/// The name of a vector. Whether the table has it is for the engine to say.
pub(crate) fn vector(number: u32) -> Result<Vector, CError> {
    u16::try_from(number).map(Vector::new).map_err(|_| CError::Vector)
}

/// A truth value, as C reads it.
pub(crate) fn truth(value: bool) -> c_int {
    c_int::from(value)
}
