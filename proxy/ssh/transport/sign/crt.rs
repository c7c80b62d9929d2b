//! The one piece of arithmetic that a private RSA key of OpenSSH needs before aws-lc-rs takes it: the file leaves out d mod (p-1) and
//! d mod (q-1) (PROTOCOL.key; RFC 8017 §3.2 has them). All of it is secret: no branch and no index depends on a bit of it.

use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

/// `number mod (prime - 1)`, both most significant byte first. The lengths are not secret.
pub(super) fn reduced(number: &[u8], prime: &[u8]) -> Zeroizing<Vec<u8>> {
    let modulus = less_one(prime);
    // One byte more: the remainder is doubled before it is reduced.
    let mut remainder = Zeroizing::new(vec![0_u8; modulus.len()]);
    let mut less = Zeroizing::new(vec![0_u8; modulus.len()]);
    for byte in number {
        for shift in (0..u8::BITS).rev() {
            double(&mut remainder, (byte >> shift) & 1);
            let borrowed = subtract(&remainder, &modulus, &mut less);
            for (kept, reduced) in remainder.iter_mut().zip(less.iter()) {
                *kept = u8::conditional_select(reduced, kept, borrowed);
            }
        }
    }
    remainder
}

/// `prime - 1`, with a zero byte before it. A prime but 2 is odd: nothing is borrowed. What is no prime is found out by `RSA_check_key`.
fn less_one(prime: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(prime.len().saturating_add(1)));
    bytes.push(0);
    bytes.extend_from_slice(prime);
    if let Some(last) = bytes.last_mut() {
        *last &= 0xfe;
    }
    bytes
}

/// `number * 2 + bit`, in place; what falls out at the top is lost, and is 0 here.
fn double(number: &mut [u8], bit: u8) {
    let mut carry = bit;
    for byte in number.iter_mut().rev() {
        let out = *byte >> 7;
        *byte = (*byte << 1) | carry;
        carry = out;
    }
}

/// `from - number` into `less`; is there a borrow left, that is, was `from` smaller?
fn subtract(from: &[u8], number: &[u8], less: &mut [u8]) -> Choice {
    let mut borrow = 0_u8;
    for ((from, number), less) in from.iter().zip(number).zip(less.iter_mut()).rev() {
        let difference = u16::from(*from).wrapping_sub(u16::from(*number)).wrapping_sub(u16::from(borrow));
        let [high, low] = difference.to_be_bytes();
        *less = low;
        borrow = high & 1;
    }
    Choice::from(borrow)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
