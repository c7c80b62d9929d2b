use proptest::prelude::*;

use super::*;

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

proptest! {
    #[test]
    fn the_remainder_is_the_one_of_division(number_ in any::<u128>(), prime in any::<u128>(), shift in 0_u32..120) {
        let prime = (prime >> shift) | 1;
        prop_assume!(prime > 1);
        let remainder = reduced(&number_.to_be_bytes(), &prime.to_be_bytes());
        prop_assert_eq!(number(&remainder), number_ % (prime - 1));
    }
}

#[test]
fn numbers_of_any_length_have_a_remainder() {
    for (number_, prime, wanted) in [
        (&[][..], &[7][..], 0),
        (&[0], &[7], 0),
        (&[6], &[7], 0),
        (&[5], &[7], 5),
        (&[1, 0], &[7], 4),
        (&[255; 4], &[0, 0, 7], 3),
        (&[9], &[3], 1),
    ] {
        assert_eq!(number(&reduced(number_, prime)), wanted, "{number_:?} {prime:?}");
    }
    // No prime: nothing sensible, and no panic.
    for prime in [&[][..], &[0], &[1]] {
        reduced(&[255; 8], prime);
    }
}
