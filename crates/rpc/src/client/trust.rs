//! When an answer is believed: signed by the pinned identity for this request, with a record that only grew.

use super::{ClientError, Peer};
use allod_proto::{
    Digest, Epoch, Fingerprint, Nonce,
    headers::{EPOCH, HEAD_NAMESPACE, RECORD, REPLY_NAMESPACE, REPLY_SIGNATURE},
    record::{Head, SignedHead},
};
use allod_signing::{PublicKey, ReplyFields, sshsig, verify_signature};
use hyper::{HeaderMap, StatusCode};

/// What the head of an answer says, unverified.
pub(super) struct ReplyHead {
    status: StatusCode,
    epoch: Epoch,
    head: SignedHead,
    signature: Vec<u8>,
}

/// What a verified answer says besides its body.
pub(super) struct Believed {
    pub(super) epoch: Epoch,
    pub(super) head: SignedHead,
    /// The key of the identity, for the frames of a stream.
    pub(super) key: PublicKey,
}

impl ReplyHead {
    /// Reads the headers of an answer.
    pub(super) fn parse(peer: &Peer, status: StatusCode, headers: &HeaderMap) -> Result<Self, ClientError> {
        let Some(signature) = one(headers, REPLY_SIGNATURE)? else {
            return Err(ClientError::Unsigned {
                what: peer.name.clone(),
                expected: peer.identity.clone(),
                status: status.as_u16(),
            });
        };
        let signature =
            sshsig::from_base64(signature).map_err(|why| bad(format!("its signature is broken: {why}")))?;
        let epoch = one(headers, EPOCH)?.ok_or_else(|| bad("it names no epoch".to_owned()))?;
        let epoch = epoch.parse().map_err(|why| bad(format!("its epoch is {why}")))?;
        let head = one(headers, RECORD)?.ok_or_else(|| bad("it names no head of the record".to_owned()))?;
        let head = serde_json::from_str(head).map_err(|why| bad(format!("its head of the record: {why}")))?;
        Ok(Self { status, epoch, head, signature })
    }

    /// Checks the signature of the identity and, where its key is pinned, that of the record.
    pub(super) fn verify(self, peer: &Peer, nonce: &Nonce, body: &Digest) -> Result<Believed, ClientError> {
        let key = sshsig::signer_key(&self.signature)
            .map_err(|why| bad(format!("its signature is broken: {why}")))?;
        if *key.fingerprint() != peer.identity {
            return Err(ClientError::Impostor {
                what: peer.name.clone(),
                expected: peer.identity.clone(),
                got: key.fingerprint().clone(),
            });
        }
        let fields = ReplyFields {
            nonce,
            status: self.status.as_u16(),
            body,
            head: &self.head.head,
            epoch: &self.epoch,
        };
        verify_signature(&key, REPLY_NAMESPACE, &fields.bytes(), &self.signature)
            .map_err(|why| bad(format!("its signature does not hold: {why}")))?;
        if let Some(record_key) = &peer.record_key {
            verify_head(&peer.name, record_key, &self.head)?;
        }
        Ok(Believed { epoch: self.epoch, head: self.head, key })
    }
}

/// Checks that a head is signed by a server's record key.
///
/// # Errors
/// [`ClientError::RecordKey`] when another key signed, [`ClientError::BadReply`] when the signature does not hold.
pub fn verify_head(server: &str, record_key: &Fingerprint, head: &SignedHead) -> Result<(), ClientError> {
    let broken =
        |why: allod_signing::Refusal| bad(format!("the signature of its record does not hold: {why}"));
    let signature = sshsig::from_base64(&head.signature).map_err(broken)?;
    let key = sshsig::signer_key(&signature).map_err(broken)?;
    if key.fingerprint() != record_key {
        return Err(ClientError::RecordKey {
            what: server.to_owned(),
            expected: record_key.clone(),
            got: key.fingerprint().clone(),
        });
    }
    let bytes = SignedHead::signed_bytes(&head.head, head.at);
    verify_signature(&key, HEAD_NAMESPACE, &bytes, &signature).map_err(broken)
}

/// Judges the head of an answer against the highest that was known **when the request was sent**: answers may
/// overtake each other, and a later one that arrived first proves nothing about this one.
pub(super) fn judge(peer: &Peer, known: Option<Head>, got: Head) -> Result<(), ClientError> {
    let Some(known) = known else { return Ok(()) };
    let what = peer.name.clone();
    if got.seq < known.seq {
        Err(ClientError::RecordWentBack { what, known, got })
    } else if got.seq == known.seq && got.hash != known.hash {
        Err(ClientError::RecordForked { what, known, got })
    } else {
        Ok(())
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ClientError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(bad(format!("it has two headers {name}")));
    }
    value.map(|value| value.to_str().map_err(|_| bad(format!("its header {name} is not text")))).transpose()
}

fn bad(why: String) -> ClientError {
    ClientError::BadReply(why)
}
