//! The two numbers of an RSA public key, out of what aws-lc-rs says of a key pair: `RSAPublicKey` in DER (RFC 8017 A.1.1).

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// Modulus and exponent, most significant byte first, without zeros before them. `None`: it is something else.
pub(super) fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, after) = value(SEQUENCE, der)?;
    let (modulus, rest) = value(INTEGER, inside)?;
    let (exponent, end) = value(INTEGER, rest)?;
    (after.is_empty() && end.is_empty()).then_some((positive(modulus), positive(exponent)))
}

/// The contents of a value with this tag, and what follows it (X.690 §8.1).
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match length.checked_sub(0x80) {
        None => (usize::from(*length), rest),
        Some(bytes) => {
            let (bytes, rest) = rest.split_at_checked(usize::from(bytes))?;
            let length = bytes.iter().try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)))?;
            (length, rest)
        }
    };
    rest.split_at_checked(length)
}

fn positive(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}
