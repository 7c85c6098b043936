use super::*;
use crate::allowed;
use allod_proto::{CommandName, command::Kind};
use allod_signing::{KeySigner, Signer as _};
use tokio::net::UnixStream;

const NOW: Timestamp = Timestamp(1_780_000_000_000);

/// A server that knows some keys, and a login at it.
struct Case {
    lines: Vec<String>,
    revoked: Revoked,
    login: Login,
    caller: Option<&'static str>,
    certificate: bool,
}

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "")
}

fn line(seed: u8, options: &str, name: &str) -> String {
    format!("{options} {} {name}", key(seed).public_key().to_openssh())
}

/// `builder` logs in from 192.0.2.7.
fn case() -> Case {
    Case {
        lines: vec![
            line(1, "role=caller", "builder"),
            line(2, "role=caller", "other"),
            line(3, "role=owner", "ana"),
        ],
        revoked: Revoked::default(),
        login: Login { key: Some(key(1).fingerprint()), from: Some("192.0.2.7".parse().unwrap()) },
        caller: None,
        certificate: false,
    }
}

async fn peer() -> PeerCredentials {
    PeerCredentials::of(&UnixStream::pair().unwrap().0).unwrap()
}

impl Case {
    async fn asked_by(&self, users: &[u32]) -> Result<Caller, GateRefused> {
        let enrolled = EnrolledKeys::parse(&self.lines.join("\n"));
        assert!(enrolled.complaints().is_empty(), "{:?}", enrolled.complaints());
        let told = GateLogin {
            login: &self.login,
            port: Some(50_000),
            caller: self.caller,
            certificate: self.certificate,
            enrolled: &enrolled,
            revoked: &self.revoked,
        };
        Caller::gate(&peer().await, users, told, NOW)
    }

    async fn caller(&self) -> Result<Caller, GateRefused> {
        self.asked_by(&[0, peer().await.uid()]).await
    }

    async fn refused(&self) -> GateRefused {
        self.caller().await.expect_err("it is a caller")
    }
}

#[tokio::test]
async fn another_user_makes_no_caller_whatever_they_say() {
    for users in [&[][..], &[peer().await.uid().wrapping_add(1)]] {
        assert_eq!(case().asked_by(users).await.unwrap_err(), GateRefused::Stranger);
    }
}

#[tokio::test]
async fn a_login_of_which_key_or_place_is_not_told_is_nobody() {
    let mut without = case();
    without.login.key = None;
    assert_eq!(without.refused().await, GateRefused::NoKey);
    let mut without = case();
    without.login.from = None;
    assert_eq!(without.refused().await, GateRefused::NoSource);
}

#[tokio::test]
async fn x23_keys_that_are_unknown_revoked_or_expired_and_certificates_are_refused_and_each_is_told_why() {
    let mut unknown = case();
    unknown.login.key = Some(key(9).fingerprint());
    assert_eq!(unknown.refused().await, GateRefused::Unknown);
    let mut revoked = case();
    revoked.revoked.revoke(key(1).fingerprint());
    assert_eq!(revoked.refused().await, GateRefused::Revoked);
    let mut expired = case();
    expired.lines[0] = line(1, "role=caller,expiry-time=\"20200101Z\"", "builder");
    assert_eq!(expired.refused().await, GateRefused::Expired);
    let certificate = Case { certificate: true, ..case() };
    assert_eq!(certificate.refused().await, GateRefused::Certificate);
    let mut authority = case();
    authority.lines[0] = line(1, "role=caller,cert-authority,principals=\"x\"", "ca");
    assert_eq!(authority.refused().await, GateRefused::Unknown, "a CA's own key is nobody's");
}

#[tokio::test]
async fn x23_a_key_from_elsewhere_than_its_from_says_is_refused() {
    let mut elsewhere = case();
    elsewhere.lines[0] = line(1, "role=caller,from=\"10.0.0.0/8\"", "builder");
    assert_eq!(elsewhere.refused().await, GateRefused::Source);
    elsewhere.login.from = Some("::ffff:10.1.2.3".parse().unwrap());
    assert_eq!(elsewhere.caller().await.unwrap().source(), Some("10.1.2.3 port 50000"));
}

#[tokio::test]
async fn a_key_of_any_role_but_caller_is_refused() {
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Caller) {
        let mut higher = case();
        higher.lines[0] = line(1, &format!("role={role}"), "builder");
        assert_eq!(higher.refused().await, GateRefused::Role(role));
    }
}

#[tokio::test]
async fn x23_a_line_that_names_another_caller_than_the_keys_own_is_refused() {
    for named in ["other", "ana", "", "Builder", "builder "] {
        assert_eq!(Case { caller: Some(named), ..case() }.refused().await, GateRefused::Caller, "{named:?}");
    }
    assert!(Case { caller: Some("builder"), ..case() }.caller().await.is_ok());
    let fingerprint: &'static str = Box::leak(key(1).fingerprint().to_string().into_boxed_str());
    assert!(Case { caller: Some(fingerprint), ..case() }.caller().await.is_ok());
}

#[tokio::test]
async fn x23_two_keys_of_one_account_are_two_callers() {
    let mut case = case();
    assert_eq!(case.caller().await.unwrap().name(), "builder");
    case.login.key = Some(key(2).fingerprint());
    let other = case.caller().await.unwrap();
    assert_eq!((other.name(), other.key()), ("other", Some(&key(2).fingerprint())));
}

#[tokio::test]
async fn a_caller_has_the_limits_of_its_key_and_none_of_the_api() {
    let mut narrowed = case();
    narrowed.lines[0] = line(1, "role=caller,apps=\"blog\",commands=\"deploy-site\"", "builder");
    let caller = narrowed.caller().await.unwrap();
    assert_eq!((caller.role(), caller.door()), (Role::Caller, Door::Gate));
    assert_eq!(caller.commands(), Some(&["deploy-site".to_owned()][..]));
    assert!(caller.apps().is_some());
    for name in CommandName::ALL.iter().filter(|name| name.kind() != Kind::Probe) {
        assert!(allowed(&caller, *name, None).is_err(), "{name}");
    }
}

#[tokio::test]
async fn only_root_and_the_executors_own_user_are_somebody_without_a_login() {
    let peer = peer().await;
    let own = Caller::on_the_machine(&peer, peer.uid()).unwrap();
    assert_eq!((own.role(), own.door()), (Role::Owner, Door::Socket));
    let by_another = Caller::on_the_machine(&peer, peer.uid().wrapping_add(1));
    assert_eq!(by_another.is_some(), peer.uid() == 0);
}

#[test]
fn every_refusal_says_what_to_do() {
    for refused in
        [GateRefused::Stranger, GateRefused::NoKey, GateRefused::Source, GateRefused::Role(Role::Owner)]
    {
        let fault = Fault::from(refused);
        assert!(fault.code == FaultCode::Refused && fault.hint.is_some(), "{fault:?}");
    }
}
