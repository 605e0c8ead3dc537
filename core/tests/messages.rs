//! What is wrong is said in full: every error's message, with the value and the limit.

#[cfg(feature = "alloc")]
use msix_core::plain::ImportError;
use msix_core::{
    BarIndex, Borrowed, Entry, Inline, Layout, LayoutError, LoadError, MsiCapabilityError, Msix,
    NotCarriedOut, Policy, Region, Vector, VectorError, Vectors, Word,
};
use std::error::Error;

#[test]
fn every_error_says_what_was_wrong_and_what_is_allowed() {
    let vector = Vector::new(70);
    let layout = Layout::exclusive_bar(65, BarIndex::new(0).unwrap()).unwrap();
    let wrong_storage = Msix::<Inline<64, 1>>::new(layout, Policy::SPEC).unwrap_err();
    let (mut entries, mut claims, mut words) = ([Entry::RESET; 65], [0; 64], [Word::RESET]);
    let unfit = Borrowed::new(&mut entries, &mut claims, &mut words).unwrap_err();
    let full = Msix::<Inline<65, 2>>::new(layout, Policy::SPEC).unwrap();
    let short = full.save(&mut [0; 8]).unwrap_err();
    let cases: &[(&dyn Error, &str)] = &[
        (&NotCarriedOut, "the effects of the last input are not carried out yet"),
        (&VectorError::NotCarriedOut, "the effects of the last input are not carried out yet"),
        (
            &VectorError::OutOfRange { vector, vectors: 64 },
            "vector 70 is not one of the 64 vectors, counted from 0",
        ),
        (&VectorError::TooManyClaims { vector }, "vector 70 already has 65535 claims"),
        (&wrong_storage, "the storage does not fit the layout's 65 vectors"),
        (
            &unfit,
            "storage of 65 entries, 64 claim counts and 1 words: N from 1 to 2048 entries need N claim \
             counts and ceil(N / 64) words",
        ),
        (&short, "the snapshot takes 1202 bytes, the buffer has 8"),
        (&LoadError::Length { expected: 90, got: 8 }, "snapshot of 8 bytes, expected 90"),
        (&LoadError::Magic(*b"ELF\x7f"), "not a snapshot: it begins with [45, 4c, 46, 7f]"),
        (&LoadError::Version(7), "snapshot version 7, expected 1 to 2"),
        (
            &LoadError::Vectors { snapshot: 65_536, engine: 9 },
            "snapshot of 65536 vectors for a function with 9",
        ),
        (&LoadError::Checksum, "the snapshot's checksum is wrong"),
        (&LoadError::ReservedControl(0x800), "Message Control 0x0800 has a reserved bit set"),
        (&LoadError::PbaTail(0xfe00), "the PBA has bits past the last vector set: 0xfe00"),
        (
            &LoadError::Capability { at: 3 },
            "byte 3 of the MSI capability differs from this function's",
        ),
        (&LoadError::Function, "the snapshot is of a function with other parts"),
        (&MsiCapabilityError::Vectors(3), "3 vectors: MSI has 1, 2, 4, 8, 16 or 32"),
        (
            &MsiCapabilityError::Reserved(0x8c),
            "Message Control 0x008c: its Multiple Message Capable has a reserved value",
        ),
        #[cfg(feature = "alloc")]
        (&ImportError::Vectors(2049), "a table of 2049 entries, expected 1 to 2048"),
        #[cfg(feature = "alloc")]
        (&ImportError::Count { said: 3, entries: 4 }, "4 entries, but a count of 3"),
        #[cfg(feature = "alloc")]
        (&ImportError::PbaWords { expected: 2, got: 1 }, "a PBA of 1 words, expected 2"),
        #[cfg(feature = "alloc")]
        (&ImportError::PbaTail(0x10), "the PBA has bits past the last vector set: 0x10"),
        #[cfg(feature = "alloc")]
        (&ImportError::ReservedControl(0x0800), "Message Control 0x0800 has a reserved bit set"),
        #[cfg(feature = "alloc")]
        (&ImportError::Length { expected: 17, got: 16 }, "16 bytes, expected 17"),
        #[cfg(feature = "alloc")]
        (&LoadError::Parts, "table, pending bits and claims differ in vector count"),
        (&LayoutError::NotMsix(5), "capability id 0x5: MSI-X is 0x11"),
        (
            &LayoutError::OffsetTooLarge { region: Region::Pba, offset: 0x1_0000_0000 },
            "PBA offset 0x100000000: must fit 32 bits",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), *message);
    }
}

#[test]
fn vectors_are_shown_by_number() {
    assert_eq!(Vector::new(70).to_string(), "70");
    assert_eq!(format!("{:?}", Vector::new(70)), "v70");
    assert_eq!(format!("{:?}", Vectors::new(1, 0b1010)), "{v65, v67}");
    let reset = format!("{:?}", Word::RESET);
    assert!(reset.contains("masked: 0xffffffffffffffff, pending: 0x0"), "{reset}");
    assert_eq!(BarIndex::new(5).map(BarIndex::index), Ok(5));
}

#[test]
fn lent_memory_must_be_for_exactly_the_layouts_vectors() {
    for vectors in [3, 4, 5] {
        let bar = BarIndex::new(0).unwrap();
        let layout = Layout::exclusive_bar(u32::from(vectors), bar).unwrap();
        let (mut entries, mut uses, mut words) = ([Entry::RESET; 4], [0; 4], [Word::RESET]);
        let storage = Borrowed::new(&mut entries, &mut uses, &mut words).unwrap();
        let made = Msix::with_storage(storage, layout, Policy::default());
        let made = made.map(|msix| (msix.vectors(), *msix.policy()));
        let refused = made.as_ref().err().map(|error| error.layout);
        assert_eq!(refused, (vectors != 4).then_some(vectors));
        assert!(refused.is_some() || made == Ok((4, Policy::SPEC)));
    }
}

#[test]
#[cfg(feature = "alloc")]
fn boxed_memory_is_made_for_the_layouts_vectors() {
    let layout = Layout::exclusive_bar(70, BarIndex::new(0).unwrap()).unwrap();
    let made = Msix::<msix_core::Boxed>::new(layout, Policy::SPEC);
    assert_eq!(made.map(|msix| msix.vectors()), Ok(70));
}
