use crate::peer::{Keygen, NOW, Request, judge};
use allod_proto::{Role, Timestamp};
use allod_signing::{Refusal, Signer as _, sign_request};

const VALID: &str = "20260101000000:20990101000000";

/// A CA, a key `id`, and `id-cert.pub` made with these arguments.
fn certified(ca: (&str, &str), holder: (&str, &str), arguments: &[&str]) -> Option<Keygen> {
    let keygen = Keygen::find()?;
    keygen.make("ca", ca.0, ca.1);
    keygen.make("id", holder.0, holder.1);
    certify(&keygen, arguments);
    Some(keygen)
}

fn certify(keygen: &Keygen, arguments: &[&str]) {
    let mut all = vec!["-q", "-s", "ca", "-I", "ann@laptop", "-z", "17"];
    all.extend_from_slice(arguments);
    all.push("id.pub");
    keygen.run(&all);
}

const ED25519: (&str, &str) = ("ed25519", "");
const GOOD: [&str; 4] = ["-n", "ops,dev", "-V", VALID];

fn line(keygen: &Keygen) -> String {
    format!("cert-authority,principals=\"ops\",role=operator {}", keygen.read("ca.pub"))
}

fn outcome(keygen: &Keygen) -> Result<(), Refusal> {
    let public = keygen.signer("id").public_key().clone();
    judge(&keygen.head("id-cert.pub", &public), &line(keygen)).map(drop)
}

fn refused(arguments: &[&str]) -> Option<Refusal> {
    let keygen = certified(ED25519, ED25519, arguments)?;
    Some(outcome(&keygen).unwrap_err())
}

#[test]
fn a_certificate_for_other_principals_is_refused() {
    let Some(refusal) = refused(&["-n", "dev,web", "-V", VALID]) else { return };
    assert_eq!(refusal, Refusal::Certificate("none of its principals is on the CA's line"));
}

#[test]
fn a_certificate_for_nobody_in_particular_is_refused() {
    let Some(refusal) = refused(&["-V", VALID]) else { return };
    assert_eq!(refusal, Refusal::Certificate("none of its principals is on the CA's line"));
}

#[test]
fn an_expired_certificate_is_refused() {
    let Some(refusal) = refused(&["-n", "ops", "-V", "20200101000000:20210101000000"]) else { return };
    assert_eq!(refusal, Refusal::Expired);
}

#[test]
fn a_certificate_of_the_future_is_refused() {
    let Some(refusal) = refused(&["-n", "ops", "-V", "20980101000000:20990101000000"]) else { return };
    assert_eq!(refusal, Refusal::Certificate("it is not valid yet"));
}

#[test]
fn a_certificate_for_another_address_is_refused() {
    let Some(refusal) = refused(&["-n", "ops", "-V", VALID, "-O", "source-address=10.0.0.0/8"]) else {
        return;
    };
    assert_eq!(refusal, Refusal::Source);
}

#[test]
fn a_certificate_with_a_forced_command_is_refused() {
    let Some(refusal) = refused(&["-n", "ops", "-V", VALID, "-O", "force-command=/bin/true"]) else { return };
    assert_eq!(refusal, Refusal::Certificate("it has a critical option that is not accepted"));
}

#[test]
fn a_hosts_certificate_is_refused() {
    let Some(refusal) = refused(&["-h", "-n", "ops", "-V", VALID]) else { return };
    assert_eq!(refusal, Refusal::Certificate("it is not a user's"));
}

#[test]
fn a_certificate_that_its_ca_signed_with_sha1_is_refused() {
    let Some(keygen) = certified(("rsa", "2048"), ED25519, &["-n", "ops", "-V", VALID]) else { return };
    assert_eq!(outcome(&keygen), Ok(()));
    certify(&keygen, &["-t", "ssh-rsa", "-n", "ops", "-V", VALID]);
    assert_eq!(outcome(&keygen), Err(Refusal::Algorithm));
}

#[test]
fn a_certificate_of_a_ca_that_is_not_enrolled_is_refused() {
    let Some(keygen) = certified(ED25519, ED25519, &GOOD) else { return };
    keygen.make("other", "ed25519", "");
    let public = keygen.signer("id").public_key().clone();
    let enrolled = line(&keygen).replace(keygen.read("ca.pub").trim(), keygen.read("other.pub").trim());
    let found = judge(&keygen.head("id-cert.pub", &public), &enrolled);
    assert_eq!(found.unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_certificate_for_this_address_is_accepted() {
    let arguments = ["-n", "ops", "-V", VALID, "-O", "source-address=100.64.0.0/10,fd7a:115c:a1e0::/48"];
    let Some(keygen) = certified(ED25519, ED25519, &arguments) else { return };
    assert_eq!(outcome(&keygen), Ok(()));
}

/// The peer's certificate counts here, signed by the peer or by us; and what we sign with it counts there.
fn both_ways(ca: (&str, &str), holder: (&str, &str)) {
    let Some(keygen) = certified(ca, holder, &GOOD) else { return };
    let signer = keygen.signer("id").with_certificate(&keygen.read("id-cert.pub")).unwrap();
    let theirs = judge(&keygen.head("id-cert.pub", signer.public_key()), &line(&keygen)).unwrap();
    assert_eq!((theirs.name(), theirs.grant().role), ("ann@laptop", Role::Operator));
    assert_eq!(theirs.authority().unwrap().serial, 17);
    assert_eq!(theirs.grant().expires, Some(Timestamp(4_070_908_800_000)));

    let request = Request::new();
    let ours = sign_request(&signer, &request.fields()).unwrap();
    judge(&ours, &line(&keygen)).unwrap();
    let allowed = format!("cert-authority {}", keygen.read("ca.pub"));
    let message = request.fields().bytes();
    assert!(keygen.verifies(&allowed, "allod-management-v1", &message, &ours.signature));
    assert!(theirs.timestamp() == NOW);
}

#[test]
fn an_ed25519_certificate_works_both_ways() {
    both_ways(ED25519, ED25519);
}

#[test]
fn a_p256_certificate_of_a_p384_ca_works_both_ways() {
    both_ways(("ecdsa", "384"), ("ecdsa", "256"));
}

#[test]
fn a_p384_certificate_of_a_p521_ca_works_both_ways() {
    both_ways(("ecdsa", "521"), ("ecdsa", "384"));
}

#[test]
fn a_p521_certificate_of_a_p256_ca_works_both_ways() {
    both_ways(("ecdsa", "256"), ("ecdsa", "521"));
}

#[test]
fn an_rsa_certificate_of_an_rsa_ca_works_both_ways() {
    both_ways(("rsa", "3072"), ("rsa", "2048"));
}
