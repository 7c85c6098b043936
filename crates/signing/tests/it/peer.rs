//! `ssh-keygen` in a folder of its own, and a server that verifies.

use allod_proto::{Digest, Epoch, Fingerprint, Nonce, Timestamp, headers::MANAGEMENT_NAMESPACE};
use allod_signing::{
    EnrolledKeys, KeySigner, PublicKey, Refusal, RequestFields, RequestHead, Revoked, Route, Signer as _,
    Trust, Verified, sshsig, verify,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A time in May 2026.
pub(crate) const NOW: Timestamp = Timestamp(1_780_000_000_000);

pub(crate) struct Keygen {
    folder: TempDir,
}

impl Keygen {
    /// Nothing when `ssh-keygen` is absent, unless `ALLOD_PEERS=required` says that this is a failure.
    #[expect(
        clippy::disallowed_methods,
        reason = "the test run is told by its environment whether peers must exist"
    )]
    pub(crate) fn find() -> Option<Self> {
        let keygen = Self { folder: tempfile::tempdir().unwrap() };
        if keygen.start(&["-?"], b"").is_some() {
            return Some(keygen);
        }
        let required = std::env::var("ALLOD_PEERS").is_ok_and(|value| value == "required");
        assert!(!required, "ssh-keygen is absent, and ALLOD_PEERS=required");
        eprintln!("SKIPPED: ssh-keygen is absent; nothing was compared with OpenSSH");
        None
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Takes from others the right to read a file; the peer refuses a private key otherwise.
    pub(crate) fn keep_private(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "the peer is a real program")]
    pub(crate) fn start(&self, arguments: &[&str], input: &[u8]) -> Option<Output> {
        let mut child = Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        // A peer that ends before it has read everything closes the pipe: its status tells.
        let _ = child.stdin.take().unwrap().write_all(input);
        Some(child.wait_with_output().unwrap())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.start(arguments, b"").unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ssh-keygen {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a key pair in files `name` and `name.pub`.
    pub(crate) fn make(&self, name: &str, kind: &str, bits: &str) {
        let comment = format!("{name}@peer");
        let mut arguments = vec!["-q", "-t", kind, "-N", "", "-C", &comment, "-f", name];
        if !bits.is_empty() {
            arguments.extend(["-b", bits]);
        }
        self.run(&arguments);
    }

    pub(crate) fn signer(&self, name: &str) -> KeySigner {
        KeySigner::from_openssh(&self.read(name), None).unwrap()
    }

    /// Signs with `ssh-keygen -Y sign`; `name` is a private key, or a certificate whose private key lies beside it.
    pub(crate) fn sign(&self, name: &str, namespace: &str, message: &[u8]) -> Vec<u8> {
        self.write("message", message);
        let _ = fs::remove_file(self.path("message.sig"));
        self.run(&["-q", "-Y", "sign", "-f", name, "-n", namespace, "message"]);
        let armoured = self.read("message.sig");
        let body: String = armoured.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(body).unwrap()
    }

    /// Verifies with `ssh-keygen -Y verify` as the principal `ops`, who has the `allowed` key.
    pub(crate) fn verifies(&self, allowed: &str, namespace: &str, message: &[u8], signature: &[u8]) -> bool {
        self.write("allowed", format!("ops {allowed}\n"));
        let body: Vec<_> = STANDARD.encode(signature).as_bytes().chunks(70).map(<[u8]>::to_vec).collect();
        let body = String::from_utf8(body.join(&b'\n')).unwrap();
        self.write(
            "signature",
            format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n"),
        );
        let arguments =
            ["-q", "-Y", "verify", "-f", "allowed", "-I", "ops", "-n", namespace, "-s", "signature"];
        self.start(&arguments, message).unwrap().status.success()
    }

    /// A request head whose signature is made by `ssh-keygen`.
    pub(crate) fn head(&self, name: &str, public: &PublicKey) -> RequestHead {
        let request = Request::new();
        RequestHead {
            fingerprint: public.fingerprint().clone(),
            timestamp: NOW,
            nonce: request.nonce.clone(),
            epoch: request.epoch.clone(),
            body: request.body,
            signature: self.sign(name, MANAGEMENT_NAMESPACE, &request.fields().bytes()),
            delegation: None,
        }
    }
}

pub(crate) struct Request {
    audience: Fingerprint,
    epoch: Epoch,
    nonce: Nonce,
    body: Digest,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
            audience: KeySigner::generate([8; 32], "server").fingerprint(),
            epoch: Epoch::from_random([1; 16]),
            nonce: Nonce::new("0123456789abcdefghijkl").unwrap(),
            body: Digest::of("{}"),
        }
    }

    pub(crate) fn fields(&self) -> RequestFields<'_> {
        RequestFields {
            audience: &self.audience,
            epoch: &self.epoch,
            route: Route::new("POST", "/rpc").unwrap(),
            timestamp: NOW,
            nonce: &self.nonce,
            body: &self.body,
        }
    }
}

/// What a server with these enrolled keys says to a request that comes from 100.64.0.7.
pub(crate) fn judge(head: &RequestHead, enrolled: &str) -> Result<Verified, Refusal> {
    let enrolled = EnrolledKeys::parse(enrolled);
    assert_eq!(enrolled.complaints(), []);
    let (request, revoked) = (Request::new(), Revoked::default());
    let trust = Trust { audience: &request.audience, enrolled: &enrolled, revoked: &revoked };
    // As it travels: through its headers.
    let headers: Vec<_> = head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let head = RequestHead::from_pairs(&headers).unwrap();
    verify(&head, Route::new("POST", "/rpc").unwrap(), trust, Some([100, 64, 0, 7].into()), NOW)
}

/// The SSHSIG with its inner signature relabelled.
pub(crate) fn relabelled(
    public: &PublicKey,
    namespace: &str,
    signature: &[u8],
    from: &str,
    to: &str,
) -> Vec<u8> {
    let at = signature.windows(from.len()).rposition(|part| part == from.as_bytes()).unwrap();
    let mut blob = u32::try_from(to.len()).unwrap().to_be_bytes().to_vec();
    blob.extend_from_slice(to.as_bytes());
    blob.extend_from_slice(&signature[at + from.len()..]);
    sshsig::wrap(public.blob(), namespace, &blob)
}
