use super::*;
use allod_proto::{Fault, FaultCode};

const PLAIN: Style = Style::new(false);

fn probe() -> ProbeReport {
    ProbeReport {
        target: "GET http://127.0.0.1:20001/".to_owned(),
        status: None,
        location: None,
        error: None,
        listens_on: Vec::new(),
        tries: 1,
        took_ms: 5000,
    }
}

#[test]
fn a_probe_says_what_it_found() {
    assert!(probe_words(&probe()).contains("gave no answer (asked once"));
    let redirect = ProbeReport { status: Some(302), location: Some("/login".to_owned()), ..probe() };
    assert!(probe_words(&redirect).contains("answered 302 and sends elsewhere, to /login"));
}

#[test]
fn what_a_server_says_can_not_move_the_cursor() {
    let note = Happening::Note { text: "\u{1b}[2Jgone\r\n".to_owned() };
    assert!(!line(&note, PLAIN).unwrap().contains('\u{1b}'));
    let fault = Fault::new(FaultCode::Unhealthy, "\u{1b}]0;x\u{7}");
    let finished = Happening::Finished { state: OperationState::Failed, fault: Some(fault), serving: None };
    let text = line(&finished, PLAIN).unwrap();
    assert!(text.ends_with("nothing serves") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn leaving_an_operation_says_how_to_come_back() {
    let text = still_running(&"op-0123456789ab".parse().unwrap(), "web1");
    assert_eq!(
        text,
        "still running: allod ops attach op-0123456789ab --server web1  |  \
         allod ops cancel op-0123456789ab --server web1"
    );
}
