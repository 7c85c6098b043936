//! Streams that are cut, mixed up or taken over.

use super::{Act, ClientError, Fake, client, fake, fake::Cut, key};
use crate::client::Stream;
use allod_proto::{Fault, FaultCode, command::StreamItem, messages::audit::AuditFollow};

fn line(text: &str) -> StreamItem {
    StreamItem::Record(vec![text.to_owned()])
}

fn first() -> Cut {
    Cut::Frame(line("one"), false)
}

async fn open(cuts: Vec<Cut>) -> Stream {
    let fake = Fake::serve([fake::hello(), Act::Stream(cuts)]).await;
    client(&fake).await.stream(AuditFollow::default()).await.unwrap()
}

/// The first frame is good and the second is not; nothing comes after.
async fn second_fails(second: Cut) -> ClientError {
    let mut stream = open(vec![first(), second, Cut::Frame(line("three"), true)]).await;
    assert_eq!(stream.next().await.unwrap(), Some(line("one")));
    let error = stream.next().await.unwrap_err();
    assert_eq!(stream.next().await, Ok(None), "nothing may come after an error");
    error
}

#[tokio::test]
async fn a_stream_without_a_last_frame_was_cut_off() {
    let mut stream = open(vec![first()]).await;
    assert_eq!(stream.next().await.unwrap(), Some(line("one")));
    assert!(matches!(stream.next().await.unwrap_err(), ClientError::CutOff { .. }));
}

#[tokio::test]
async fn an_empty_stream_was_cut_off() {
    assert!(matches!(open(vec![]).await.next().await.unwrap_err(), ClientError::CutOff { .. }));
}

#[tokio::test]
async fn someone_who_takes_over_in_the_middle_is_an_impostor() {
    let error = second_fails(Cut::By(Box::new(key(9)), line("two"))).await;
    assert!(matches!(error, ClientError::Impostor { .. }), "{error}");
}

#[tokio::test]
async fn a_frame_that_was_changed_moved_or_made_for_another_request_is_not_shown() {
    let lies = [
        Cut::Exchanged(line("two"), line("lie")),
        Cut::ForAnother(line("two")),
        Cut::Skipping(line("two")),
        Cut::Raw("{\"seq\":1,\"before\":\"\",\"payload\":\"{}\",\"last\":true,\"signature\":\"\"}\n"),
        Cut::Raw("not json\n"),
    ];
    for lie in lies {
        let error = second_fails(lie).await;
        assert!(matches!(error, ClientError::BadReply(_)), "{error}");
        assert_eq!(error.code().exit_code(), 10);
    }
}

#[tokio::test]
async fn a_fault_ends_the_stream() {
    let fault = Fault::new(FaultCode::NotAllowed, "revoked");
    let error = second_fails(Cut::Frame(StreamItem::Fault(fault.clone()), true)).await;
    assert_eq!(error, ClientError::Fault(fault));
}

#[tokio::test]
async fn idle_frames_are_passed_over_and_the_last_ends() {
    let idle = Cut::Frame(StreamItem::Idle {}, false);
    let mut stream =
        open(vec![first(), idle, Cut::Frame(line("two"), false), Cut::Frame(StreamItem::End {}, true)]).await;
    assert_eq!(stream.next().await.unwrap(), Some(line("one")));
    assert_eq!(stream.next().await.unwrap(), Some(line("two")));
    assert_eq!(stream.next().await.unwrap(), None);
    assert_eq!(stream.next().await.unwrap(), None);
}
