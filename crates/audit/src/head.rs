//! Signed heads: how they are made, checked, and kept beside the segments. `head.json` holds the newest one that was
//! written down; `heads.jsonl` the one at the end of each finished segment, also of those that are dropped since.

use crate::{disk::Disk, error::RecordError};
use allod_proto::{
    Timestamp,
    headers::HEAD_NAMESPACE,
    record::{Head, SignedHead},
};
use allod_signing::{PublicKey, Signer, verify_signature};
use allod_store::{Format, StoreError, format};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The file with the newest signed head.
pub const HEAD_FILE: &str = "head.json";
/// The file with the signed heads of finished segments.
pub const HEADS_FILE: &str = "heads.jsonl";
const HEADS_FIRST_LINE: &str = "{\"format\":1,\"kind\":\"record-heads\"}";

/// The content of [`HEAD_FILE`]. Its format number is that of the whole record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRecord {
    #[serde(flatten)]
    pub(crate) signed: SignedHead,
    /// Intents up to the head that have no outcome yet.
    #[serde(default)]
    pub(crate) open: Vec<u64>,
}

impl Format for HeadRecord {
    const NAME: &'static str = "record-head";
    const FORMAT: u32 = 1;
}

impl HeadRecord {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        format::to_bytes(Path::new(HEAD_FILE), self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        format::from_bytes(Path::new(HEAD_FILE), bytes)
    }
}

/// The one writer of [`HEAD_FILE`]: an older head never replaces a newer one, whoever comes last.
pub(crate) struct HeadKeeper {
    disk: Arc<dyn Disk>,
    last: Mutex<Option<u64>>,
}

impl HeadKeeper {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, last: Mutex::new(None) }
    }

    /// Writes `record` down, durably, unless it is there or a newer one is.
    pub(crate) fn save(&self, record: &HeadRecord) -> Result<(), RecordError> {
        let seq = record.signed.head.seq;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last >= seq) {
            return Ok(());
        }
        let bytes = record.to_bytes().map_err(RecordError::store)?;
        self.disk.replace(HEAD_FILE, &bytes).map_err(|error| RecordError::io(HEAD_FILE, "replace", error))?;
        *last = Some(seq);
        Ok(())
    }
}

/// Signs a head.
pub(crate) fn sign(signer: &dyn Signer, head: Head, at: Timestamp) -> Result<SignedHead, RecordError> {
    let blob = signer
        .sign(HEAD_NAMESPACE, &SignedHead::signed_bytes(&head, at))
        .map_err(|error| RecordError::Sign(error.to_string()))?;
    Ok(SignedHead { head, at, signature: STANDARD.encode(blob) })
}

/// Whether `key` signed this head.
#[must_use]
pub fn is_signed_by(signed: &SignedHead, key: &PublicKey) -> bool {
    STANDARD.decode(&signed.signature).is_ok_and(|blob| {
        verify_signature(key, HEAD_NAMESPACE, &SignedHead::signed_bytes(&signed.head, signed.at), &blob)
            .is_ok()
    })
}

/// The content of [`HEADS_FILE`].
pub(crate) fn heads_to_bytes(heads: &[SignedHead]) -> Result<Vec<u8>, RecordError> {
    let mut text = format!("{HEADS_FIRST_LINE}\n");
    for head in heads {
        text.push_str(&serde_json::to_string(head).map_err(|error| RecordError::Sign(error.to_string()))?);
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// Reads [`HEADS_FILE`]; the error is a sentence.
pub(crate) fn heads_from_bytes(bytes: &[u8]) -> Result<Vec<SignedHead>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADS_FIRST_LINE) || !text.ends_with('\n') {
        return Err("it does not begin with its format, or does not end with a newline".to_owned());
    }
    let heads: Vec<SignedHead> =
        lines.map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if heads.is_sorted_by(|a, b| a.head.seq < b.head.seq) {
        Ok(heads)
    } else {
        Err("its heads are out of order".to_owned())
    }
}

const SUFFIX: &str = ".jsonl";

/// The name of the segment whose first line is `first`.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first lines of the segments among these names, in order.
pub(crate) fn segments_among(names: &[String]) -> Vec<u64> {
    firsts_among(names, SUFFIX)
}

/// The numbers of the names that are twenty digits and `suffix`, in order.
pub(crate) fn firsts_among(names: &[String], suffix: &str) -> Vec<u64> {
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(suffix))
        .filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|digits| digits.parse().ok())
        .collect();
    firsts.sort_unstable();
    firsts
}
