//! A private key in memory. Ed25519 keys can be made; every kind that OpenSSH keeps in a file can be read.

use crate::{
    certificate::Certificate,
    private_file::{PrivateFile, read_comment},
    public_key::{self, ED25519, P256, P384, P521, PublicKey, PublicKeyError},
    rsa_parts::{self, Parts},
    signature::{self, RSA_SHA512},
    signer::{SignError, Signer},
    sshsig,
    verify::Refusal,
    wire::{Reader, left_padded, put_string},
};
use ed25519_dalek::{Signer as _, SigningKey};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, RSA_PKCS1_SHA512,
    },
};
use std::fmt;
use zeroize::Zeroizing;

/// Why a private key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not an OpenSSH private key.
    #[error("it is not an OpenSSH private key")]
    NotAKey,
    /// It is a key in an older form.
    #[error("it is a private key in PEM form; `ssh-keygen -p -f FILE` rewrites it in OpenSSH's")]
    Pem,
    /// It is encrypted and no passphrase was given.
    #[error("the key is encrypted")]
    PassphraseNeeded,
    /// The passphrase does not open it.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The private part is in a hardware key: it signs through ssh-agent.
    #[error("the key lives in hardware; add it to ssh-agent")]
    Hardware,
    /// The kind of key is not accepted.
    #[error("keys of the kind {0} can't sign here")]
    Kind(String),
    /// It is encrypted in a way that is not understood.
    #[error("the key's encryption is not understood: {0}")]
    Cipher(String),
    /// Its two halves don't belong together, or it is broken otherwise.
    #[error("the key is inconsistent, or outside the sizes that can sign (RSA: 2048 to 4096 bits)")]
    Inconsistent,
    /// The certificate is not one of this key.
    #[error("the certificate is not for this key")]
    Certificate,
}

enum Secret {
    Ed25519(SigningKey),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    P521(Box<p521::ecdsa::SigningKey>),
    Rsa(Box<ring::rsa::KeyPair>),
}

/// A signer whose private key is in memory. What was read, ed25519 and P-521 keys are wiped when dropped; `ring` does not
/// wipe its own form of the others.
pub struct KeySigner {
    secret: Secret,
    public: PublicKey,
    certificate: Option<Certificate>,
    file: PrivateFile,
    comment: String,
    random: SystemRandom,
}

impl KeySigner {
    /// The ed25519 key of these 32 random bytes.
    #[must_use]
    pub fn generate(random: [u8; 32], comment: &str) -> Self {
        let seed = Zeroizing::new(random);
        let public = SigningKey::from_bytes(&seed).verifying_key();
        let mut blob = Vec::new();
        put_string(&mut blob, ED25519.as_bytes());
        put_string(&mut blob, public.as_bytes());
        let mut fields = Zeroizing::new(blob.clone());
        put_string(&mut fields, &Zeroizing::new([*seed, public.to_bytes()].concat()));
        let file = PrivateFile::of(&blob, &fields, comment);
        Self::from_file(file).expect("the key of any seed is a good one")
    }

    /// Reads a private key in OpenSSH's own form.
    ///
    /// # Errors
    /// [`KeyError`], with variants of its own for a passphrase that is needed or wrong.
    pub fn from_openssh(text: &str, passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        Self::from_file(PrivateFile::parse(text, passphrase)?)
    }

    fn from_file(file: PrivateFile) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let public = PublicKey::from_blob(&file.public).map_err(|error| match error {
            PublicKeyError::Kind(kind) => KeyError::Kind(kind),
            PublicKeyError::Malformed(_) | PublicKeyError::Weak(_) => KeyError::Inconsistent,
        })?;
        let mut fields = file.fields();
        if fields.text()? != public.algorithm() {
            return Err(KeyError::Inconsistent);
        }
        let secret = Secret::read(&public, &mut fields, &random)?;
        let comment = read_comment(fields)?;
        Ok(Self { secret, public, certificate: None, file, comment, random })
    }

    /// Signs with this certificate (the text of a `-cert.pub` file) from now on.
    ///
    /// # Errors
    /// [`KeyError::Certificate`] when it is not one of this key.
    pub fn with_certificate(self, text: &str) -> Result<Self, KeyError> {
        let certificate = Certificate::from_openssh(text).map_err(|_: Refusal| KeyError::Certificate)?;
        if *certificate.key() != self.public {
            return Err(KeyError::Certificate);
        }
        Ok(Self { certificate: Some(certificate), ..self })
    }

    /// The private key as an OpenSSH file, not encrypted.
    #[must_use]
    pub fn to_openssh(&self) -> Zeroizing<String> {
        self.file.to_text()
    }

    /// The line of a `.pub` file, with the comment.
    #[must_use]
    pub fn public_openssh(&self) -> String {
        format!("{} {}", self.public.to_openssh(), self.comment()).trim_end().to_owned()
    }

    /// The comment in the key's file.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The SSH signature blob over `message` as it is, without SSHSIG.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError::Failed("the random source or the key failed".to_owned());
        Ok(match &self.secret {
            Secret::Ed25519(key) => signature::blob(ED25519, &key.sign(message).to_bytes()),
            Secret::P256(pair) => {
                ecdsa_blob(P256, pair.sign(&self.random, message).map_err(failed)?.as_ref())
            }
            Secret::P384(pair) => {
                ecdsa_blob(P384, pair.sign(&self.random, message).map_err(failed)?.as_ref())
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key
                    .try_sign(message)
                    .map_err(|_| SignError::Failed("the random source failed".to_owned()))?;
                ecdsa_blob(P521, &signature.to_bytes())
            }
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA512, &self.random, message, &mut signature).map_err(failed)?;
                signature::blob(RSA_SHA512, &signature)
            }
        })
    }
}

impl Signer for KeySigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.sign_raw(&sshsig::to_be_signed(namespace, message))?;
        let key = self.certificate.as_ref().map_or(self.public.blob(), Certificate::blob);
        Ok(sshsig::wrap(key, namespace, &signature))
    }
}

impl Secret {
    /// Reads the fields after the kind, and holds them against the public key: a file whose public half is another's
    /// would make signatures that give the private half away.
    fn read(public: &PublicKey, fields: &mut Reader<'_>, random: &SystemRandom) -> Result<Self, KeyError> {
        match public.algorithm() {
            ED25519 => read_ed25519(public, fields),
            P256 => read_ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, 32, public, fields, random).map(Self::P256),
            P384 => read_ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, 48, public, fields, random).map(Self::P384),
            P521 => read_p521(public, fields),
            public_key::RSA => read_rsa(public, fields),
            _ => Err(KeyError::Hardware),
        }
    }
}

/// Whether a blob made of the kind and these fields is the public key's.
fn belongs(public: &PublicKey, fields: &[&[u8]]) -> Result<(), KeyError> {
    let mut blob = Vec::new();
    put_string(&mut blob, public.algorithm().as_bytes());
    fields.iter().for_each(|field| put_string(&mut blob, field));
    if blob == public.blob() { Ok(()) } else { Err(KeyError::Inconsistent) }
}

fn read_ed25519(public: &PublicKey, fields: &mut Reader<'_>) -> Result<Secret, KeyError> {
    let (outer, pair) = (fields.string()?, fields.string()?);
    let (seed, inner) = pair.split_first_chunk::<32>().ok_or(KeyError::NotAKey)?;
    let key = SigningKey::from_bytes(seed);
    belongs(public, &[key.verifying_key().as_bytes()])?;
    if outer == inner && inner == key.verifying_key().as_bytes() {
        Ok(Secret::Ed25519(key))
    } else {
        Err(KeyError::Inconsistent)
    }
}

/// The point and the number of an ECDSA key; the number is padded, as one in 256 is shorter than its curve.
fn read_scalar<'a>(
    size: usize,
    public: &PublicKey,
    fields: &mut Reader<'a>,
) -> Result<(&'a [u8], Zeroizing<Vec<u8>>), KeyError> {
    let (curve, point) = (fields.string()?, fields.string()?);
    belongs(public, &[curve, point])?;
    let scalar = left_padded(fields.positive()?, size).ok_or(KeyError::Inconsistent)?;
    Ok((point, Zeroizing::new(scalar)))
}

fn read_ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    size: usize,
    public: &PublicKey,
    fields: &mut Reader<'_>,
    random: &SystemRandom,
) -> Result<EcdsaKeyPair, KeyError> {
    let (point, scalar) = read_scalar(size, public, fields)?;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, point, random)
        .map_err(|_| KeyError::Inconsistent)
}

fn read_p521(public: &PublicKey, fields: &mut Reader<'_>) -> Result<Secret, KeyError> {
    let (point, scalar) = read_scalar(66, public, fields)?;
    let key = p521::ecdsa::SigningKey::from_slice(&scalar).map_err(|_| KeyError::Inconsistent)?;
    let derived = p521::ecdsa::VerifyingKey::from(&key).to_encoded_point(false);
    if derived.as_bytes() == point { Ok(Secret::P521(Box::new(key))) } else { Err(KeyError::Inconsistent) }
}

fn read_rsa(public: &PublicKey, fields: &mut Reader<'_>) -> Result<Secret, KeyError> {
    let (n, e, d) = (fields.positive()?, fields.positive()?, fields.positive()?);
    let (iqmp, p, q) = (fields.positive()?, fields.positive()?, fields.positive()?);
    let belongs =
        matches!(public.material(), public_key::Material::Rsa { n: of, e: with } if of == n && with == e);
    if !belongs {
        return Err(KeyError::Inconsistent);
    }
    rsa_parts::pair(&Parts { n, e, d, p, q, iqmp })
        .map(|pair| Secret::Rsa(Box::new(pair)))
        .ok_or(KeyError::Inconsistent)
}

fn ecdsa_blob(algorithm: &str, fixed: &[u8]) -> Vec<u8> {
    signature::blob(algorithm, &signature::ecdsa_numbers(fixed))
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySigner({:?})", self.public)
    }
}

#[cfg(test)]
mod tests;
