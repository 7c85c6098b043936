//! An RSA key pair from the parts that an OpenSSH file holds: `ring` also wants the two exponents of the Chinese
//! remainder theorem, which the file leaves out.

use crate::wire::left_padded;
use crypto_bigint::{Encoding as _, NonZero, U4096};
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use zeroize::Zeroizing;

/// The parts of a file, big-endian without sign byte.
pub(crate) struct Parts<'a> {
    pub(crate) n: &'a [u8],
    pub(crate) e: &'a [u8],
    pub(crate) d: &'a [u8],
    pub(crate) p: &'a [u8],
    pub(crate) q: &'a [u8],
    pub(crate) iqmp: &'a [u8],
}

/// The pair, or nothing when the parts don't belong together or are outside 2048 to 4096 bits.
pub(crate) fn pair(parts: &Parts<'_>) -> Option<KeyPair> {
    let d_p = exponent(parts.d, parts.p)?;
    let d_q = exponent(parts.d, parts.q)?;
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: parts.n, e: parts.e },
        d: parts.d,
        p: parts.p,
        q: parts.q,
        dP: d_p.as_slice(),
        dQ: d_q.as_slice(),
        qInv: parts.iqmp,
    };
    KeyPair::from_components(&components).ok()
}

/// `d mod (prime - 1)`, as long as the prime.
fn exponent(d: &[u8], prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let divisor = NonZero::new(number(prime)?.wrapping_sub(&U4096::ONE));
    let divisor = Option::<NonZero<U4096>>::from(divisor)?;
    let remainder = Zeroizing::new(number(d)?.rem(&divisor));
    let bytes = Zeroizing::new(remainder.to_be_bytes());
    let start = bytes.len().checked_sub(prime.len())?;
    Some(Zeroizing::new(bytes.get(start..)?.to_vec()))
}

fn number(bytes: &[u8]) -> Option<Zeroizing<U4096>> {
    let padded = Zeroizing::new(left_padded(bytes, U4096::BYTES)?);
    Some(Zeroizing::new(U4096::from_be_slice(&padded)))
}
