//! Fixtures that the unit tests share.

use crate::{
    BarIndex, Effect, Effects, Inline, Layout, MAX_EFFECTS, Msi, MsiCapability, Msix, Policy,
    Vector,
};
use std::vec::Vec;

/// A list that fits every engine.
pub(crate) type Fx = Effects<MAX_EFFECTS>;

/// Makes an enabled function with a backend, one claim for each vector, all vectors masked, and its
/// empty list.
pub(crate) fn engine<const N: usize, const W: usize>(policy: Policy) -> (Msix<Inline<N, W>>, Fx) {
    let vectors = u16::try_from(N).unwrap();
    let layout = Layout::exclusive_bar(u32::from(vectors), BarIndex::new(0).unwrap()).unwrap();
    enabled(Msix::new(layout, policy).unwrap())
}

/// As [`engine`], with messages exempt from masks where `predicate` is true.
pub(crate) fn exempting<const N: usize, const W: usize>(
    policy: Policy,
    predicate: fn(crate::Message) -> bool,
) -> (Msix<Inline<N, W>>, Fx) {
    let vectors = u32::try_from(N).unwrap();
    let layout = Layout::exclusive_bar(vectors, BarIndex::new(0).unwrap()).unwrap();
    enabled(Msix::new(layout, policy).unwrap().with_exempt_messages(predicate))
}

fn enabled<const N: usize, const W: usize>(
    mut msix: Msix<Inline<N, W>>,
) -> (Msix<Inline<N, W>>, Fx) {
    let vectors = msix.vectors();
    let mut fx = Fx::new();
    for index in 0..vectors {
        msix.claim(Vector::new(index), &mut fx).unwrap();
    }
    msix.attach(&mut fx).unwrap();
    msix.write_config(3, &[0x80], &mut fx).unwrap();
    take(&mut fx);
    assert_eq!(msix.control() >> 14, 2);
    (msix, fx)
}

/// Empties the list.
pub(crate) fn take(fx: &mut Fx) -> Vec<Effect> {
    core::iter::from_fn(|| fx.take()).collect()
}

/// Makes an enabled MSI function of 4 vectors, all allocated, with a 64-bit address, masks and a
/// backend, and its empty list.
pub(crate) fn msi(policy: Policy) -> (Msi, Fx) {
    let capability = MsiCapability::new(4).unwrap().with_64_bit_address().with_masks();
    let mut msi = Msi::new(capability, policy);
    let mut fx = Fx::new();
    msi.attach(&mut fx);
    msi.write_config(4, &[0, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x40, 0], &mut fx);
    msi.write_config(2, &[0x21], &mut fx);
    take(&mut fx);
    (msi, fx)
}

/// A list that fits every function.
pub(crate) type FunctionFx = crate::FunctionEffects<{ crate::MAX_FUNCTION_EFFECTS }>;

/// Makes a function of 2 MSI-X vectors, each claimed and unmasked, 2 MSI vectors and an emulated
/// pin, with a backend and bus master on, in INTx mode, and its empty list.
pub(crate) fn function(policy: Policy) -> (crate::Function<Inline<2, 1>>, FunctionFx) {
    let parts = crate::Parts {
        msi: Some(MsiCapability::new(2).unwrap().with_masks()),
        msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap()),
        pin: Some(crate::IntxSource::Emulated),
    };
    let mut function = crate::Function::new(parts, policy).unwrap();
    let mut fx = FunctionFx::new();
    for vector in [0, 1].map(Vector::new) {
        function.claim(vector, &mut fx).unwrap();
        function.set_mask(vector, false, &mut fx).unwrap();
    }
    function.write_msi(2, &[0x10], &mut fx).unwrap();
    assert!(fx.is_empty());
    function.attach(&mut fx).unwrap();
    take_function(&mut fx);
    function.write_command(0, &[4], &mut fx).unwrap();
    (function, fx)
}

/// Empties the list.
pub(crate) fn take_function(fx: &mut FunctionFx) -> Vec<crate::FunctionEffect> {
    core::iter::from_fn(|| fx.take()).collect()
}
