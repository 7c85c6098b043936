use super::*;
use crate::{
    DelegatedSigner, Delegation, Terms,
    fixtures::{delegated, terms},
};
use allod_proto::limits::{DELEGATION_LONGEST, DELEGATION_USUAL};

fn by_owner(terms: &Terms) -> RequestHead {
    delegated(&key(1), terms)
}

fn owner() -> String {
    line("role=owner", 1)
}

fn refusal(head: &RequestHead, enrolled: &str, revoked: &str, now: Timestamp) -> Refusal {
    judge(head, enrolled, revoked, now).unwrap_err()
}

#[test]
fn a_delegated_key_acts_as_its_parent_narrowed_to_the_ceiling_and_both_are_named() {
    let head = by_owner(&terms(9, Role::Deployer, NOW));
    let enrolled = line("role=owner,apps=\"blog\",expiry-time=20990101", 1);
    let verified = judge(&head, &enrolled, "", NOW).unwrap();
    assert_eq!((verified.fingerprint(), verified.name()), (&key(1).fingerprint(), "person 1"));
    let delegate = verified.delegate().unwrap();
    assert_eq!((&delegate.fingerprint, delegate.role), (&key(9).fingerprint(), Role::Deployer));
    assert_eq!(verified.grant().role, Role::Deployer);
    assert!(verified.grant().apps.is_some(), "the parent's own limits stay");
    assert_eq!(verified.grant().expires, Some(NOW.plus(DELEGATION_USUAL)));
}

#[test]
fn a_ceiling_above_the_parent_lifts_nothing() {
    let head = by_owner(&terms(9, Role::Owner, NOW));
    let verified = judge(&head, &line("role=viewer", 1), "", NOW).unwrap();
    assert_eq!(verified.grant().role, Role::Viewer);
}

#[test]
fn a_delegation_is_good_until_its_end_and_not_before_its_time() {
    let head = by_owner(&terms(9, Role::Owner, NOW));
    let end = NOW.plus(DELEGATION_USUAL);
    assert_eq!(refusal(&head, &owner(), "", end), Refusal::Expired);
    assert!(judge(&head, &owner(), "", end.minus(Duration::from_millis(1))).is_ok());
    let early = NOW.minus(Duration::from_secs(60));
    assert!(judge(&head, &owner(), "", early).is_ok());
    let too_early = early.minus(Duration::from_millis(1));
    assert_eq!(refusal(&head, &owner(), "", too_early), Refusal::Delegation("it was issued in the future"));
    let long =
        Terms::new(key(9).public_key().clone(), [server()], Role::Owner, (NOW, NOW.plus(DELEGATION_LONGEST)));
    assert_eq!(
        refusal(&by_owner(&long.unwrap()), &owner(), "", NOW.plus(DELEGATION_LONGEST)),
        Refusal::Expired
    );
}

#[test]
fn a_delegation_for_other_servers_is_refused() {
    let elsewhere =
        Terms::new(key(9).public_key().clone(), [key(88).fingerprint()], Role::Owner, (NOW, NOW.plus(HOUR)));
    assert_eq!(
        refusal(&by_owner(&elsewhere.unwrap()), &owner(), "", NOW),
        Refusal::Delegation("it is for other servers")
    );
}

#[test]
fn a_delegation_dies_with_its_parent() {
    let head = by_owner(&terms(9, Role::Owner, NOW));
    assert_eq!(refusal(&head, "", "", NOW), Refusal::UnknownKey);
    assert_eq!(refusal(&head, &line("role=owner", 2), "", NOW), Refusal::UnknownKey);
    assert_eq!(refusal(&head, &owner(), key(1).fingerprint().as_str(), NOW), Refusal::Revoked);
    let expired = line("role=owner,expiry-time=20260101", 1);
    assert_eq!(refusal(&head, &expired, "", NOW), Refusal::Expired);
    let elsewhere = line("role=owner,from=\"10.0.0.0/8\"", 1);
    assert_eq!(refusal(&head, &elsewhere, "", NOW), Refusal::Source);
    assert_eq!(refusal(&head, &owner(), key(9).fingerprint().as_str(), NOW), Refusal::Revoked);
}

#[test]
fn a_delegated_key_can_not_delegate() {
    let (first, second) = (terms(9, Role::Owner, NOW).sign(&key(1)).unwrap(), terms(7, Role::Owner, NOW));
    let by_delegate = second.sign(&key(9)).unwrap();
    let chained = head(&DelegatedSigner::new(key(7), by_delegate).unwrap());
    assert_eq!(refusal(&chained, &owner(), "", NOW), Refusal::UnknownKey);
    // Nor with the delegation of its own instead.
    let swapped = RequestHead { delegation: Some(first), ..chained };
    assert_eq!(refusal(&swapped, &owner(), "", NOW), Refusal::OtherKey);
}

#[test]
fn a_delegation_of_another_parent_or_none_is_not_what_was_signed() {
    let enrolled = format!("{}\n{}", owner(), line("role=viewer", 2));
    let viewer = delegated(&key(2), &terms(9, Role::Owner, NOW));
    let owners = by_owner(&terms(9, Role::Owner, NOW));
    let lifted = RequestHead { delegation: owners.delegation.clone(), ..viewer.clone() };
    assert_eq!(refusal(&lifted, &enrolled, "", NOW), Refusal::BadSignature);
    let stripped = RequestHead { delegation: None, ..viewer };
    assert_eq!(refusal(&stripped, &enrolled, "", NOW), Refusal::UnknownKey);
    let fresh_enrolled = format!("{enrolled}\n{}", line("role=owner", 9));
    assert_eq!(refusal(&stripped, &fresh_enrolled, "", NOW), Refusal::BadSignature);
    let plain = RequestHead { delegation: owners.delegation, ..head(&key(9)) };
    assert_eq!(refusal(&plain, &enrolled, "", NOW), Refusal::BadSignature);
    let renamed = RequestHead { fingerprint: key(1).fingerprint(), ..by_owner(&terms(9, Role::Owner, NOW)) };
    assert_eq!(refusal(&renamed, &enrolled, "", NOW), Refusal::OtherKey);
}

#[test]
fn a_signature_for_another_purpose_delegates_nothing() {
    struct Misled(crate::KeySigner);
    impl Signer for Misled {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _: &str, message: &[u8]) -> Result<Vec<u8>, crate::SignError> {
            self.0.sign(MANAGEMENT_NAMESPACE, message)
        }
    }
    let head = delegated(&Misled(key(1)), &terms(9, Role::Owner, NOW));
    assert_eq!(refusal(&head, &owner(), "", NOW), Refusal::Namespace);
}

#[test]
fn no_changed_byte_of_a_delegation_is_accepted() {
    let good = by_owner(&terms(9, Role::Viewer, NOW));
    let header = good.delegation.as_ref().unwrap().to_header();
    let mut parsed = 0;
    for at in 0..header.len() {
        for replacement in [b'A', b'B', b'.'] {
            let mut changed = header.clone().into_bytes();
            if changed[at] == replacement {
                continue;
            }
            changed[at] = replacement;
            let Ok(delegation) = Delegation::parse(std::str::from_utf8(&changed).unwrap()) else { continue };
            parsed += 1;
            let signer = DelegatedSigner::new(key(9), delegation.clone());
            let forged = RequestHead { delegation: Some(delegation), ..good.clone() };
            assert!(judge(&forged, &owner(), "", NOW).is_err(), "{at}");
            // Nor when the fresh key itself signs anew under the changed one.
            if let Some(signer) = signer {
                assert!(judge(&head(&signer), &owner(), "", NOW).is_err(), "{at}");
            }
        }
    }
    assert!(parsed > 50, "most changes in the signature still parse: {parsed}");
}

#[test]
fn a_certificate_may_delegate_and_its_limits_hold() {
    let draft = Draft { before: NOW.0 / 1000 + 60, ..Draft::default() };
    let parent = Certified(key(1), draft.signed(&key(1), &key(2)));
    let request = delegated(&parent, &terms(9, Role::Owner, NOW));
    let verified = judge(&request, &ca_line(), "", NOW).unwrap();
    assert_eq!((verified.name(), verified.grant().role), ("ann@laptop", Role::Operator));
    assert_eq!(verified.grant().expires, Some(Timestamp((NOW.0 / 1000 + 60) * 1000)));
    assert_eq!(verified.authority().unwrap().serial, 17);
    let serial = format!("serial {} 17", key(2).fingerprint());
    assert_eq!(refusal(&request, &ca_line(), &serial, NOW), Refusal::Revoked);
    assert_eq!(refusal(&request, &ca_line(), "", NOW.plus(Duration::from_secs(61))), Refusal::Expired);
    let elsewhere = Draft { critical: vec![("source-address", text("10.0.0.0/8"))], ..Draft::default() };
    let parent = Certified(key(1), elsewhere.signed(&key(1), &key(2)));
    assert_eq!(
        refusal(&delegated(&parent, &terms(9, Role::Owner, NOW)), &ca_line(), "", NOW),
        Refusal::Source
    );
}

#[test]
fn an_open_stream_of_a_delegated_key_ends_with_the_delegation_or_its_parent() {
    let audience = server();
    let hold = |verified: &Verified, enrolled: &str, revoked: &str, now| {
        let (enrolled, revoked) = (EnrolledKeys::parse(enrolled), Revoked::parse(revoked).unwrap());
        still_holds(verified, Trust { audience: &audience, enrolled: &enrolled, revoked: &revoked }, now)
    };
    let verified = judge(&by_owner(&terms(9, Role::Viewer, NOW)), &owner(), "", NOW).unwrap();
    assert_eq!(hold(&verified, &owner(), "", NOW), Ok(()));
    assert_eq!(hold(&verified, "", "", NOW), Err(Refusal::UnknownKey));
    assert_eq!(hold(&verified, &owner(), key(1).fingerprint().as_str(), NOW), Err(Refusal::Revoked));
    assert_eq!(hold(&verified, &owner(), key(9).fingerprint().as_str(), NOW), Err(Refusal::Revoked));
    assert_eq!(hold(&verified, &owner(), "", NOW.plus(DELEGATION_USUAL)), Err(Refusal::Expired));
    assert_eq!(hold(&verified, &line("role=operator", 1), "", NOW), Err(Refusal::Changed));
}

#[test]
fn fresh_keys_do_not_multiply_what_their_parent_may_ask() {
    let mut window = crate::Window::new(epoch(1), 1, 10);
    let first = judge(&by_owner(&terms(9, Role::Viewer, NOW)), &owner(), "", NOW).unwrap();
    window.admit(&first, NOW).unwrap();
    let fresh = Terms::new(key(7).public_key().clone(), [server()], Role::Viewer, (NOW, NOW.plus(HOUR)));
    let other = DelegatedSigner::new(key(7), fresh.unwrap().sign(&key(1)).unwrap()).unwrap();
    let second = judge(&head(&other), &owner(), "", NOW).unwrap();
    // The same nonce by another delegate of the same parent is the same caller's.
    assert_eq!(window.admit(&second, NOW), Err(crate::ReplayError::Replayed));
}

#[test]
fn one_signature_of_the_parent_is_enough_for_twenty_servers() {
    struct Counted(crate::KeySigner, std::sync::atomic::AtomicUsize);
    impl Signer for Counted {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, crate::SignError> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.sign(namespace, message)
        }
    }
    let parent = Counted(key(1), std::sync::atomic::AtomicUsize::new(0));
    let servers: Vec<_> = (100..120).map(|seed| key(seed).fingerprint()).collect();
    let terms = Terms::new(key(9).public_key().clone(), servers.clone(), Role::Viewer, (NOW, NOW.plus(HOUR)));
    let signer = DelegatedSigner::new(key(9), terms.unwrap().sign(&parent).unwrap()).unwrap();
    let (enrolled, revoked) = (EnrolledKeys::parse(&owner()), Revoked::default());
    for audience in &servers {
        let fields = RequestFields {
            audience,
            epoch: &epoch(1),
            route: rpc(),
            timestamp: NOW,
            nonce: &nonce("one"),
            body: &Digest::of("{}"),
        };
        let head = crate::sign_request(&signer, &fields).unwrap();
        let trust = Trust { audience, enrolled: &enrolled, revoked: &revoked };
        verify(&head, rpc(), trust, None, NOW).unwrap();
    }
    assert_eq!(parent.1.into_inner(), 1);
}
