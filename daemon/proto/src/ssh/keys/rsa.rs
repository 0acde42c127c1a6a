//! RSA: what OpenSSH's files leave out of a private key, and aws-lc's public keys taken apart.

use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use zeroize::Zeroizing;

use super::public::RSA_BITS_MAX;

/// Limbs are narrow, so that a subtraction's borrow fits beside them.
const LIMB_BYTES: usize = 4;

/// The numbers of an OpenSSH file, big-endian, without leading zeroes.
pub(super) struct Numbers<'a> {
    pub n: &'a [u8],
    pub e: &'a [u8],
    pub d: &'a [u8],
    /// The inverse of q modulo p.
    pub inverse: &'a [u8],
    pub p: &'a [u8],
    pub q: &'a [u8],
}

/// The library checks that the numbers belong together.
pub(super) fn key_pair(numbers: &Numbers<'_>) -> Option<KeyPair> {
    let Numbers { n, e, d, inverse, p, q } = *numbers;
    if [n, e, d, inverse, p, q].iter().any(|number| number.is_empty() || number.len() > RSA_BITS_MAX / 8) {
        return None;
    }
    let (d_p, d_q) = (remainder(d, &one_less(p)), remainder(d, &one_less(q)));
    KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: d_p.as_slice(),
        dQ: d_q.as_slice(),
        qInv: inverse,
    })
    .ok()
}

/// A prime less one. Primes of keys are odd; a number that is not is refused when the key is checked.
fn one_less(prime: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut number = Zeroizing::new(prime.to_vec());
    if let Some(last) = number.last_mut() {
        *last &= !1;
    }
    number
}

/// `value` modulo `modulus`, both big-endian, in as many bytes as the modulus has. By shifting and
/// subtracting, a bit at a time: the same steps whatever the bits are, and milliseconds a key.
fn remainder(value: &[u8], modulus: &[u8]) -> Zeroizing<Vec<u8>> {
    let limbs = modulus.len().div_ceil(LIMB_BYTES) + 1;
    let mut divisor = Zeroizing::new(vec![0u32; limbs]);
    for (index, byte) in modulus.iter().rev().enumerate() {
        divisor[index / LIMB_BYTES] |= u32::from(*byte) << (8 * (index % LIMB_BYTES));
    }
    let mut rest = Zeroizing::new(vec![0u32; limbs]);
    let mut less = Zeroizing::new(vec![0u32; limbs]);
    for bit in value.iter().flat_map(|byte| (0..8).rev().map(move |shift| u32::from(byte >> shift) & 1)) {
        // rest = 2 * rest + bit; a limb is to spare, so that nothing falls off.
        let mut carry = bit;
        for limb in rest.iter_mut() {
            (*limb, carry) = (*limb << 1 | carry, *limb >> 31);
        }
        // less = rest - divisor; it replaces rest where it is not negative.
        let mut borrow = 0;
        for ((less, rest), divisor) in less.iter_mut().zip(rest.iter()).zip(divisor.iter()) {
            let difference = u64::from(*rest).wrapping_sub(u64::from(*divisor)).wrapping_sub(borrow);
            *less = difference as u32;
            borrow = difference >> 63;
        }
        let keep = (borrow as u32).wrapping_neg();
        for (rest, less) in rest.iter_mut().zip(less.iter()) {
            *rest = *rest & keep | *less & !keep;
        }
    }
    let mut bytes = Zeroizing::new(vec![0; modulus.len()]);
    for (index, byte) in bytes.iter_mut().rev().enumerate() {
        *byte = (rest[index / LIMB_BYTES] >> (8 * (index % LIMB_BYTES))) as u8;
    }
    bytes
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 §A.1.1) in DER, without leading zeroes.
pub(super) fn public_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let (sequence, rest) = element(der, SEQUENCE)?;
    let (n, behind) = element(sequence, INTEGER)?;
    let (e, behind) = element(behind, INTEGER)?;
    (rest.is_empty() && behind.is_empty()).then_some((magnitude(n), magnitude(e)))
}

/// The contents of the element at the front, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn magnitude(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(bytes: &[u8]) -> u128 {
        bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    proptest! {
        #[test]
        fn a_remainder_is_what_arithmetic_says(
            value in proptest::collection::vec(any::<u8>(), 0..=16),
            modulus in proptest::collection::vec(any::<u8>(), 1..=15),
        ) {
            prop_assume!(number(&modulus) != 0);
            let found = remainder(&value, &modulus);
            prop_assert_eq!(found.len(), modulus.len());
            prop_assert_eq!(number(&found), number(&value) % number(&modulus));
        }

        /// a·m + b leaves b, for numbers as long as keys' are.
        #[test]
        fn what_is_added_to_a_multiple_is_left(
            modulus in proptest::collection::vec(any::<u8>(), 256),
            factor in 1u8..,
            added in proptest::collection::vec(any::<u8>(), 255),
        ) {
            prop_assume!(modulus[0] != 0);
            let mut sum = vec![0u8; modulus.len() + 1];
            let mut carry = 0u32;
            for index in (0..modulus.len()).rev() {
                let added = if index == 0 { 0 } else { added[index - 1] };
                carry += u32::from(modulus[index]) * u32::from(factor) + u32::from(added);
                sum[index + 1] = carry as u8;
                carry >>= 8;
            }
            sum[0] = carry as u8;
            let found = remainder(&sum, &modulus);
            prop_assert_eq!(&found[1..], &added[..]);
            prop_assert_eq!(found[0], 0);
        }
    }

    #[test]
    fn der_is_read_within_bounds() {
        let der = [0x30, 0x08, 0x02, 0x03, 0x00, 0x81, 0x02, 0x02, 0x01, 0x03];
        assert_eq!(public_numbers(&der), Some((&[0x81, 0x02][..], &[0x03][..])));
        for end in 0..der.len() {
            assert_eq!(public_numbers(&der[..end]), None);
        }
        assert_eq!(public_numbers(&[&der[..], &[0]].concat()), None);
        let long = [&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x03][..], &[0x11; 259], &[0x02, 0x01, 0x03]]
            .concat();
        assert_eq!(public_numbers(&long), Some((&[0x11; 259][..], &[0x03][..])));
    }
}
