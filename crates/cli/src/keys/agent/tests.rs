use super::*;
use allod_signing::{KeySigner, verify_signature};
use std::{os::unix::net::UnixListener, thread};

/// Answers each connection with one message, and gives back what it was asked.
fn agent(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Agent, thread::JoinHandle<Vec<Vec<u8>>>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || {
        let serve = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&answer).unwrap();
            asked
        };
        answers.into_iter().map(serve).collect()
    });
    (folder, Agent::new(&path), serving)
}

fn framed(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, &[&[kind], rest].concat());
    out
}

fn key() -> KeySigner {
    KeySigner::generate([7; 32], "a test")
}

#[test]
fn an_agent_that_talks_nonsense_is_an_error() {
    let huge = u32::MAX.to_be_bytes().to_vec();
    let endless = framed(IDENTITIES_ANSWER, &u32::MAX.to_be_bytes());
    for answer in [vec![0, 0, 0, 0], huge, endless, framed(IDENTITIES_ANSWER, &[1]), vec![0, 0]] {
        let (_folder, agent, _) = agent(vec![answer.clone()]);
        assert!(agent.keys().is_err(), "{answer:?}");
    }
}

#[test]
fn an_agent_that_says_no_is_a_refusal() {
    let (_folder, agent, _) = agent(vec![framed(5, &[])]);
    assert!(matches!(agent.keys(), Err(AgentError::Refused(_))));
}

#[test]
fn nobody_at_the_socket_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Agent::new(&folder.path().join("none")).keys(), Err(AgentError::Io { .. })));
}

#[test]
fn keys_that_can_not_sign_here_are_passed_over() {
    let mut list = 2_u32.to_be_bytes().to_vec();
    put_string(&mut list, b"\0\0\0\x07ssh-dss");
    put_string(&mut list, b"old");
    put_string(&mut list, key().public_key().blob());
    put_string(&mut list, b"ana");
    let (_folder, agent, _) = agent(vec![framed(IDENTITIES_ANSWER, &list)]);
    let keys = agent.keys().unwrap();
    assert_eq!(keys.iter().map(|key| key.comment.as_str()).collect::<Vec<_>>(), ["ana"]);
}

#[test]
fn what_an_agent_signs_is_a_signature_of_ours() {
    // The SSH signature is the last string in what the key itself makes.
    let made = key().sign("a-namespace", b"message").unwrap();
    let blob = key().public_key().blob().to_vec();
    let signature = made.get(made.len() - 83..).unwrap();
    let mut answer = Vec::new();
    put_string(&mut answer, signature);
    let (_folder, agent, serving) = agent(vec![framed(SIGN_RESPONSE, &answer)]);
    let held = AgentKey { blob, comment: "ana".to_owned(), key: key().public_key().clone() };
    let signed = AgentSigner::new(agent, held).sign("a-namespace", b"message").unwrap();
    assert_eq!(signed, made);
    verify_signature(key().public_key(), "a-namespace", b"message", &signed).unwrap();
    let asked = serving.join().unwrap();
    assert_eq!(asked[0].first(), Some(&SIGN_REQUEST));
    assert_eq!(asked[0].get(asked[0].len() - 4..), Some(&[0; 4][..]), "only RSA needs a flag");
}
