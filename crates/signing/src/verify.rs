//! The one place where a signed request is checked: who signed exactly this request for exactly this server, and what
//! may they do at most. Freshness, epoch and nonce come after, in `replay.rs`: what a stranger sends costs no memory.

use crate::{
    canonical::{RequestFields, Route},
    certificate::{self, Certificate},
    delegation::Delegation,
    enrolled::{EnrolledKey, EnrolledKeys},
    grant::Grant,
    public_key::PublicKey,
    request_head::RequestHead,
    revoked::Revoked,
    sshsig::SshSig,
    wire::WireError,
};
use allod_proto::{
    Digest, Epoch, Fingerprint, Nonce, Role, Timestamp,
    headers::{DELEGATION_NAMESPACE, MANAGEMENT_NAMESPACE},
    limits::FRESHNESS,
};
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
    /// The delegation is not accepted.
    #[error("the delegation is not accepted: {0}")]
    Delegation(&'static str),
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
    principals: Vec<String>,
}

/// The fresh key that signed in another's name, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// The key that signed the request.
    pub fingerprint: Fingerprint,
    /// The delegation's ceiling.
    pub role: Role,
    /// The delegation's end.
    pub expires_at: Timestamp,
}

/// A request whose signature held, and what its signer may do at most. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    key: PublicKey,
    name: String,
    grant: Grant,
    /// What the line grants, before the certificate's or delegation's own narrowing.
    line_grant: Grant,
    authority: Option<Authority>,
    delegate: Option<Delegate>,
    timestamp: Timestamp,
    nonce: Nonce,
    epoch: Epoch,
    body: Digest,
}

impl Verified {
    /// The key that signed; of a certificate, its key; under a delegation, the key that delegated. Whatever is counted
    /// or remembered for a caller is so by this one: fresh keys must not multiply it.
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

    /// Which key signed in the name of [`Verified::fingerprint`], if it did not sign itself.
    #[must_use]
    pub fn delegate(&self) -> Option<&Delegate> {
        self.delegate.as_ref()
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

    /// The key of [`Verified::fingerprint`], as OpenSSH writes it, without comment.
    #[must_use]
    pub fn public_key_text(&self) -> String {
        self.key.to_openssh()
    }
}

/// A claim to have signed something.
struct Claim<'a> {
    /// The key that is said to have signed.
    key: &'a Fingerprint,
    sshsig: &'a SshSig<'a>,
    namespace: &'static str,
    message: &'a [u8],
}

/// Whose signature it is, before anything but the signature was checked.
struct Standing {
    key: PublicKey,
    name: String,
    grant: Grant,
    line_grant: Grant,
    certificate: Option<(Certificate, Authority)>,
    delegate: Option<Delegate>,
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
    let fields = RequestFields {
        audience: trust.audience,
        epoch: &head.epoch,
        route,
        timestamp: head.timestamp,
        nonce: &head.nonce,
        body: &head.body,
    };
    let standing = match &head.delegation {
        None => signed(head, &fields, trust.enrolled)?,
        Some(delegation) => delegated(head, delegation, &fields, trust, now)?,
    };
    let Standing { key, name, grant, line_grant, certificate, delegate } = standing;
    let authority = certificate.as_ref().map(|(_, authority)| authority);
    check_standing(key.fingerprint(), &grant, authority, delegate.as_ref(), trust.revoked, now)?;
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
        line_grant,
        authority: certificate.map(|(_, authority)| authority),
        delegate,
        timestamp: head.timestamp,
        nonce: head.nonce.clone(),
        epoch: head.epoch.clone(),
        body: head.body,
    })
}

/// A request that its caller's own key signed.
fn signed(head: &RequestHead, fields: &RequestFields<'_>, keys: &EnrolledKeys) -> Result<Standing, Refusal> {
    let (sshsig, message) = (SshSig::parse(&head.signature)?, fields.bytes());
    let claim =
        Claim { key: &head.fingerprint, sshsig: &sshsig, namespace: MANAGEMENT_NAMESPACE, message: &message };
    standing(&claim, keys)
}

/// A request that a fresh key signed under the delegation of a caller's own key. A delegated key is enrolled nowhere
/// and vouched for by no CA, so what it delegates is worth nothing.
fn delegated(
    head: &RequestHead,
    delegation: &Delegation,
    fields: &RequestFields<'_>,
    trust: Trust<'_>,
    now: Timestamp,
) -> Result<Standing, Refusal> {
    let terms = delegation.terms();
    if !terms.is_for(trust.audience) {
        return Err(Refusal::Delegation("it is for other servers"));
    }
    let request = SshSig::parse(&head.signature)?;
    if request.key != terms.key().blob() || head.fingerprint != *terms.key().fingerprint() {
        return Err(Refusal::OtherKey);
    }
    request.check(terms.key(), MANAGEMENT_NAMESPACE, &fields.delegated_bytes(&delegation.digest()))?;
    let sshsig = SshSig::parse(delegation.signature())?;
    let (key, message) = (signing_key(&sshsig)?, terms.bytes());
    let claim = Claim { key: &key, sshsig: &sshsig, namespace: DELEGATION_NAMESPACE, message: &message };
    let parent = standing(&claim, trust.enrolled)?;
    if terms.issued_at() > now.plus(FRESHNESS) {
        return Err(Refusal::Delegation("it was issued in the future"));
    }
    let delegate = Delegate {
        fingerprint: head.fingerprint.clone(),
        role: terms.role(),
        expires_at: terms.expires_at(),
    };
    let grant = Grant {
        role: parent.grant.role.min(terms.role()),
        expires: earlier(parent.grant.expires, Some(terms.expires_at())),
        ..parent.grant
    };
    Ok(Standing { grant, delegate: Some(delegate), ..parent })
}

/// The key that an SSHSIG names; of a certificate, its key.
fn signing_key(sshsig: &SshSig<'_>) -> Result<Fingerprint, Refusal> {
    if certificate::is_certificate(sshsig.key) {
        return Ok(Certificate::from_blob(sshsig.key)?.key().fingerprint().clone());
    }
    let key = PublicKey::from_blob(sshsig.key).map_err(|_| Refusal::Algorithm)?;
    Ok(key.fingerprint().clone())
}

fn standing(claim: &Claim<'_>, keys: &EnrolledKeys) -> Result<Standing, Refusal> {
    if certificate::is_certificate(claim.sshsig.key) { vouched(claim, keys) } else { enrolled(claim, keys) }
}

/// A key that has a line of its own.
fn enrolled(claim: &Claim<'_>, enrolled: &EnrolledKeys) -> Result<Standing, Refusal> {
    let entry = enrolled.find(claim.key).ok_or(Refusal::UnknownKey)?;
    if entry.public().blob() != claim.sshsig.key {
        return Err(Refusal::OtherKey);
    }
    claim.sshsig.check(entry.public(), claim.namespace, claim.message)?;
    Ok(Standing {
        key: entry.public().clone(),
        name: entry.name().to_owned(),
        grant: entry.grant().clone(),
        line_grant: entry.grant().clone(),
        certificate: None,
        delegate: None,
    })
}

/// A key that an enrolled CA vouches for.
fn vouched(claim: &Claim<'_>, enrolled: &EnrolledKeys) -> Result<Standing, Refusal> {
    let certificate = Certificate::from_blob(claim.sshsig.key)?;
    if certificate.key().fingerprint() != claim.key {
        return Err(Refusal::OtherKey);
    }
    let authority = certificate.authority().fingerprint();
    if enrolled.authorities(authority).next().is_none() {
        return Err(Refusal::UnknownKey);
    }
    certificate.check_signature()?;
    claim.sshsig.check(certificate.key(), claim.namespace, claim.message)?;
    let line = enrolled
        .authorities(authority)
        .find(|line| shares_principal(line, certificate.principals()))
        .ok_or(Refusal::Certificate("none of its principals is on the CA's line"))?;
    let line_grant = line.grant().clone();
    let grant = Grant { expires: earlier(line_grant.expires, certificate.expires()), ..line_grant.clone() };
    let authority = Authority {
        fingerprint: authority.clone(),
        serial: certificate.serial(),
        principals: certificate.principals().to_vec(),
    };
    let name = match certificate.key_id() {
        "" => certificate.key().fingerprint().as_str(),
        key_id => key_id,
    };
    let (key, name) = (certificate.key().clone(), name.to_owned());
    let certificate = Some((certificate, authority));
    Ok(Standing { key, name, grant, line_grant, certificate, delegate: None })
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
    delegate: Option<&Delegate>,
    revoked: &Revoked,
    now: Timestamp,
) -> Result<(), Refusal> {
    let vouching_revoked = authority.is_some_and(|authority| {
        revoked.has(&authority.fingerprint) || revoked.has_serial(&authority.fingerprint, authority.serial)
    });
    let delegate_revoked = delegate.is_some_and(|delegate| revoked.has(&delegate.fingerprint));
    if revoked.has(key) || vouching_revoked || delegate_revoked {
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
    let delegate = verified.delegate();
    check_standing(verified.fingerprint(), verified.grant(), authority, delegate, trust.revoked, now)?;
    let entry = match authority {
        None => trust.enrolled.find(verified.fingerprint()),
        Some(authority) => {
            let mut lines = trust.enrolled.authorities(&authority.fingerprint);
            lines.find(|line| shares_principal(line, &authority.principals))
        }
    };
    match entry {
        None => Err(Refusal::UnknownKey),
        Some(entry) if *entry.grant() != verified.line_grant => Err(Refusal::Changed),
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
