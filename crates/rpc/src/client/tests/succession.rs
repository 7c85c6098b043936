use super::*;
use allod_proto::messages::server::Succession;
use allod_signing::sign_succession;

/// A client that pinned the identity of key 99.
async fn client_of_99(fake: &Fake) -> Client {
    let peer = Peer { identity: key(99).fingerprint(), ..fake.peer() };
    Client::connect(peer, Arc::new(key(1)), Box::new(Forgetful::default())).await.unwrap()
}

fn link(old: u8, new: u8) -> Succession {
    sign_succession(&key(old), &key(new).fingerprint(), Timestamp(1)).unwrap()
}

#[tokio::test]
async fn a_successor_that_the_pinned_identity_did_not_name_is_an_impostor() {
    let claimed = Succession { old: key(99).fingerprint(), ..link(98, 100) };
    for chain in
        [vec![], vec![link(98, 100)], vec![claimed], vec![link(99, 97)], vec![link(99, 98), link(97, 100)]]
    {
        let fake = Fake::serve([Act::Successor(chain)]).await;
        let error = list(&mut client_of_99(&fake).await).await.unwrap_err();
        assert!(matches!(&error, ClientError::Impostor { .. }), "{error}");
        assert_eq!(fake.signed_requests(), 0);
    }
}

#[tokio::test]
async fn a_successor_that_the_pinned_identity_named_is_followed_and_remembered() {
    #[derive(Default)]
    struct Told(Forgetful, Arc<Mutex<Vec<(Fingerprint, Fingerprint)>>>);
    impl Memory for Told {
        fn epoch(&self, identity: &Fingerprint) -> Option<Epoch> {
            self.0.epoch(identity)
        }
        fn head(&self, identity: &Fingerprint) -> Option<Head> {
            self.0.head(identity)
        }
        fn learn(&mut self, identity: &Fingerprint, epoch: &Epoch, head: &SignedHead) {
            self.0.learn(identity, epoch, head);
        }
        fn succeeded(&mut self, _: &str, old: &Fingerprint, new: &Fingerprint) {
            self.1.lock().unwrap().push((old.clone(), new.clone()));
        }
    }
    let ok = || Act::from(Reply::ok(empty_list()));
    let chain = || Act::Successor(vec![link(99, 98), link(98, 100)]);
    let memory = Told::default();
    let told = Arc::clone(&memory.1);
    let fake = Fake::serve([chain(), ok()]).await;
    let peer = Peer { identity: key(99).fingerprint(), ..fake.peer() };
    let mut client = Client::connect(peer, Arc::new(key(1)), Box::new(memory)).await.unwrap();
    list(&mut client).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [(key(99).fingerprint(), key(100).fingerprint())]);
    assert_eq!(client.peer().identity, key(100).fingerprint());
}

#[tokio::test]
async fn a_refusal_of_the_old_identitys_requests_leads_to_the_new_one_with_the_same_key() {
    let mut memory = Forgetful::default();
    memory.learn(&key(99).fingerprint(), &fake::epoch(7), &fake::signed_head(head(1)));
    memory.greeted(&key(99).fingerprint(), &fake::epoch(7), 1);
    // The first request is signed for key 99, which this fake can't check: it is refused before.
    let fake =
        Fake::serve([Act::Refuse, Act::Successor(vec![link(99, 100)]), Act::from(Reply::ok(empty_list()))])
            .await;
    let peer = Peer { identity: key(99).fingerprint(), ..fake.peer() };
    let mut client = Client::connect(peer, Arc::new(key(1)), Box::new(memory)).await.unwrap();
    list(&mut client).await.unwrap();
    assert_eq!(client.accepted_key(), Some(key(1).fingerprint()));
}
