//! The one place where a signed request is checked: who signed exactly this request for exactly this server, and what
//! may they do at most. Freshness, epoch and nonce come after, in `replay.rs`: what a stranger sends costs no memory.

use crate::{
    canonical::{RequestFields, Route},
    certificate::{self, Certificate},
    enrolled::{EnrolledKey, EnrolledKeys},
    grant::Grant,
    public_key::PublicKey,
    request_head::RequestHead,
    revoked::Revoked,
    sshsig::SshSig,
    wire::WireError,
};
use allod_proto::{Digest, Epoch, Fingerprint, Nonce, Timestamp, headers::MANAGEMENT_NAMESPACE};
use std::net::IpAddr;

/// Why a signature or its signer is not accepted. For the log: the wire says one sentence for all, because a stranger
/// must not learn who is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not what they should be.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A kind of key or signature that is not accepted (DSA, SHA-1, weak keys), or not the key's own kind.
    #[error("the algorithm is not accepted")]
    Algorithm,
    /// Signed for another purpose.
    #[error("the signature is for another namespace")]
    Namespace,
    /// No line enrols the key, or the certificate's CA.
    #[error("the key is not enrolled")]
    UnknownKey,
    /// The header names another key than the signature.
    #[error("the signature was made by another key than the one named")]
    OtherKey,
    /// The signature is not that key's over these bytes.
    #[error("the signature is wrong")]
    BadSignature,
    /// A hardware key signed without being touched.
    #[error("the hardware key was not touched")]
    NoTouch,
    /// The signature is good, but the key, its CA or the certificate is revoked.
    #[error("revoked")]
    Revoked,
    /// The signature is good, but the line or the certificate has expired.
    #[error("expired")]
    Expired,
    /// The signature is good, but does not count from this address.
    #[error("not from this address")]
    Source,
    /// The certificate is not accepted.
    #[error("the certificate is not accepted: {0}")]
    Certificate(&'static str),
    /// What authorised an open stream is not what is enrolled now.
    #[error("what the key may do has changed")]
    Changed,
}

impl From<WireError> for Refusal {
    fn from(WireError(why): WireError) -> Self {
        Self::Malformed(why)
    }
}

/// Against what a request is checked.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// The server's own identity.
    pub audience: &'a Fingerprint,
    /// Who may call.
    pub enrolled: &'a EnrolledKeys,
    /// Who must not, any more.
    pub revoked: &'a Revoked,
}

/// The CA and the number of the certificate that vouched for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The CA's key.
    pub fingerprint: Fingerprint,
    /// The certificate's serial.
    pub serial: u64,
    /// The CA's line grants this much, before the certificate's own expiry.
    line_grant: Grant,
    principals: Vec<String>,
}

/// A request whose signature held, and what its signer may do at most. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    key: PublicKey,
    name: String,
    grant: Grant,
    authority: Option<Authority>,
    timestamp: Timestamp,
    nonce: Nonce,
    epoch: Epoch,
    body: Digest,
}

impl Verified {
    /// The key that signed; of a certificate, its key.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        self.key.fingerprint()
    }

    /// What the signer may do at most. Its `from` was checked; its `expires` is the earlier one of line and certificate.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whose key it is: the comment of its line, or the certificate's key id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who vouched for the key, if a certificate did.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// When the request was signed.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The request's nonce.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The life of the agent it was signed for.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The digest that the body must have.
    #[must_use]
    pub fn body(&self) -> &Digest {
        &self.body
    }

    /// The key that signed, as OpenSSH writes it, without comment.
    #[must_use]
    pub fn public_key_text(&self) -> String {
        self.key.to_openssh()
    }
}

/// Whose signature it is, before anything but the signature was checked.
struct Standing {
    key: PublicKey,
    name: String,
    grant: Grant,
    certificate: Option<(Certificate, Authority)>,
}

/// Checks a request's signature and its signer's standing. Needs no body; the caller compares [`Verified::body`] with
/// what it reads, and asks [`crate::Window::admit`] next.
///
/// # Errors
/// [`Refusal`], for the log. `Revoked`, `Expired` and `Source` only with a good signature, so that the log accuses
/// nobody of what another sent.
pub fn verify(
    head: &RequestHead,
    route: Route<'_>,
    trust: Trust<'_>,
    source: Option<IpAddr>,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let message = RequestFields {
        audience: trust.audience,
        epoch: &head.epoch,
        route,
        timestamp: head.timestamp,
        nonce: &head.nonce,
        body: &head.body,
    }
    .bytes();
    let sshsig = SshSig::parse(&head.signature)?;
    let standing = if certificate::is_certificate(sshsig.key) {
        vouched(head, &sshsig, &message, trust.enrolled)?
    } else {
        enrolled(head, &sshsig, &message, trust.enrolled)?
    };
    let Standing { key, name, grant, certificate } = standing;
    let authority = certificate.as_ref().map(|(_, authority)| authority);
    check_standing(key.fingerprint(), &grant, authority, trust.revoked, now)?;
    if let Some((certificate, _)) = &certificate {
        certificate.check_time(now)?;
        certificate.check_source(source)?;
    }
    if !grant.allows_source(source) {
        return Err(Refusal::Source);
    }
    Ok(Verified {
        key,
        name,
        grant,
        authority: certificate.map(|(_, authority)| authority),
        timestamp: head.timestamp,
        nonce: head.nonce.clone(),
        epoch: head.epoch.clone(),
        body: head.body,
    })
}

/// A key that has a line of its own.
fn enrolled(
    head: &RequestHead,
    sshsig: &SshSig<'_>,
    message: &[u8],
    enrolled: &EnrolledKeys,
) -> Result<Standing, Refusal> {
    let entry = enrolled.find(&head.fingerprint).ok_or(Refusal::UnknownKey)?;
    if entry.public().blob() != sshsig.key {
        return Err(Refusal::OtherKey);
    }
    sshsig.check(entry.public(), MANAGEMENT_NAMESPACE, message)?;
    Ok(Standing {
        key: entry.public().clone(),
        name: entry.name().to_owned(),
        grant: entry.grant().clone(),
        certificate: None,
    })
}

/// A key that an enrolled CA vouches for.
fn vouched(
    head: &RequestHead,
    sshsig: &SshSig<'_>,
    message: &[u8],
    enrolled: &EnrolledKeys,
) -> Result<Standing, Refusal> {
    let certificate = Certificate::from_blob(sshsig.key)?;
    if *certificate.key().fingerprint() != head.fingerprint {
        return Err(Refusal::OtherKey);
    }
    let authority = certificate.authority().fingerprint();
    if enrolled.authorities(authority).next().is_none() {
        return Err(Refusal::UnknownKey);
    }
    certificate.check_signature()?;
    sshsig.check(certificate.key(), MANAGEMENT_NAMESPACE, message)?;
    let line = enrolled
        .authorities(authority)
        .find(|line| shares_principal(line, certificate.principals()))
        .ok_or(Refusal::Certificate("none of its principals is on the CA's line"))?;
    let grant =
        Grant { expires: earlier(line.grant().expires, certificate.expires()), ..line.grant().clone() };
    let authority = Authority {
        fingerprint: authority.clone(),
        serial: certificate.serial(),
        line_grant: line.grant().clone(),
        principals: certificate.principals().to_vec(),
    };
    let name = match certificate.key_id() {
        "" => certificate.key().fingerprint().as_str(),
        key_id => key_id,
    };
    let (key, name) = (certificate.key().clone(), name.to_owned());
    Ok(Standing { key, name, grant, certificate: Some((certificate, authority)) })
}

fn shares_principal(line: &EnrolledKey, principals: &[String]) -> bool {
    line.authority().is_some_and(|allowed| principals.iter().any(|principal| allowed.contains(principal)))
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn check_standing(
    key: &Fingerprint,
    grant: &Grant,
    authority: Option<&Authority>,
    revoked: &Revoked,
    now: Timestamp,
) -> Result<(), Refusal> {
    let vouching_revoked = authority.is_some_and(|authority| {
        revoked.has(&authority.fingerprint) || revoked.has_serial(&authority.fingerprint, authority.serial)
    });
    if revoked.has(key) || vouching_revoked {
        return Err(Refusal::Revoked);
    }
    if grant.is_expired(now) { Err(Refusal::Expired) } else { Ok(()) }
}

/// Whether what was verified before, such as the request of an open stream, would still be accepted with the same
/// grant.
///
/// # Errors
/// [`Refusal`] when it would not; the stream must end.
pub fn still_holds(verified: &Verified, trust: Trust<'_>, now: Timestamp) -> Result<(), Refusal> {
    let authority = verified.authority();
    check_standing(verified.fingerprint(), verified.grant(), authority, trust.revoked, now)?;
    let (entry, granted) = match authority {
        None => (trust.enrolled.find(verified.fingerprint()), verified.grant()),
        Some(authority) => {
            let mut lines = trust.enrolled.authorities(&authority.fingerprint);
            (lines.find(|line| shares_principal(line, &authority.principals)), &authority.line_grant)
        }
    };
    match entry {
        None => Err(Refusal::UnknownKey),
        Some(entry) if entry.grant() != granted => Err(Refusal::Changed),
        Some(_) => Ok(()),
    }
}

/// Checks an SSHSIG by a known key: of a reply, a frame, a head of the record.
///
/// # Errors
/// [`Refusal`] when it is not this key's signature over `message` in `namespace`.
pub fn verify_signature(
    public: &PublicKey,
    namespace: &str,
    message: &[u8],
    sshsig: &[u8],
) -> Result<(), Refusal> {
    let sshsig = SshSig::parse(sshsig)?;
    if sshsig.key != public.blob() {
        return Err(Refusal::OtherKey);
    }
    sshsig.check(public, namespace, message)
}

#[cfg(test)]
mod tests;
