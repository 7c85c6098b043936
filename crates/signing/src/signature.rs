//! Checks one SSH signature blob (RFC 4253, RFC 5656, RFC 8332, OpenSSH `PROTOCOL.u2f`) with one key. SHA-1 `ssh-rsa`,
//! DSA and touchless hardware signatures are refused.

use crate::{
    public_key::{ED25519, Material, P256, P384, P521, PublicKey, SK_ED25519, SK_P256},
    verify::Refusal,
    wire::{Reader, left_padded, put_positive, put_string},
};
use ed25519_dalek::{Verifier as _, VerifyingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256};

pub(crate) const RSA_SHA256: &str = "rsa-sha2-256";
pub(crate) const RSA_SHA512: &str = "rsa-sha2-512";
/// The bit in the flags of a hardware signature that says somebody touched the key.
const USER_PRESENT: u8 = 0x01;

/// Checks that `blob` is `key`'s signature over `message`.
pub(crate) fn check(key: &PublicKey, message: &[u8], blob: &[u8]) -> Result<(), Refusal> {
    let mut reader = Reader::new(blob);
    let algorithm = reader.text()?;
    let signature = reader.string()?;
    match (key.material(), algorithm) {
        (Material::Ed25519(key), ED25519) => {
            reader.finish()?;
            check_ed25519(key, message, signature)
        }
        (Material::P256(point), P256) => {
            reader.finish()?;
            check_ecdsa(&ECDSA_P256_SHA256_FIXED, point, message, &fixed(signature, 32)?)
        }
        (Material::P384(point), P384) => {
            reader.finish()?;
            check_ecdsa(&ECDSA_P384_SHA384_FIXED, point, message, &fixed(signature, 48)?)
        }
        (Material::P521(key), P521) => {
            reader.finish()?;
            check_p521(key, message, signature)
        }
        (Material::Rsa { n, e }, RSA_SHA256 | RSA_SHA512) => {
            reader.finish()?;
            check_rsa(n, e, algorithm, message, signature)
        }
        (Material::SkEd25519 { key, application }, SK_ED25519) => {
            let message = touched(reader, application, message)?;
            check_ed25519(key, &message, signature)
        }
        (Material::SkP256 { point, application }, SK_P256) => {
            let message = touched(reader, application, message)?;
            check_ecdsa(&ECDSA_P256_SHA256_FIXED, point, &message, &fixed(signature, 32)?)
        }
        _ => Err(Refusal::Algorithm),
    }
}

fn check_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| Refusal::BadSignature)?;
    key.verify(message, &signature).map_err(|_| Refusal::BadSignature)
}

fn check_ecdsa(
    algorithm: &'static EcdsaVerificationAlgorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refusal> {
    UnparsedPublicKey::new(algorithm, point).verify(message, signature).map_err(|_| Refusal::BadSignature)
}

fn check_p521(key: &p521::ecdsa::VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let signature =
        p521::ecdsa::Signature::from_slice(&fixed(signature, 66)?).map_err(|_| Refusal::BadSignature)?;
    p521::ecdsa::signature::Verifier::verify(key, message, &signature).map_err(|_| Refusal::BadSignature)
}

fn check_rsa(n: &[u8], e: &[u8], algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let parameters =
        if algorithm == RSA_SHA512 { &RSA_PKCS1_2048_8192_SHA512 } else { &RSA_PKCS1_2048_8192_SHA256 };
    // Some agents drop leading zeros that RFC 8332 wants kept; OpenSSH puts them back too.
    let signature = left_padded(signature, n.len()).ok_or(Refusal::BadSignature)?;
    RsaPublicKeyComponents { n, e }.verify(parameters, message, &signature).map_err(|_| Refusal::BadSignature)
}

/// The two numbers of an ECDSA signature in the fixed form, each `size` bytes long.
fn fixed(signature: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let mut reader = Reader::new(signature);
    let (r, s) = (reader.positive()?, reader.positive()?);
    reader.finish()?;
    let mut both = left_padded(r, size).ok_or(Refusal::BadSignature)?;
    both.extend(left_padded(s, size).ok_or(Refusal::BadSignature)?);
    Ok(both)
}

/// What a hardware key signs: application, flags and counter around the hash of the message.
fn touched(mut reader: Reader<'_>, application: &str, message: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (flags, counter) = (reader.byte()?, reader.u32()?);
    reader.finish()?;
    if flags & USER_PRESENT == 0 {
        return Err(Refusal::NoTouch);
    }
    let mut signed = Sha256::digest(application.as_bytes()).to_vec();
    signed.push(flags);
    signed.extend_from_slice(&counter.to_be_bytes());
    signed.extend_from_slice(&Sha256::digest(message));
    Ok(signed)
}

/// A signature blob around an algorithm's own bytes.
pub(crate) fn blob(algorithm: &str, signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + algorithm.len() + signature.len());
    put_string(&mut out, algorithm.as_bytes());
    put_string(&mut out, signature);
    out
}

/// The two halves of a fixed ECDSA signature as SSH writes them.
pub(crate) fn ecdsa_numbers(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at_checked(fixed.len() / 2).unwrap_or((fixed, &[]));
    let mut out = Vec::with_capacity(fixed.len() + 10);
    put_positive(&mut out, r);
    put_positive(&mut out, s);
    out
}
