use super::*;
use zeroize::Zeroizing;

fn public(seed: u8) -> PublicKey {
    KeySigner::generate([seed; 32], "a test").public_key().clone()
}

fn file(seed: u8, encrypted: bool) -> FileKey {
    let content = Content::Private { text: Zeroizing::new(String::new()), encrypted, certificate: None };
    FileKey { path: PathBuf::from(format!("/keys/{seed}")), key: public(seed), content }
}

fn held(seed: u8) -> (Agent, AgentKey) {
    let key = public(seed);
    let held = AgentKey { blob: key.blob().to_vec(), comment: seed.to_string(), key };
    (Agent::new(Path::new("/agent")), held)
}

fn places(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(Candidate::place).collect()
}

#[test]
fn a_key_that_would_prompt_comes_last() {
    let ordered = order(vec![file(1, true), file(2, false)], false, vec![held(3)], false, None);
    assert_eq!(places(&ordered), ["ssh-agent, 3", "/keys/2", "/keys/1"]);
}

#[test]
fn an_agents_key_stands_in_for_its_locked_file() {
    let ordered = order(vec![file(1, true)], true, vec![held(1)], false, None);
    assert_eq!(places(&ordered), ["ssh-agent, 1"]);
}

#[test]
fn the_remembered_key_comes_first() {
    let ordered = order(
        vec![file(1, false), file(2, false)],
        false,
        vec![held(3)],
        false,
        Some(public(2).fingerprint()),
    );
    assert_eq!(places(&ordered), ["/keys/2", "ssh-agent, 3", "/keys/1"]);
}

#[test]
fn with_identities_only_the_agents_other_keys_are_not_offered() {
    let ordered = order(vec![file(1, true)], true, vec![held(1), held(2)], true, None);
    assert_eq!(places(&ordered), ["ssh-agent, 1"]);
}

#[test]
fn a_public_half_without_its_agent_is_no_candidate() {
    let lone = FileKey { content: Content::Public, ..file(1, false) };
    assert!(order(vec![lone], true, Vec::new(), false, None).is_empty());
}
