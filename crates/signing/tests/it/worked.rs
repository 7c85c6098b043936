//! The worked bytes of docs/protocol.md: what this crate makes of the example keys is what stands there, byte for byte, and
//! what stands there is accepted here. `tests/peers/protocol-examples.sh` does the same with `ssh-keygen`.

use allod_proto::{Digest, Fingerprint, Nonce, Role, Timestamp, messages::server::Succession};
use allod_signing::{
    DelegatedSigner, Delegation, EnrolledKeys, KeySigner, Refusal, RequestFields, RequestHead, Revoked,
    Route, Signer as _, Terms, Trust, Verified, follow, sign_request, sign_succession, sshsig, verify,
};

const PAGE: &str = include_str!("../../../../docs/protocol.md");
const AT: Timestamp = Timestamp(1_767_225_600_000);

/// The content of the `number`th fenced block of this name, with its last newline.
fn block(name: &str, number: usize) -> String {
    let fence = format!("```{name}\n");
    let mut blocks = PAGE.split("\n```").enumerate();
    // Every second fence opens a block.
    let named = blocks.by_ref().filter_map(|(index, text)| {
        let text = format!("```{text}\n");
        (index % 2 == 1).then(|| text.strip_prefix(&fence).map(str::to_owned)).flatten()
    });
    named.into_iter().nth(number - 1).unwrap_or_else(|| panic!("no {name} {number} in the page"))
}

fn line(name: &str, number: usize) -> String {
    block(name, number).trim_end().to_owned()
}

/// The two keys of the page.
fn keys() -> (KeySigner, KeySigner) {
    (KeySigner::generate([7; 32], ""), KeySigner::generate([9; 32], ""))
}

fn delegation() -> Delegation {
    let (parent, fresh) = keys();
    let until = Timestamp(AT.0 + 15 * 60 * 1000);
    let terms =
        Terms::new(fresh.public_key().clone(), [parent.fingerprint()], Role::Viewer, (AT, until)).unwrap();
    terms.sign(&parent).unwrap()
}

fn request(signer: &dyn allod_signing::Signer, nonce: &str, body: &str) -> (String, RequestHead) {
    let (audience, nonce) = (keys().0.fingerprint(), Nonce::new(nonce).unwrap());
    let fields = RequestFields {
        audience: &audience,
        epoch: &"00112233445566778899aabbccddeeff".parse().unwrap(),
        route: Route::new("POST", "/rpc").unwrap(),
        timestamp: AT,
        nonce: &nonce,
        body: &Digest::of(body),
    };
    let head = sign_request(signer, &fields).unwrap();
    (String::from_utf8(fields.bytes_under(head.delegation.as_ref())).unwrap(), head)
}

fn verified(head: &RequestHead, now: Timestamp) -> Result<Verified, Refusal> {
    let owner = keys().0;
    let enrolled = EnrolledKeys::parse(&format!("role=owner {} ana", owner.public_key().to_openssh()));
    let (audience, revoked) = (owner.fingerprint(), Revoked::default());
    let trust = Trust { audience: &audience, enrolled: &enrolled, revoked: &revoked };
    verify(head, Route::new("POST", "/rpc").unwrap(), trust, None, now)
}

#[test]
fn the_worked_keys_are_what_is_said_of_them() {
    let (first, second) = keys();
    for (key, private, public) in
        [(first, "private-key", "public-key"), (second, "fresh-private-key", "fresh-public-key")]
    {
        assert_eq!(line(public, 1), key.public_key().to_openssh());
        let read = KeySigner::from_openssh(&block(private, 1), None).unwrap();
        assert_eq!(read.fingerprint(), key.fingerprint());
    }
}

#[test]
fn the_worked_request_comes_out_byte_for_byte() {
    let body = r#"{"v":1,"id":"0123456789abcdef","command":"server.status","params":{}}"#;
    assert!(PAGE.contains(body));
    let (signed, head) = request(&keys().0, "AAECAwQFBgcICQoLDA0ODw", body);
    assert_eq!(signed, block("allod-management-v1", 1));
    assert_eq!(sshsig::to_base64(&head.signature), line("signature", 1));
}

#[test]
fn the_worked_delegation_and_the_request_under_it_come_out_byte_for_byte() {
    let delegation = delegation();
    assert_eq!(String::from_utf8(delegation.terms().bytes()).unwrap(), block("allod-delegation-v1", 1));
    assert_eq!(sshsig::to_base64(delegation.signature()), line("signature", 6));
    assert_eq!(delegation.to_header(), line("delegation", 1));
    let body = r#"{"v":2,"id":"0123456789abcdef","command":"server.status","params":{}}"#;
    assert!(PAGE.contains(body));
    let fresh = DelegatedSigner::new(keys().1, delegation).unwrap();
    let (signed, head) = request(&fresh, "EBESExQVFhcYGRobHB0eHw", body);
    assert_eq!(signed, block("allod-management-v1", 2));
    assert_eq!(sshsig::to_base64(&head.signature), line("signature", 7));
    assert_eq!(head.fingerprint, keys().1.fingerprint());
}

#[test]
fn the_worked_delegation_is_accepted_in_its_time_and_no_changed_byte_of_it_is() {
    let value = line("delegation", 1);
    let (_, head) =
        request(&DelegatedSigner::new(keys().1, delegation()).unwrap(), "EBESExQVFhcYGRobHB0eHw", "");
    let with = |value: &str| {
        let delegation = Delegation::parse(value).ok()?;
        verified(&RequestHead { delegation: Some(delegation), ..head.clone() }, AT).ok()
    };
    for (at, byte) in value.bytes().enumerate() {
        let other = if byte == b'A' { 'B' } else { 'A' };
        let mut changed = value.clone();
        changed.replace_range(at..=at, &other.to_string());
        assert!(with(&changed).is_none(), "byte {at}");
    }
    let verified_in_time = with(&value).unwrap();
    assert_eq!(verified_in_time.grant().role, Role::Viewer);
    assert_eq!(*verified_in_time.fingerprint(), keys().0.fingerprint());
    let ended = Timestamp(AT.0 + 15 * 60 * 1000);
    assert!(verified(&head, ended).is_err());
}

#[test]
fn the_worked_succession_comes_out_byte_for_byte_and_leads_where_it_says() {
    let (old, new) = keys();
    let link = sign_succession(&old, &new.fingerprint(), AT).unwrap();
    let text = format!("allod-succession-v1\n{}\n{}\n{AT}\n", link.old, link.new);
    assert_eq!(text, block("allod-succession-v1", 1));
    assert_eq!(link.signature, line("signature", 8));
    let shown: Succession = serde_json::from_str(&line("succession", 1)).unwrap();
    assert_eq!(shown, link);
    assert_eq!(serde_json::to_string(&link).unwrap(), line("succession", 1));
    let leads = |link: &Succession, pinned: &Fingerprint, now: &Fingerprint| {
        follow(std::slice::from_ref(link), pinned, now).is_ok()
    };
    assert!(!leads(&shown, &new.fingerprint(), &old.fingerprint()));
    assert!(!leads(
        &Succession { at: Timestamp(AT.0 + 1), ..shown.clone() },
        &old.fingerprint(),
        &new.fingerprint()
    ));
    assert!(leads(&shown, &old.fingerprint(), &new.fingerprint()));
}
