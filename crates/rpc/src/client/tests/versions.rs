use super::*;
use allod_proto::Role;
use allod_signing::{DelegatedSigner, Terms};
use std::time::Duration;

fn hello(oldest: u32, newest: u32) -> Act {
    Act::Hello(fake::identity().fingerprint(), oldest, newest)
}

fn ok() -> Act {
    Act::from(Reply::ok(empty_list()))
}

/// The key of `seed` under a delegation of the key of ones.
fn delegated(seed: u8) -> Arc<dyn Signer> {
    let span = (Timestamp(1), Timestamp(1).plus(Duration::from_secs(60)));
    let terms =
        Terms::new(key(seed).public_key().clone(), [fake::identity().fingerprint()], Role::Viewer, span);
    let delegation = terms.unwrap().sign(&key(1)).unwrap();
    Arc::new(DelegatedSigner::new(key(seed), delegation).unwrap())
}

async fn client_of(fake: &Fake, signers: Vec<Arc<dyn Signer>>) -> (Client, Arc<Mutex<Vec<Fingerprint>>>) {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let ring = Box::new(Ring(signers, Arc::clone(&accepted)));
    let client = Client::connect_with_keys(fake.peer(), ring, Box::new(Forgetful::default())).await.unwrap();
    (client, accepted)
}

#[tokio::test]
async fn an_older_server_is_spoken_to_in_its_version_and_gets_no_delegation() {
    let fake = Fake::serve([hello(1, 1), ok()]).await;
    let (mut client, _) = client_of(&fake, vec![delegated(9), Arc::new(key(1))]).await;
    list(&mut client).await.unwrap();
    let request = fake.requests().pop().unwrap();
    assert_eq!((request.version(), request.key()), (1, key(1).fingerprint()));
    assert_eq!(fake.signed_requests(), 1);

    let fake = Fake::serve([hello(1, 1)]).await;
    let (mut client, _) = client_of(&fake, vec![delegated(9)]).await;
    let error = list(&mut client).await.unwrap_err();
    assert!(error.to_string().contains("knows no delegations"), "{error}");
    assert_eq!(fake.signed_requests(), 0);
}

#[tokio::test]
async fn the_newest_version_that_both_know_is_spoken_and_a_delegation_is_not_remembered() {
    let fake = Fake::serve([hello(1, 9), ok()]).await;
    let (mut client, accepted) = client_of(&fake, vec![delegated(9), Arc::new(key(1))]).await;
    list(&mut client).await.unwrap();
    let request = fake.requests().pop().unwrap();
    assert_eq!((request.version(), request.key()), (u64::from(allod_proto::VERSION), key(9).fingerprint()));
    assert!(accepted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_delegation_that_is_refused_gives_way_to_the_next_key_also_in_the_middle() {
    let fake = Fake::serve([hello(1, 2), refused(), ok()]).await;
    let (mut client, accepted) = client_of(&fake, vec![delegated(9), Arc::new(key(1))]).await;
    list(&mut client).await.unwrap();
    assert_eq!(*accepted.lock().unwrap(), [key(1).fingerprint()]);

    let fake = Fake::serve([hello(1, 2), ok(), refused(), ok()]).await;
    let (mut client, _) = client_of(&fake, vec![delegated(9), Arc::new(key(1))]).await;
    list(&mut client).await.unwrap();
    list(&mut client).await.unwrap();
    let keys: Vec<_> = fake.requests().iter().skip(1).map(fake::Request::key).collect();
    assert_eq!(keys, [key(9).fingerprint(), key(9).fingerprint(), key(1).fingerprint()]);
}

#[tokio::test]
async fn a_version_that_was_remembered_wrongly_is_asked_for_once_more() {
    let no = || Act::from(Reply::fault(Fault::new(FaultCode::Version, "no")));
    let fake = Fake::serve([no(), hello(1, 1), ok()]).await;
    let mut memory = Forgetful::default();
    memory.learn(&fake::identity().fingerprint(), &fake::epoch(1), &fake::signed_head(head(1)));
    memory.greeted(&fake::identity().fingerprint(), &fake::epoch(1), 2);
    let mut client = Client::connect(fake.peer(), Arc::new(key(1)), Box::new(memory)).await.unwrap();
    list(&mut client).await.unwrap();
    let requests = fake.requests();
    assert_eq!((requests[0].version(), requests[2].version()), (2, 1));

    let fake = Fake::serve([hello(1, 2), no(), hello(1, 2), no()]).await;
    let error = list(&mut super::client(&fake).await).await.unwrap_err();
    assert_eq!(error.code(), FaultCode::Version);
}

#[tokio::test]
async fn whoever_is_too_old_is_told_what_to_do() {
    for (oldest, newest, who) in [(7, 9, "this program is too old"), (0, 0, "the server is too old")] {
        let fake = Fake::serve([hello(oldest, newest)]).await;
        let error = list(&mut super::client(&fake).await).await.unwrap_err();
        assert_eq!(error.code().exit_code(), 2);
        let hint = error.to_fault().hint.unwrap();
        assert!(hint.contains(who) && hint.contains("1.0.0"), "{hint}");
        assert_eq!(fake.signed_requests(), 0);
    }
}
