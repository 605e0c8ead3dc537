//! What can be asked of an engine.

use msix_core::{
    BarIndex, Delivery, Effects, Function, FunctionEffects, Inline, IntxSource, Layout,
    MsiCapability, Msix, Parts, Policy, Vector, Vectors,
};

#[test]
fn queries_know_the_vectors_of_the_table_and_no_others() {
    let layout = Layout::exclusive_bar(70, BarIndex::new(0).unwrap()).unwrap();
    let mut msix = Msix::<Inline<70, 2>>::new(layout, Policy::SPEC).unwrap();
    let mut fx = Effects::<8>::new();
    let (v3, v69, outside) = (Vector::new(3), Vector::new(69), Vector::new(70));
    for vector in [v3, v69] {
        msix.claim(vector, &mut fx).unwrap();
        assert_eq!(msix.notify(vector, &mut fx), Ok(Delivery::Pending));
        assert_eq!(msix.notify(vector, &mut fx), Ok(Delivery::Coalesced));
    }
    assert!(msix.live().next().is_none());
    assert!(msix.pending().eq([Vectors::one(v3), Vectors::one(v69)]));
    assert!(!msix.is_attached());
    msix.attach(&mut fx).unwrap();
    msix.write_config(3, &[0x80], &mut fx).unwrap();
    while fx.take().is_some() {}
    msix.set_mask(v69, false, &mut fx).unwrap();
    assert!(msix.is_attached());
    assert!(msix.live().eq([Vectors::one(v69)]));
    assert!(msix.pending().eq([Vectors::one(v3)]));
    for (vector, masked, pending, live) in [(v3, true, true, false), (v69, false, false, true)] {
        assert_eq!(msix.is_masked(vector), Some(masked));
        assert_eq!(msix.is_pending(vector), Some(pending));
        assert_eq!(msix.is_live(vector), Some(live));
        assert_eq!(msix.is_deliverable(vector), Some(live));
        assert_eq!((msix.is_fallback(vector), msix.claims(vector)), (Some(false), Some(1)));
    }
    assert!(msix.message(v69).is_some());
    assert_eq!((msix.is_masked(outside), msix.is_pending(outside)), (None, None));
    assert_eq!((msix.is_live(outside), msix.is_fallback(outside)), (None, None));
    assert_eq!((msix.is_deliverable(outside), msix.claims(outside)), (None, None));
    assert_eq!(msix.message(outside), None);
}

#[test]
fn msi_says_what_it_has_and_whether_it_is_attached() {
    let plain = MsiCapability::new(2).unwrap();
    for (capability, has) in [
        (plain, (false, false)),
        (plain.with_64_bit_address(), (true, false)),
        (plain.with_masks(), (false, true)),
    ] {
        assert_eq!((capability.is_64_bit(), capability.has_masks()), has);
        let parts = Parts { msi: Some(capability), ..Parts::default() };
        let mut function = Function::<Inline<1, 1>>::new(parts, Policy::SPEC).unwrap();
        assert!(!function.msi().unwrap().is_attached());
        function.attach(&mut FunctionEffects::<14>::new()).unwrap();
        assert!(function.msi().unwrap().is_attached());
    }
    let vector = Vector::new(70);
    assert_eq!((u16::from(vector), usize::from(vector)), (70, 70));
}

#[test]
fn a_pin_says_what_it_was_told_and_what_it_tells() {
    let parts = Parts { pin: Some(IntxSource::Emulated), ..Parts::default() };
    let mut function = Function::<Inline<1, 1>>::new(parts, Policy::SPEC).unwrap();
    let mut fx = FunctionEffects::<14>::new();
    let said = |function: &Function<Inline<1, 1>>| {
        let pin = function.intx().unwrap();
        [pin.is_attached(), pin.is_live(), pin.is_asserted(), pin.status()]
    };
    assert_eq!(said(&function), [false; 4]);
    let take = |fx: &mut FunctionEffects<14>| while fx.take().is_some() {};
    function.attach(&mut fx).unwrap();
    take(&mut fx);
    assert_eq!(said(&function), [true, true, false, false]);
    function.set_level(true, &mut fx).unwrap();
    take(&mut fx);
    assert_eq!(said(&function), [true, true, true, true]);
    function.write_command(0, &[0, 4], &mut fx).unwrap(); // Interrupt Disable
    take(&mut fx);
    assert_eq!(said(&function), [true, false, false, true], "Interrupt Status is not masked");
    assert!(!function.is_loading() && function.check());
}
