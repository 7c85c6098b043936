mod delegations;

use super::*;
use crate::{
    Signer,
    certificate::tests::{Draft, text},
    fixtures::{NOW, Token, epoch, head, judge, key, nonce, rpc, server},
    sshsig,
};
use allod_proto::Role;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn line(options: &str, seed: u8) -> String {
    format!("{options} {}", key(seed).public_openssh())
}

/// A key that signs with a certificate made from `draft` by the CA of key 2.
struct Certified(crate::KeySigner, Vec<u8>);

impl Signer for Certified {
    fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }
    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, crate::SignError> {
        let signature = self.0.sign_raw(&sshsig::to_be_signed(namespace, message))?;
        Ok(sshsig::wrap(&self.1, namespace, &signature))
    }
}

fn certified(draft: &Draft) -> RequestHead {
    head(&Certified(key(1), draft.signed(&key(1), &key(2))))
}

fn ca_line() -> String {
    line("cert-authority,principals=\"ops,dev\",role=operator", 2)
}

#[test]
fn a_key_that_is_not_enrolled_is_refused() {
    assert_eq!(judge(&head(&key(1)), "", "", NOW).unwrap_err(), Refusal::UnknownKey);
    assert_eq!(judge(&head(&key(1)), &line("role=owner", 2), "", NOW).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_head_that_names_another_enrolled_key_is_refused() {
    let enrolled = format!("{}\n{}", line("role=viewer", 1), line("role=owner", 2));
    let forged = RequestHead { fingerprint: key(2).fingerprint(), ..head(&key(1)) };
    assert_eq!(judge(&forged, &enrolled, "", NOW).unwrap_err(), Refusal::OtherKey);
}

#[test]
fn a_change_of_anything_signed_is_refused() {
    let enrolled = line("role=owner", 1);
    let good = head(&key(1));
    let changed = [
        RequestHead { timestamp: NOW.plus(Duration::from_millis(1)), ..good.clone() },
        RequestHead { nonce: nonce("two"), ..good.clone() },
        RequestHead { epoch: epoch(2), ..good.clone() },
        RequestHead { body: Digest::of("{} "), ..good.clone() },
    ];
    for head in changed {
        assert_eq!(judge(&head, &enrolled, "", NOW).unwrap_err(), Refusal::BadSignature);
    }
    judge(&good, &enrolled, "", NOW).unwrap();
}

#[test]
fn a_signature_for_another_server_or_route_is_refused() {
    let (keys, revoked) = (EnrolledKeys::parse(&line("role=owner", 1)), Revoked::default());
    let other = key(9).fingerprint();
    let here = server();
    let elsewhere = Trust { audience: &other, enrolled: &keys, revoked: &revoked };
    let head = head(&key(1));
    assert_eq!(verify(&head, rpc(), elsewhere, None, NOW).unwrap_err(), Refusal::BadSignature);
    let trust = Trust { audience: &here, ..elsewhere };
    for (method, path) in [("PUT", "/rpc"), ("POST", "/rpc?"), ("POST", "/rpc/"), ("POST", "/")] {
        let route = Route::new(method, path).unwrap();
        assert_eq!(verify(&head, route, trust, None, NOW).unwrap_err(), Refusal::BadSignature);
    }
    verify(&head, rpc(), trust, None, NOW).unwrap();
}

#[test]
fn a_signature_in_another_namespace_is_refused() {
    struct Misled(crate::KeySigner);
    impl Signer for Misled {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _: &str, message: &[u8]) -> Result<Vec<u8>, crate::SignError> {
            self.0.sign("git", message)
        }
    }
    assert_eq!(
        judge(&head(&Misled(key(1))), &line("role=owner", 1), "", NOW).unwrap_err(),
        Refusal::Namespace
    );
}

#[test]
fn a_revoked_key_is_refused() {
    let revoked = key(1).fingerprint().to_string();
    assert_eq!(judge(&head(&key(1)), &line("role=owner", 1), &revoked, NOW).unwrap_err(), Refusal::Revoked);
}

#[test]
fn an_expired_line_is_refused() {
    let enrolled = line("role=owner,expiry-time=20260101", 1);
    assert_eq!(judge(&head(&key(1)), &enrolled, "", NOW).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_source_outside_from_or_unknown_is_refused() {
    assert_eq!(
        judge(&head(&key(1)), &line("role=owner,from=\"10.0.0.0/8\"", 1), "", NOW).unwrap_err(),
        Refusal::Source
    );
    let keys = EnrolledKeys::parse(&line("role=owner,from=\"0.0.0.0/0\"", 1));
    let (audience, revoked) = (server(), Revoked::default());
    let trust = Trust { audience: &audience, enrolled: &keys, revoked: &revoked };
    assert_eq!(verify(&head(&key(1)), rpc(), trust, None, NOW).unwrap_err(), Refusal::Source);
    judge(&head(&key(1)), &line("role=owner,from=\"100.64.0.0/10\"", 1), "", NOW).unwrap();
}

#[test]
fn nobody_is_told_revoked_or_expired_without_a_good_signature() {
    let forged = RequestHead { body: Digest::of("x"), ..head(&key(1)) };
    let revoked = key(1).fingerprint().to_string();
    let enrolled = line("role=owner,expiry-time=20200101,from=\"10.0.0.0/8\"", 1);
    assert_eq!(judge(&forged, &enrolled, &revoked, NOW).unwrap_err(), Refusal::BadSignature);
}

#[test]
fn a_ca_does_not_sign_requests_itself() {
    assert_eq!(judge(&head(&key(2)), &ca_line(), "", NOW).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_line_for_the_plain_key_does_not_let_its_certificate_in() {
    let found = judge(&certified(&Draft::default()), &line("role=owner", 1), "", NOW);
    assert_eq!(found.unwrap_err(), Refusal::UnknownKey);
    let as_if_ca = line("role=owner", 2);
    assert_eq!(judge(&certified(&Draft::default()), &as_if_ca, "", NOW).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_certificate_that_the_ca_did_not_sign_is_refused() {
    let forged = Draft { authority: Some(key(2).public_key().blob().to_vec()), ..Draft::default() };
    let head = head(&Certified(key(1), forged.signed(&key(1), &key(3))));
    assert_eq!(judge(&head, &ca_line(), "", NOW).unwrap_err(), Refusal::BadSignature);
}

#[test]
fn a_certificate_in_the_hands_of_another_key_is_refused() {
    let stolen = Draft::default().signed(&key(1), &key(2));
    let head = RequestHead { fingerprint: key(1).fingerprint(), ..head(&Certified(key(3), stolen.clone())) };
    assert_eq!(judge(&head, &ca_line(), "", NOW).unwrap_err(), Refusal::BadSignature);
    let named = RequestHead { fingerprint: key(3).fingerprint(), ..head };
    assert_eq!(judge(&named, &ca_line(), "", NOW).unwrap_err(), Refusal::OtherKey);
}

#[test]
fn a_certificate_without_a_principal_of_the_line_is_refused() {
    for principals in [vec![], vec!["web"], vec!["opsdev", "op", ""], vec!["ops,dev"]] {
        let found = judge(&certified(&Draft { principals, ..Draft::default() }), &ca_line(), "", NOW);
        assert!(matches!(found, Err(Refusal::Certificate(_))), "{found:?}");
    }
}

#[test]
fn what_a_certificate_restricts_is_enforced() {
    let now = NOW.0 / 1000;
    let cases = [
        (Draft { before: now, ..Draft::default() }, Refusal::Expired),
        (Draft { after: now + 1, ..Draft::default() }, Refusal::Certificate("it is not valid yet")),
        (
            Draft { critical: vec![("source-address", text("10.0.0.0/8"))], ..Draft::default() },
            Refusal::Source,
        ),
        (
            Draft { critical: vec![("force-command", text("true"))], ..Draft::default() },
            Refusal::Certificate("it has a critical option that is not accepted"),
        ),
    ];
    for (draft, expected) in cases {
        assert_eq!(judge(&certified(&draft), &ca_line(), "", NOW).unwrap_err(), expected);
    }
    let from = line("cert-authority,principals=ops,role=viewer,from=\"10.0.0.0/8\"", 2);
    assert_eq!(judge(&certified(&Draft::default()), &from, "", NOW).unwrap_err(), Refusal::Source);
    let expired = line("cert-authority,principals=ops,role=viewer,expiry-time=20260101", 2);
    assert_eq!(judge(&certified(&Draft::default()), &expired, "", NOW).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_revoked_key_ca_or_serial_is_refused_though_the_ca_vouches() {
    let (key_line, ca) = (key(1).public_openssh(), key(2).fingerprint());
    for revoked in [key_line, ca.to_string(), format!("serial {ca} 17")] {
        let found = judge(&certified(&Draft::default()), &ca_line(), &revoked, NOW);
        assert_eq!(found.unwrap_err(), Refusal::Revoked, "{revoked}");
    }
    judge(&certified(&Draft::default()), &ca_line(), &format!("serial {ca} 18"), NOW).unwrap();
}

#[test]
fn a_hardware_key_is_accepted_when_touched_only() {
    struct Touched(Token, PublicKey, u8);
    impl Signer for Touched {
        fn public_key(&self) -> &PublicKey {
            &self.1
        }
        fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, crate::SignError> {
            Ok(self.0.sshsig(namespace, message, self.2, self.0.application))
        }
    }
    for make in [Token::ed25519, Token::p256] {
        let signer = |flags| {
            let token = make();
            let public = PublicKey::from_blob(&token.public).unwrap();
            Touched(token, public, flags)
        };
        let untouched = signer(0);
        let enrolled = format!("role=owner {} ann", untouched.1.to_openssh());
        assert_eq!(judge(&head(&untouched), &enrolled, "", NOW).unwrap_err(), Refusal::NoTouch);
        let touched = signer(1);
        let enrolled = format!("role=owner {} ann", touched.1.to_openssh());
        judge(&head(&touched), &enrolled, "", NOW).unwrap();
    }
}

#[test]
fn a_verified_request_says_who_signed_what() {
    let verified = judge(&head(&key(1)), &line("role=deployer,apps=\"blog\"", 1), "", NOW).unwrap();
    assert_eq!(verified.fingerprint(), &key(1).fingerprint());
    assert_eq!((verified.name(), verified.grant().role), ("person 1", Role::Deployer));
    assert_eq!((verified.timestamp(), verified.nonce(), verified.epoch()), (NOW, &nonce("one"), &epoch(1)));
    assert_eq!(verified.body(), &Digest::of("{}"));
    assert_eq!(verified.public_key_text(), key(1).public_key().to_openssh());
    assert_eq!(verified.authority(), None);
}

#[test]
fn a_vouched_request_names_the_ca_and_ends_with_the_certificate() {
    let draft = Draft { before: NOW.0 / 1000 + 10, ..Draft::default() };
    let verified = judge(&certified(&draft), &ca_line(), "", NOW).unwrap();
    assert_eq!((verified.name(), verified.grant().role), ("ann@laptop", Role::Operator));
    assert_eq!(verified.grant().expires, Some(Timestamp((NOW.0 / 1000 + 10) * 1000)));
    let authority = verified.authority().unwrap();
    assert_eq!((&authority.fingerprint, authority.serial), (&key(2).fingerprint(), 17));
    let nameless = judge(&certified(&Draft { key_id: "", ..Draft::default() }), &ca_line(), "", NOW).unwrap();
    assert_eq!(nameless.name(), key(1).fingerprint().as_str());
}

#[test]
fn the_first_line_of_a_ca_with_a_principal_of_the_certificate_counts() {
    let lines = format!(
        "{}\n{}",
        line("cert-authority,principals=\"dev\",role=viewer", 2),
        line("cert-authority,principals=\"ops\",role=owner", 2)
    );
    let role = |principals| {
        let draft = Draft { principals, ..Draft::default() };
        judge(&certified(&draft), &lines, "", NOW).unwrap().grant().role
    };
    assert_eq!(role(vec!["ops"]), Role::Owner);
    assert_eq!(role(vec!["ops", "dev"]), Role::Viewer);
}

#[test]
fn an_open_stream_ends_when_what_authorised_it_is_gone() {
    let audience = server();
    let hold = |verified: &Verified, enrolled: &str, revoked: &str, now| {
        let (enrolled, revoked) = (EnrolledKeys::parse(enrolled), Revoked::parse(revoked).unwrap());
        still_holds(verified, Trust { audience: &audience, enrolled: &enrolled, revoked: &revoked }, now)
    };
    let plain = line("role=owner,expiry-time=20990101", 1);
    let far = Timestamp(4_100_000_000_000);
    let own = judge(&head(&key(1)), &plain, "", NOW).unwrap();
    let draft = Draft { before: NOW.plus(HOUR).0 / 1000, ..Draft::default() };
    let vouched = judge(&certified(&draft), &ca_line(), "", NOW).unwrap();
    for (verified, lines, end) in [(&own, &plain, far), (&vouched, &ca_line(), NOW.plus(HOUR))] {
        assert_eq!(hold(verified, lines, "", NOW), Ok(()));
        assert_eq!(hold(verified, "", "", NOW), Err(Refusal::UnknownKey));
        assert_eq!(hold(verified, lines, key(1).fingerprint().as_str(), NOW), Err(Refusal::Revoked));
        assert_eq!(hold(verified, lines, "", end), Err(Refusal::Expired));
        let narrowed = lines.replace("role=owner", "role=viewer").replace("role=operator", "role=viewer");
        assert_eq!(hold(verified, &narrowed, "", NOW), Err(Refusal::Changed));
    }
    let serial = format!("serial {} 17", key(2).fingerprint());
    assert_eq!(hold(&vouched, &ca_line(), &serial, NOW), Err(Refusal::Revoked));
    let without = ca_line().replace("ops,dev", "dev");
    assert_eq!(hold(&vouched, &without, "", NOW), Err(Refusal::UnknownKey));
}
