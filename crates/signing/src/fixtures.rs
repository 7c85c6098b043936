//! Keys, requests and hand-made signatures that the unit tests share.

use crate::{
    DelegatedSigner, EnrolledKeys, KeySigner, Refusal, RequestFields, RequestHead, Revoked, Route, Signer,
    Terms, Trust, Verified, sign_request, signature::blob, sshsig, verify, wire::put_string,
};
use allod_proto::{Digest, Epoch, Fingerprint, Nonce, Role, Timestamp, limits::DELEGATION_USUAL};
use sha2::{Digest as _, Sha256};

/// A time in 2026.
pub(crate) const NOW: Timestamp = Timestamp(1_780_000_000_123);

pub(crate) fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], &format!("person {seed}"))
}

pub(crate) fn epoch(byte: u8) -> Epoch {
    Epoch::from_random([byte; 16])
}

pub(crate) fn nonce(text: &str) -> Nonce {
    Nonce::new(format!("{text:_<22}")).unwrap()
}

/// The server of these tests: its identity is the key of eights.
pub(crate) fn server() -> Fingerprint {
    key(8).fingerprint()
}

pub(crate) fn rpc() -> Route<'static> {
    Route::new("POST", "/rpc").unwrap()
}

/// A head for `POST /rpc` with the body `{}`, signed by `signer` now.
pub(crate) fn head(signer: &dyn Signer) -> RequestHead {
    let (audience, epoch, nonce, body) = (server(), epoch(1), nonce("one"), Digest::of("{}"));
    let fields = RequestFields {
        audience: &audience,
        epoch: &epoch,
        route: rpc(),
        timestamp: NOW,
        nonce: &nonce,
        body: &body,
    };
    sign_request(signer, &fields).unwrap()
}

/// What a key says that lets the key of `fresh` sign at the server of these tests for a quarter of an hour.
pub(crate) fn terms(fresh: u8, role: Role, issued_at: Timestamp) -> Terms {
    let span = (issued_at, issued_at.plus(DELEGATION_USUAL));
    Terms::new(key(fresh).public_key().clone(), [server(), key(88).fingerprint()], role, span).unwrap()
}

/// A head signed by the fresh key of seed 9, to which `parent` delegates by these terms.
pub(crate) fn delegated(parent: &dyn Signer, terms: &Terms) -> RequestHead {
    head(&DelegatedSigner::new(key(9), terms.clone().sign(parent).unwrap()).unwrap())
}

/// Verifies `head` at the server of these tests, coming from 100.64.0.7.
pub(crate) fn judge(
    head: &RequestHead,
    enrolled: &str,
    revoked: &str,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let (audience, enrolled) = (server(), EnrolledKeys::parse(enrolled));
    assert_eq!(enrolled.complaints(), []);
    let revoked = Revoked::parse(revoked).unwrap();
    let trust = Trust { audience: &audience, enrolled: &enrolled, revoked: &revoked };
    verify(head, rpc(), trust, Some([100, 64, 0, 7].into()), now)
}

type DeviceSign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A FIDO key made of software, as `PROTOCOL.u2f` has it.
pub(crate) struct Token {
    pub(crate) algorithm: &'static str,
    pub(crate) public: Vec<u8>,
    pub(crate) application: &'static str,
    sign: DeviceSign,
}

impl Token {
    pub(crate) fn ed25519() -> Self {
        use ed25519_dalek::Signer as _;
        let secret = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let mut public = Vec::new();
        put_string(&mut public, b"sk-ssh-ed25519@openssh.com");
        put_string(&mut public, secret.verifying_key().as_bytes());
        put_string(&mut public, b"ssh:");
        let sign = Box::new(move |message: &[u8]| secret.sign(message).to_bytes().to_vec());
        Self { algorithm: "sk-ssh-ed25519@openssh.com", public, application: "ssh:", sign }
    }

    pub(crate) fn p256() -> Self {
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ALGORITHM, EcdsaKeyPair, KeyPair as _};
        let random = ring::rand::SystemRandom::new();
        let file = EcdsaKeyPair::generate_pkcs8(&ALGORITHM, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ALGORITHM, file.as_ref(), &random).unwrap();
        let mut public = Vec::new();
        put_string(&mut public, b"sk-ecdsa-sha2-nistp256@openssh.com");
        put_string(&mut public, b"nistp256");
        put_string(&mut public, pair.public_key().as_ref());
        put_string(&mut public, b"ssh:allod");
        let sign = Box::new(move |message: &[u8]| {
            crate::signature::ecdsa_numbers(pair.sign(&random, message).unwrap().as_ref())
        });
        Self { algorithm: "sk-ecdsa-sha2-nistp256@openssh.com", public, application: "ssh:allod", sign }
    }

    /// An SSHSIG with these flags; the device signs over `application`, which an honest one takes from the key.
    pub(crate) fn sshsig(&self, namespace: &str, message: &[u8], flags: u8, application: &str) -> Vec<u8> {
        let counter = 77_u32.to_be_bytes();
        let mut signed = Sha256::digest(application.as_bytes()).to_vec();
        signed.push(flags);
        signed.extend_from_slice(&counter);
        signed.extend_from_slice(&Sha256::digest(sshsig::to_be_signed(namespace, message)));
        let mut signature = blob(self.algorithm, &(self.sign)(&signed));
        signature.push(flags);
        signature.extend_from_slice(&counter);
        sshsig::wrap(&self.public, namespace, &signature)
    }
}
