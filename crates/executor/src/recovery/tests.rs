use super::*;
use crate::authorize::bench::{Bench, bench};
use allod_proto::{CommandId, recovery::Login};
use allod_signing::{KeySigner, Signer as _};

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

async fn peer() -> PeerCredentials {
    PeerCredentials::of(&UnixStream::pair().unwrap().0).unwrap()
}

fn new_key() -> String {
    KeySigner::generate([9; 32], "x").public_key().to_openssh()
}

fn enrol_of(key: &str, name: Option<&str>) -> RecoveryAction {
    RecoveryAction::Enrol { key: key.to_owned(), name: name.map(str::to_owned) }
}

async fn asked(bench: &Bench, users: &[u32], action: RecoveryAction) -> RecoveryAnswer {
    let login = Login { key: Some(bench.owner.fingerprint()), from: Some("100.64.0.9".parse().unwrap()) };
    let ask = RecoveryAsk { id: CommandId::new("0123456789abcdef").unwrap(), action, login };
    answer(&bench.executor, &peer().await, users, &serde_json::to_vec(&ask).unwrap()).await
}

fn lines(bench: &Bench) -> Vec<String> {
    bench.executor.record().flush().unwrap();
    bench.executor.record().read(1, 100).unwrap()
}

fn changes(bench: &Bench) -> Vec<String> {
    let is_change =
        |line: &String| line.contains("\"entry\":\"intent\"") || line.contains("\"entry\":\"outcome\"");
    lines(bench).into_iter().filter(is_change).collect()
}

#[tokio::test]
async fn another_user_is_refused_whatever_they_ask_and_leaves_nothing() {
    let bench = bench().await;
    for action in [
        RecoveryAction::Doctor {},
        RecoveryAction::Identity {},
        RecoveryAction::Keys {},
        enrol_of(&new_key(), None),
        RecoveryAction::Restart {},
    ] {
        let fault = asked(&bench, &[own().wrapping_add(1)], action).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::Refused);
    }
    assert!(changes(&bench).is_empty());
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
}

#[tokio::test]
async fn what_is_no_plain_public_key_enrols_nobody_and_leaves_no_intent() {
    let bench = bench().await;
    let key = new_key();
    for (key, name) in [
        ("", None),
        ("ssh-ed25519", None),
        ("ssh-ed25519 AAAA", None),
        (&*format!("role=viewer {key}"), None),
        (&*format!("cert-authority {key}"), None),
        (&*format!("{key}\nrole=owner {key}"), None),
        (&*bench.owner.to_openssh(), None),
        (&*key, Some("")),
        (&*key, Some("ana\nrole=owner")),
        (&*key, Some("a b")),
        (&*key, Some("x\"y")),
    ] {
        let fault = asked(&bench, &[own()], enrol_of(key, name)).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::Invalid, "{key:?} {name:?}");
    }
    assert!(changes(&bench).is_empty());
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
}

#[tokio::test]
async fn a_key_that_was_revoked_stays_out_and_the_attempt_is_recorded() {
    let bench = bench().await;
    let key = KeySigner::generate([9; 32], "x");
    let line = format!("role=owner {}", key.public_openssh());
    bench.executor.keys().add(&line, allod_proto::Timestamp(0)).unwrap();
    bench.executor.keys().revoke(&key.fingerprint(), allod_proto::Timestamp(0)).unwrap();
    let fault = asked(&bench, &[own()], enrol_of(&new_key(), None)).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::Conflict);
    let changes = changes(&bench);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[1].contains("\"result\":\"failed\""), "{changes:?}");
}

#[tokio::test]
async fn a_life_that_has_only_begun_does_not_begin_anew() {
    let bench = bench().await;
    let fault = asked(&bench, &[own()], RecoveryAction::Restart {}).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::Busy);
    assert!(changes(&bench)[1].contains("\"result\":\"failed\""));
}

#[tokio::test]
async fn an_owner_is_enrolled_with_no_role_but_that_and_the_record_says_by_whom() {
    let bench = bench().await;
    let Ok(RecoveryDone::Keys(keys)) =
        asked(&bench, &[own()], enrol_of(&new_key(), Some("ana@laptop"))).await
    else {
        panic!()
    };
    assert_eq!(keys.keys.len(), 2, "nobody was removed");
    let new = keys.keys.iter().find(|key| key.name == "recovered-ana@laptop").unwrap();
    assert_eq!(new.line, format!("role=owner {} recovered-ana@laptop", new_key()));
    let changes = changes(&bench);
    assert_eq!(changes.len(), 2, "{changes:?}");
    for said in [
        "\"command\":\"recovery.enrol\"",
        "\"door\":\"recovery\"",
        "\"role\":\"caller\"",
        &format!("uid {}", own()),
        &format!("told {}", bench.owner.fingerprint()),
        "told 100.64.0.9",
    ] {
        assert!(changes[0].contains(said), "{said}: {changes:?}");
    }
    assert!(changes[1].contains("\"result\":\"ok\""), "{changes:?}");
}

/// The credentials of somebody else than root and the executor, as the kernel tells them.
async fn of_user(uid: u32) -> PeerCredentials {
    let pair = std::thread::spawn(move || {
        let uid = rustix::process::Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        std::os::unix::net::UnixStream::pair().unwrap()
    });
    let (stream, _other) = pair.join().unwrap();
    stream.set_nonblocking(true).unwrap();
    PeerCredentials::of(&UnixStream::from_std(stream).unwrap()).unwrap()
}

#[tokio::test]
async fn the_recovery_user_enrols_no_caller_and_that_leaves_nothing() {
    const RECOVERY: u32 = 61_300;
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: the recovery user at its door, because this test may not become one");
        return;
    }
    let bench = bench().await;
    let peer = of_user(RECOVERY).await;
    assert_eq!(peer.uid(), RECOVERY);
    let as_recovery = async |action: RecoveryAction| {
        let id = CommandId::new("0123456789abcdef").unwrap();
        let ask = RecoveryAsk { id, action, login: Login { key: None, from: None } };
        answer(&bench.executor, &peer, &[0, RECOVERY], &serde_json::to_vec(&ask).unwrap()).await
    };
    for (from, expires) in [(None, None), (Some("10.0.0.0/8"), Some("20300101"))] {
        let caller = RecoveryAction::EnrolCaller {
            key: new_key(),
            name: "builder".to_owned(),
            from: from.map(str::to_owned),
            expires: expires.map(str::to_owned),
        };
        let fault = as_recovery(caller).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::NotAllowed, "{fault:?}");
        assert!(fault.message.contains("only root"), "{fault:?}");
    }
    assert!(changes(&bench).is_empty());
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
    // What it is there for it may do, and the door is the same.
    let enrolled = as_recovery(enrol_of(&new_key(), None)).await;
    assert!(matches!(&enrolled, Ok(RecoveryDone::Keys(keys)) if keys.keys.len() == 2), "{enrolled:?}");
}

#[tokio::test]
async fn root_on_the_machine_enrols_a_caller_with_its_limits_and_with_nothing_else() {
    let bench = bench().await;
    let caller = |name: &str, from: Option<&str>, expires: Option<&str>| RecoveryAction::EnrolCaller {
        key: new_key(),
        name: name.to_owned(),
        from: from.map(str::to_owned),
        expires: expires.map(str::to_owned),
    };
    for bad in [
        caller("", None, None),
        caller("a b", None, None),
        caller("builder", Some("everywhere"), None),
        caller("builder", Some("10.0.0.0/8\",role=\"owner"), None),
        caller("builder", Some("10.0.0.0/8\\"), None),
        caller("builder", None, Some("tomorrow")),
        RecoveryAction::EnrolCaller {
            key: "role=owner x".to_owned(),
            name: "b".to_owned(),
            from: None,
            expires: None,
        },
    ] {
        assert_eq!(asked(&bench, &[own()], bad).await.unwrap_err().code, FaultCode::Invalid);
    }
    assert!(changes(&bench).is_empty());
    let good = caller("builder", Some("10.0.0.0/8"), Some("20300101"));
    let Ok(RecoveryDone::Keys(keys)) = asked(&bench, &[own()], good).await else { panic!() };
    let new = keys.keys.iter().find(|key| key.name == "builder").unwrap();
    let options = "role=caller,from=\"10.0.0.0/8\",expiry-time=\"20300101000000Z\"";
    assert_eq!(new.line, format!("{options} {} builder", new_key()));
    assert!(changes(&bench)[0].contains("recovery.enrol_caller"));
}

#[tokio::test]
async fn a_look_is_answered_without_an_agent_and_stands_in_the_record() {
    let bench = bench().await;
    let Ok(RecoveryDone::Doctor(doctor)) = asked(&bench, &[own()], RecoveryAction::Doctor {}).await else {
        panic!()
    };
    let about: Vec<_> = doctor.findings.iter().map(|finding| finding.about.as_str()).collect();
    assert_eq!(about, ["agent", "keys", "disk", "clock", "apps", "record"], "the worst comes first");
    let Ok(RecoveryDone::Identity(identity)) = asked(&bench, &[own()], RecoveryAction::Identity {}).await
    else {
        panic!()
    };
    assert_eq!(identity.identity, bench.executor.identity());
    assert!(identity.recipient.starts_with("age1"));
    let Ok(RecoveryDone::Keys(keys)) = asked(&bench, &[own()], RecoveryAction::Keys {}).await else {
        panic!()
    };
    assert_eq!(keys.keys[0].fingerprint, bench.owner.fingerprint());
    let lines = lines(&bench);
    for command in ["recovery.doctor", "recovery.identity", "recovery.keys"] {
        assert!(
            lines.iter().any(|line| line.contains(command) && line.contains("\"entry\":\"read\"")),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn a_folder_of_somebody_else_or_a_link_gets_no_door() {
    let bench = bench().await;
    assert!(open(&bench.executor, None).is_ok());
    let folder = bench.executor.layout().recovery_folder();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(open(&bench.executor, None).is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    assert!(open(&bench.executor, None).is_err());
    if rustix::process::geteuid().is_root() {
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(61_100), None).unwrap();
        assert!(open(&bench.executor, None).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn an_ask_that_is_too_long_too_slow_or_none_is_refused_and_changes_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bench = bench().await;
    let long = vec![b'x'; ASK + 1];
    for (what, sent) in [
        ("too long", long.as_slice()),
        ("none", b"{}\n"),
        (
            "of the agent",
            br#"{"id":1,"action":{"look":{}}}
"#,
        ),
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let serving = async {
            let users = [own()];
            connection(&bench.executor, theirs, &users).await
        };
        let asking = async {
            ours.write_all(sent).await.unwrap();
            let mut said = Vec::new();
            let _ = ours.read_to_end(&mut said).await;
            String::from_utf8(said).unwrap()
        };
        let (next, said) = tokio::join!(serving, asking);
        assert_eq!(next.unwrap(), Next::Same);
        assert!(said.contains("\"Err\""), "{what}: {said}");
    }
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"{\"id\"").await.unwrap();
    let slow = connection(&bench.executor, theirs, &[own()]).await;
    assert!(slow.is_err() || slow.unwrap() == Next::Same);
    assert!(changes(&bench).is_empty());
}
