//! Any sequence of a server's messages, legal or not.

use msix_tests::server_model::check;
use proptest::collection::vec;
use proptest::prelude::*;

/// What a server says, mostly legal.
fn message() -> impl Strategy<Value = (i64, bool)> {
    prop_oneof![
        // Few peers, so that they come back, and connect more than there is room for.
        8 => (0..4_i64, prop::bool::weighted(0.7)),
        1 => (Just(-1), prop::bool::weighted(0.9)),
        1 => (65_530..65_540_i64, any::<bool>()),
        1 => (prop_oneof![Just(-2), Just(i64::MIN), Just(i64::MAX), any::<i64>()], any::<bool>()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_client_believes_what_is_legal_and_closes_every_descriptor_once(
        vectors in prop_oneof![0..4_u16, Just(2048)],
        begin in 0..4_usize,
        rest in vec(message(), 0..60),
    ) {
        // Most begin as a server does, or there would be little to see.
        let start = [(0, false), (2, false), (-1, true)];
        let said: Vec<(i64, bool)> = start[..begin.min(3)].iter().copied().chain(rest).collect();
        if let Err(difference) = check(vectors, &said) {
            prop_assert!(false, "{difference}: {said:?}");
        }
    }
}

#[test]
fn every_short_sequence_is_understood() {
    let alphabet =
        [(0, false), (0, true), (1, false), (1, true), (-1, true), (-1, false), (-2, true)];
    let mut checked = 0;
    for number in 0..alphabet.len().pow(6) {
        let mut left = number;
        let said = [(); 6].map(|()| {
            let next = alphabet[left % alphabet.len()];
            left /= alphabet.len();
            next
        });
        for vectors in [1, 2] {
            check(vectors, &said).unwrap_or_else(|difference| panic!("{difference}: {said:?}"));
            checked += 1;
        }
    }
    assert_eq!(checked, 2 * 117_649);
}
