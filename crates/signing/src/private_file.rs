//! The file of a private key in OpenSSH's own form (`PROTOCOL.key`), opened with its passphrase, and written back without
//! one. Secret bytes are wiped when dropped.

use crate::{
    key_signer::KeyError,
    wire::{Reader, WireError, put_string},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ssh_cipher::Cipher;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const TEXT_LIMIT: usize = 64 * 1024;
/// Some minutes of work; `ssh-keygen` writes 16 or 24 unless told otherwise.
const ROUNDS_LIMIT: u32 = 10_000;
const LINE: usize = 70;

/// An opened file.
pub(crate) struct PrivateFile {
    /// The blob of the public key that the file names outside its secret part.
    pub(crate) public: Vec<u8>,
    /// Two equal check numbers, then the key's kind and fields, the comment, and padding.
    section: Zeroizing<Vec<u8>>,
}

impl PrivateFile {
    /// Opens a file. The fields are read through [`PrivateFile::fields`].
    pub(crate) fn parse(text: &str, passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(unarmoured(text)?);
        let mut reader = Reader::new(&bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(KeyError::NotAKey);
        }
        let (cipher, kdf, options) = (reader.text()?, reader.text()?, reader.string()?);
        if reader.u32()? != 1 {
            return Err(KeyError::NotAKey);
        }
        let public = reader.string()?.to_vec();
        let mut section = Zeroizing::new(reader.string()?.to_vec());
        if cipher == "none" && kdf == "none" {
            reader.finish()?;
        } else {
            let name = || KeyError::Cipher(format!("{cipher:.40} with {kdf:.40}"));
            let cipher = Cipher::new(cipher).ok().filter(|_| kdf == "bcrypt").ok_or_else(name)?;
            let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
            let tag = if cipher.has_tag() { Some(reader.array::<16>()?) } else { None };
            reader.finish()?;
            let (key, iv) = derive(cipher, options, passphrase)?;
            cipher.decrypt(&key, &iv, &mut section, tag).map_err(|_| KeyError::WrongPassphrase)?;
        }
        let file = Self { public, section };
        let mut checks = Reader::new(&file.section);
        if checks.u32()? == checks.u32()? {
            Ok(file)
        } else if cipher == "none" {
            Err(KeyError::NotAKey)
        } else {
            Err(KeyError::WrongPassphrase)
        }
    }

    /// A file of these fields, which begin with the key's kind.
    pub(crate) fn of(public: &[u8], fields: &[u8], comment: &str) -> Self {
        let mut section = Zeroizing::new(Vec::with_capacity(32 + fields.len() + comment.len()));
        // The check numbers only tell a wrong passphrase from a right one; without a passphrase any will do.
        section.extend_from_slice(&[0; 8]);
        section.extend_from_slice(fields);
        put_string(&mut section, comment.as_bytes());
        for pad in 1..8 {
            if section.len().is_multiple_of(8) {
                break;
            }
            section.push(pad);
        }
        Self { public: public.to_vec(), section }
    }

    /// The secret part from the key's kind on.
    pub(crate) fn fields(&self) -> Reader<'_> {
        Reader::new(self.section.get(8..).unwrap_or_default())
    }

    /// The file's text, not encrypted.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(MAGIC.to_vec());
        for part in [b"none", b"none", &b""[..]] {
            put_string(&mut bytes, part);
        }
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        put_string(&mut bytes, &self.public);
        put_string(&mut bytes, &self.section);
        let encoded = Zeroizing::new(STANDARD.encode(&bytes));
        let mut text = Zeroizing::new(String::with_capacity(encoded.len() * 2 + 100));
        text.push_str(BEGIN);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
            text.push('\n');
            text.push_str(line);
            rest = after;
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        text
    }
}

/// The comment and the padding after the fields: 1, 2, 3 and so on, less than a block.
pub(crate) fn read_comment(mut reader: Reader<'_>) -> Result<String, KeyError> {
    let comment = reader.text()?.to_owned();
    let padding = reader.take(reader.remaining())?;
    let regular = padding.len() < 16 && (1..).zip(padding).all(|(expected, pad): (u8, _)| *pad == expected);
    if regular { Ok(comment) } else { Err(KeyError::NotAKey) }
}

fn unarmoured(text: &str) -> Result<Vec<u8>, KeyError> {
    let text = text.trim();
    if text.len() > TEXT_LIMIT {
        return Err(KeyError::NotAKey);
    }
    let Some(body) = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)) else {
        let is_pem =
            text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY-----") && !text.starts_with(BEGIN);
        return Err(if is_pem { KeyError::Pem } else { KeyError::NotAKey });
    };
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_str()).map_err(|_| KeyError::NotAKey)
}

type KeyAndIv = (Zeroizing<Vec<u8>>, Vec<u8>);

fn derive(cipher: Cipher, options: &[u8], passphrase: &[u8]) -> Result<KeyAndIv, KeyError> {
    let mut reader = Reader::new(options);
    let (salt, rounds) = (reader.string()?, reader.u32()?);
    reader.finish()?;
    let (key_size, iv_size) = cipher.key_and_iv_size().ok_or(KeyError::NotAKey)?;
    if rounds > ROUNDS_LIMIT {
        return Err(KeyError::Cipher(format!("bcrypt of {rounds} rounds")));
    }
    let mut output = Zeroizing::new(vec![0; key_size + iv_size]);
    // It refuses an empty passphrase, which opens no encrypted file.
    bcrypt_pbkdf::bcrypt_pbkdf(passphrase, salt, rounds, &mut output)
        .map_err(|_| KeyError::WrongPassphrase)?;
    let iv = output.split_off(key_size);
    Ok((output, iv))
}

impl From<WireError> for KeyError {
    fn from(_: WireError) -> Self {
        Self::NotAKey
    }
}
