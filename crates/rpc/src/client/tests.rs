//! The client against small servers that sign, and some that pretend to.

mod fake;
mod replies;
mod streams;
mod succession;
mod versions;

use super::*;
use allod_proto::{
    Fault, FaultCode,
    messages::ops::{OpsCancel, OpsList, OpsListReply},
    record::Head,
};
use allod_signing::KeySigner;
use fake::{Act, Fake, Reply, head};
use serde_json::json;
use std::sync::Mutex;

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "a test")
}

fn empty_list() -> serde_json::Value {
    json!({"operations": []})
}

async fn client(fake: &Fake) -> Client {
    Client::connect(fake.peer(), Arc::new(key(1)), Box::new(Forgetful::default())).await.unwrap()
}

async fn list(client: &mut Client) -> Result<OpsListReply, ClientError> {
    client.call(OpsList::default()).await
}

#[tokio::test]
async fn an_impostor_gets_no_signature() {
    let fake = Fake::serve([Act::Hello(key(9).fingerprint(), 1, 1)]).await;
    let error = list(&mut client(&fake).await).await.unwrap_err();
    assert!(matches!(&error, ClientError::Impostor { got, .. } if *got == key(9).fingerprint()), "{error}");
    assert_eq!(error.code().exit_code(), 10);
    assert_eq!(fake.signed_requests(), 0);
}

#[tokio::test]
async fn another_server_that_refuses_every_key_is_told_apart_from_a_refusal() {
    let fake = Fake::serve([refused(), Act::Hello(key(9).fingerprint(), 1, 1)]).await;
    let mut memory = Forgetful::default();
    memory.learn(&fake::identity().fingerprint(), &fake::epoch(1), &fake::signed_head(head(1)));
    memory.greeted(&fake::identity().fingerprint(), &fake::epoch(1), 1);
    let mut client = Client::connect(fake.peer(), Arc::new(key(1)), Box::new(memory)).await.unwrap();
    assert!(matches!(list(&mut client).await.unwrap_err(), ClientError::Impostor { .. }));
    assert_eq!(fake.signed_requests(), 1);
}

#[tokio::test]
async fn a_server_of_another_time_is_told_apart() {
    let fake = Fake::serve([Act::Hello(fake::identity().fingerprint(), 7, 9)]).await;
    let error = list(&mut client(&fake).await).await.unwrap_err();
    assert!(matches!(error, ClientError::Version { oldest: 7, newest: 9, .. }));
    assert_eq!(fake.signed_requests(), 0);
}

#[tokio::test]
async fn what_is_no_agent_is_not_taken_for_one() {
    let fake = Fake::serve([Act::Raw(200, "<html>".to_owned())]).await;
    let error = list(&mut client(&fake).await).await.unwrap_err();
    assert!(error.to_string().contains("is no agent"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable_at_once() {
    let fake = Fake::serve([]).await;
    let mut peer = fake.peer();
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    peer.address = free.local_addr().unwrap();
    drop(free);
    let error = Client::connect(peer, Arc::new(key(1)), Box::new(Forgetful::default())).await.err().unwrap();
    assert_eq!(error.code(), FaultCode::Unreachable);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn one_round_trip_is_enough_when_the_epoch_is_known() {
    let fake = Fake::serve([Act::from(Reply::ok(empty_list()))]).await;
    let mut memory = Forgetful::default();
    memory.learn(&fake::identity().fingerprint(), &fake::epoch(1), &fake::signed_head(head(1)));
    memory.greeted(&fake::identity().fingerprint(), &fake::epoch(1), 1);
    let mut client = Client::connect(fake.peer(), Arc::new(key(1)), Box::new(memory)).await.unwrap();
    assert_eq!(list(&mut client).await.unwrap().operations, []);
    assert_eq!(fake.requests().len(), 1);
    assert_eq!(client.accepted_key(), Some(key(1).fingerprint()));
}

#[tokio::test]
async fn a_stale_epoch_is_replaced_once_and_only_from_a_signed_reply() {
    let stale = || Reply::fault(Fault::new(FaultCode::StaleEpoch, "restarted")).epoch(fake::epoch(2));
    let fake = Fake::serve([fake::hello(), Act::from(stale()), Act::from(stale())]).await;
    let error = list(&mut client(&fake).await).await.unwrap_err();
    assert!(matches!(error, ClientError::Fault(fault) if fault.code == FaultCode::StaleEpoch));
    assert_eq!(fake.epochs(), [fake::epoch(1), fake::epoch(2)]);

    let fake = Fake::serve([fake::hello(), Act::from(stale().unsigned())]).await;
    let error = list(&mut client(&fake).await).await.unwrap_err();
    assert!(matches!(error, ClientError::NoKeyAccepted { signed: false, .. }), "{error}");

    let ok = Reply::ok(empty_list()).epoch(fake::epoch(2));
    let fake = Fake::serve([fake::hello(), Act::from(stale()), Act::from(ok)]).await;
    list(&mut client(&fake).await).await.unwrap();
    let requests = fake.requests();
    assert_eq!(requests[1].id(), requests[2].id());
    assert_ne!(requests[1].nonce(), requests[2].nonce());
}

#[tokio::test]
async fn the_servers_clock_is_taken_once_and_said() {
    #[derive(Default)]
    struct Listening(Forgetful, Arc<Mutex<Vec<Notice>>>);
    impl Memory for Listening {
        fn epoch(&self, identity: &Fingerprint) -> Option<Epoch> {
            self.0.epoch(identity)
        }
        fn head(&self, identity: &Fingerprint) -> Option<Head> {
            self.0.head(identity)
        }
        fn learn(&mut self, identity: &Fingerprint, epoch: &Epoch, head: &SignedHead) {
            self.0.learn(identity, epoch, head);
        }
        fn notice(&mut self, notice: Notice) {
            self.1.lock().unwrap().push(notice);
        }
    }
    let skewed = || {
        Reply::fault(Fault {
            server_time: Some(Timestamp(5_000_000)),
            ..Fault::new(FaultCode::Clock, "apart")
        })
    };
    let memory = Listening::default();
    let notices = Arc::clone(&memory.1);
    let fake = Fake::serve([fake::hello(), Act::from(skewed()), Act::from(skewed())]).await;
    let client = Client::connect(fake.peer(), Arc::new(key(1)), Box::new(memory)).await.unwrap();
    let error = list(&mut client.with_clock(Arc::new(|| Timestamp(1_000_000)))).await.unwrap_err();
    assert_eq!(error.code(), FaultCode::Clock);
    let times: Vec<_> = fake.requests().iter().skip(1).map(fake::Request::timestamp).collect();
    assert_eq!(times, [Timestamp(1_000_000), Timestamp(5_000_000)]);
    let said = notices.lock().unwrap();
    assert_eq!(*said, [Notice::ClockDiffers { server: "web1".to_owned(), ahead_ms: 4_000_000 }]);
}

struct Ring(Vec<Arc<dyn Signer>>, Arc<Mutex<Vec<Fingerprint>>>);

impl Keys for Ring {
    fn next(&mut self) -> Result<Option<Arc<dyn Signer>>, ClientError> {
        Ok(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
    }
    fn accepted(&mut self, key: &Fingerprint) {
        self.1.lock().unwrap().push(key.clone());
    }
}

async fn client_with_keys(fake: &Fake, seeds: &[u8]) -> (Client, Arc<Mutex<Vec<Fingerprint>>>) {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let signers = seeds.iter().map(|&seed| Arc::new(key(seed)) as Arc<dyn Signer>).collect();
    let ring = Box::new(Ring(signers, Arc::clone(&accepted)));
    let client = Client::connect_with_keys(fake.peer(), ring, Box::new(Forgetful::default())).await.unwrap();
    (client, accepted)
}

fn refused() -> Act {
    Act::from(Reply::fault(Fault::new(FaultCode::Refused, "no")).unsigned())
}

#[tokio::test]
async fn when_no_key_is_accepted_all_that_were_tried_are_named() {
    let fake = Fake::serve([fake::hello(), refused(), refused()]).await;
    let (mut client, accepted) = client_with_keys(&fake, &[1, 2]).await;
    let error = list(&mut client).await.unwrap_err();
    let tried = [key(1).fingerprint(), key(2).fingerprint()];
    assert!(matches!(&error, ClientError::NoKeyAccepted { tried: t, .. } if *t == tried), "{error}");
    assert_eq!(error.code().exit_code(), 3);
    assert!(accepted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_any_key_nothing_is_sent_signed() {
    let fake = Fake::serve([fake::hello()]).await;
    let (mut client, _) = client_with_keys(&fake, &[]).await;
    assert!(matches!(list(&mut client).await.unwrap_err(), ClientError::NoKey(_)));
}

#[tokio::test]
async fn another_key_is_tried_only_until_one_was_accepted() {
    let ok = || Act::from(Reply::ok(empty_list()));
    let fake = Fake::serve([fake::hello(), refused(), ok(), refused()]).await;
    let (mut client, accepted) = client_with_keys(&fake, &[1, 2, 3]).await;
    list(&mut client).await.unwrap();
    assert_eq!(*accepted.lock().unwrap(), [key(2).fingerprint()]);
    let error = list(&mut client).await.unwrap_err();
    assert_eq!(error.code(), FaultCode::Refused);
    let keys: Vec<_> = fake.requests().iter().skip(1).map(fake::Request::key).collect();
    assert_eq!(keys, [key(1).fingerprint(), key(2).fingerprint(), key(2).fingerprint()]);
}

#[tokio::test]
async fn a_refusal_for_what_the_key_may_do_is_given_as_it_is() {
    let not_allowed = Fault::new(FaultCode::NotAllowed, "no").hint("ask").request("r");
    let fake = Fake::serve([fake::hello(), Act::from(Reply::fault(not_allowed.clone()))]).await;
    let (mut client, accepted) = client_with_keys(&fake, &[1, 2]).await;
    assert_eq!(list(&mut client).await.unwrap_err(), ClientError::Fault(not_allowed));
    assert_eq!(accepted.lock().unwrap().len(), 1);
}

fn cancel() -> OpsCancel {
    OpsCancel { operation: "op-0123456789ab".parse().unwrap() }
}

#[tokio::test]
async fn a_reply_that_never_comes_is_asked_for_three_more_times() {
    let hang_ups = (0..4).map(|_| Act::HangUp);
    let fake = Fake::serve(std::iter::once(fake::hello()).chain(hang_ups)).await;
    let error = client(&fake).await.call(cancel()).await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    assert_eq!(fake.signed_requests(), 4);
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_with_the_same_id_and_another_nonce() {
    let summary = json!({"operation": {"id": "op-0123456789ab", "app": "blog/production", "command": "app.deploy",
        "by": "ana", "started_at": 1, "state": "running"}});
    let fake = Fake::serve([fake::hello(), Act::HangUp, Act::from(Reply::ok(summary))]).await;
    client(&fake).await.call(cancel()).await.unwrap();
    let requests = fake.requests();
    assert_eq!(requests[1].id(), requests[2].id());
    assert_ne!(requests[1].nonce(), requests[2].nonce());
}

#[tokio::test]
async fn a_chunk_that_was_taken_for_another_is_an_error() {
    let (bytes, other) = (Bytes::from_static(b"hello"), Digest::of("other"));
    let digest = Digest::of(&bytes);
    let app: AppRef = "blog/staging".parse().unwrap();
    let took = |chunk: Digest| Act::from(Reply::ok(json!({"chunk": chunk})));
    let fake = Fake::serve([fake::hello(), took(other), took(digest)]).await;
    let mut client = client(&fake).await;
    assert!(client.put_chunk(&app, &digest, bytes.clone()).await.is_err());
    client.put_chunk(&app, &digest, bytes.clone()).await.unwrap();
    let request = fake.requests().pop().unwrap();
    assert_eq!(request.path(), format!("/chunks/blog/staging/{digest}"));
    assert_eq!(request.body(), bytes);
}
