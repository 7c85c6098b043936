//! A server that reports: two keys and a pen.

use allod_proto::{
    Digest, Fingerprint, Timestamp,
    headers::HEAD_NAMESPACE,
    messages::server::Succession,
    record::{Head, SignedHead},
    witness::{NAMESPACE, WitnessReport},
};
use allod_signing::{KeySigner, Signer as _, sign_succession, sshsig};

pub(crate) struct Server {
    identity: KeySigner,
    record: KeySigner,
}

impl Server {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            identity: KeySigner::generate([number; 32], "identity"),
            record: KeySigner::generate([number ^ 0xff; 32], "record"),
        }
    }

    pub(crate) fn identity(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// The same server under another identity, which this one names.
    pub(crate) fn rotated(&self, number: u8, at: Timestamp) -> (Self, Succession) {
        let identity = KeySigner::generate([number; 32], "identity");
        let link = sign_succession(&self.identity, &identity.fingerprint(), at).unwrap();
        (Self { identity, record: KeySigner::from_openssh(&self.record.to_openssh(), None).unwrap() }, link)
    }

    pub(crate) fn report(&self, at: Timestamp, seq: u64, line: &str) -> WitnessReport {
        let head = Head { seq, hash: Digest::of(line) };
        let sealed = self.record.sign(HEAD_NAMESPACE, &SignedHead::signed_bytes(&head, at)).unwrap();
        let mut report = WitnessReport {
            name: "web1".to_owned(),
            port: 1,
            identity_key: self.identity.public_openssh(),
            record_key: self.record.public_openssh(),
            head: SignedHead { head, at, signature: sshsig::to_base64(&sealed) },
            succession: Vec::new(),
            at,
            signature: String::new(),
        };
        self.sign(&mut report);
        report
    }

    pub(crate) fn sign(&self, report: &mut WitnessReport) {
        let said = report.signed_bytes(&self.identity.fingerprint(), &self.record.fingerprint());
        report.signature = sshsig::to_base64(&self.identity.sign(NAMESPACE, &said).unwrap());
    }
}
