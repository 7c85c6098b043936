//! OpenSSH's formats: signatures, public keys, certificates. What is read must be what was written, byte for byte, and a
//! signature over another text must not become one over this.
#![no_main]

use allod_signing::{Certificate, PublicKey, signer_key, sshsig, verify_signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = signer_key(bytes) {
        assert!(
            verify_signature(&key, "allod-fuzz", b"never signed by anybody", bytes).is_err(),
            "a signature from nowhere"
        );
    }
    if let Ok(key) = PublicKey::from_blob(bytes) {
        assert_eq!(key.blob(), bytes, "a second form of the same key");
        let again = PublicKey::from_openssh(&key.to_openssh()).expect("its own text");
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
    if let Ok(certificate) = Certificate::from_blob(bytes) {
        assert_eq!(certificate.blob(), bytes, "a second form of the same certificate");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(raw) = sshsig::from_base64(text) {
            assert_eq!(sshsig::to_base64(&raw), text, "a second form of the same base64");
        }
        let _ = PublicKey::from_openssh(text);
        let _ = Certificate::from_openssh(text);
    }
});
