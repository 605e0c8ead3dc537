//! Any sequence of a server's messages, legal or not.

use msix_tests::server_model::{With, check};
use proptest::collection::vec;
use proptest::prelude::*;

/// What comes with a message, mostly a descriptor.
fn with() -> impl Strategy<Value = With> {
    prop_oneof![
        6 => Just(With::Descriptor),
        3 => Just(With::Nothing),
        1 => Just(With::Lost),
    ]
}

/// What a server says, mostly legal.
fn message() -> impl Strategy<Value = (i64, With)> {
    prop_oneof![
        // Few peers, so that they come back, and connect more than there is room for.
        8 => (0..4_i64, with()),
        1 => (Just(-1), with()),
        1 => (65_530..65_540_i64, with()),
        1 => (prop_oneof![Just(-2), Just(i64::MIN), Just(i64::MAX), any::<i64>()], with()),
    ]
}

const START: [(i64, With); 3] = [(0, With::Nothing), (2, With::Nothing), (-1, With::Descriptor)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_client_believes_what_is_legal_and_closes_every_descriptor_once(
        vectors in prop_oneof![0..4_u16, Just(2048)],
        most_peers in prop_oneof![0..4_usize, Just(usize::MAX)],
        begin in 0..4_usize,
        rest in vec(message(), 0..60),
    ) {
        // Most begin as a server does, or there would be little to see.
        let said: Vec<(i64, With)> = START[..begin.min(3)].iter().copied().chain(rest).collect();
        if let Err(difference) = check(vectors, most_peers, &said) {
            prop_assert!(false, "{difference}: {said:?}");
        }
    }
}

#[test]
fn every_short_sequence_is_understood() {
    use With::{Descriptor, Lost, Nothing};
    let alphabet = [
        (0, Nothing),
        (0, Descriptor),
        (1, Nothing),
        (1, Descriptor),
        (1, Lost),
        (-1, Descriptor),
        (-1, Lost),
        (-1, Nothing),
    ];
    let mut checked = 0;
    for number in 0..alphabet.len().pow(6) {
        let mut left = number;
        let said = [(); 6].map(|()| {
            let next = alphabet[left % alphabet.len()];
            left /= alphabet.len();
            next
        });
        for (vectors, most_peers) in [(1, usize::MAX), (2, 0)] {
            check(vectors, most_peers, &said)
                .unwrap_or_else(|difference| panic!("{difference}: {said:?}"));
            checked += 1;
        }
    }
    assert_eq!(checked, 2 * 262_144);
}
