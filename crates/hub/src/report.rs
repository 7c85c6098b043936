//! A report is checked before anything else looks at it: sound name, both keys, both signatures, the clock. What comes
//! out is what some server's identity really said.

use allod_proto::{
    Fault, FaultCode, Fingerprint, Timestamp,
    headers::HEAD_NAMESPACE,
    record::SignedHead,
    witness::{FRESHNESS, NAMESPACE, WitnessReport},
};
use allod_signing::{PublicKey, follow, sshsig, verify_signature};

/// A report whose signatures hold. Made only by [`CheckedReport::check`].
#[derive(Debug, Clone)]
pub struct CheckedReport {
    identity: Fingerprint,
    report: WitnessReport,
    record_key: PublicKey,
}

impl CheckedReport {
    /// Checks everything that can be checked without knowing the server.
    ///
    /// # Errors
    /// [`Fault`]: `Invalid` for what is malformed, `Refused` for a signature that doesn't hold, `Clock` when both hold
    /// and the time is too far from `now`.
    pub fn check(report: WitnessReport, now: Timestamp) -> Result<Self, Fault> {
        if !WitnessReport::name_is_sound(&report.name) {
            return Err(Fault::new(
                FaultCode::Invalid,
                "the server's name is empty, too long or not printable",
            ));
        }
        let identity_key = read_key("identity key", &report.identity_key)?;
        let record_key = read_key("record key", &report.record_key)?;
        let identity = identity_key.fingerprint().clone();
        let said = report.signed_bytes(&identity, record_key.fingerprint());
        check_signature("report", &identity_key, NAMESPACE, &said, &report.signature)?;
        let head = SignedHead::signed_bytes(&report.head.head, report.head.at);
        check_signature("head", &record_key, HEAD_NAMESPACE, &head, &report.head.signature)?;
        if report.at.distance(now) > FRESHNESS {
            let message = format!("the report was made at {}, the hub's clock says {now}", report.at);
            return Err(Fault::new(FaultCode::Clock, message).hint("set the clock of the server or the hub"));
        }
        Ok(Self { identity, report, record_key })
    }

    /// Who reports.
    #[must_use]
    pub fn identity(&self) -> &Fingerprint {
        &self.identity
    }

    /// The identities that this one says it comes from, the oldest first: claims, until [`CheckedReport::succeeds`].
    pub fn claims_to_succeed(&self) -> impl Iterator<Item = &Fingerprint> {
        self.report.succession.iter().map(|link| &link.old)
    }

    /// Whether a chain of signatures leads from that identity to this one.
    #[must_use]
    pub fn succeeds(&self, earlier: &Fingerprint) -> bool {
        follow(&self.report.succession, earlier, &self.identity).is_ok()
    }

    /// The server's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// The port of its management API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.report.port
    }

    /// The key that signed the head, without comment.
    #[must_use]
    pub fn record_key(&self) -> String {
        self.record_key.to_openssh()
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &SignedHead {
        &self.report.head
    }

    /// When the server made the report, by its clock.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.report.at
    }
}

fn read_key(what: &str, text: &str) -> Result<PublicKey, Fault> {
    PublicKey::from_openssh(text)
        .map_err(|error| Fault::new(FaultCode::Invalid, format!("the {what} can't be used: {error}")))
}

fn check_signature(
    what: &str,
    key: &PublicKey,
    namespace: &str,
    message: &[u8],
    base64: &str,
) -> Result<(), Fault> {
    sshsig::from_base64(base64).and_then(|sshsig| verify_signature(key, namespace, message, &sshsig)).map_err(
        |error| {
            tracing::warn!(%error, what, key = %key.fingerprint(), "a signature in a report does not hold");
            Fault::new(FaultCode::Refused, format!("the signature of the {what} does not hold"))
        },
    )
}
