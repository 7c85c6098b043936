use super::*;
use crate::{KeySigner, Signer as _, fixtures::NOW, fixtures::key, wire::put_string};

/// A certificate as a CA could make it, good or bad.
pub(crate) struct Draft {
    pub(crate) kind: &'static str,
    pub(crate) of: u32,
    pub(crate) key_id: &'static str,
    pub(crate) principals: Vec<&'static str>,
    pub(crate) after: u64,
    pub(crate) before: u64,
    pub(crate) critical: Vec<(&'static str, Vec<u8>)>,
    pub(crate) extensions: Vec<(&'static str, Vec<u8>)>,
    pub(crate) reserved: &'static [u8],
    pub(crate) authority: Option<Vec<u8>>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            kind: "ssh-ed25519-cert-v01@openssh.com",
            of: 1,
            key_id: "ann@laptop",
            principals: vec!["ops"],
            after: 0,
            before: u64::MAX,
            critical: vec![],
            extensions: vec![("permit-pty", vec![])],
            reserved: b"",
            authority: None,
        }
    }
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, value.as_bytes());
    out
}

fn options(list: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        put_string(&mut out, name.as_bytes());
        put_string(&mut out, value);
    }
    out
}

impl Draft {
    /// With serial 17, for the ed25519 key of `holder`, signed by `ca`.
    pub(crate) fn signed(&self, holder: &KeySigner, ca: &KeySigner) -> Vec<u8> {
        let mut out = text(self.kind);
        put_string(&mut out, &[9; 32]);
        put_string(&mut out, &holder.public_key().blob()[19..]);
        out.extend_from_slice(&17_u64.to_be_bytes());
        out.extend_from_slice(&self.of.to_be_bytes());
        put_string(&mut out, self.key_id.as_bytes());
        put_string(&mut out, &self.principals.iter().flat_map(|name| text(name)).collect::<Vec<_>>());
        out.extend_from_slice(&self.after.to_be_bytes());
        out.extend_from_slice(&self.before.to_be_bytes());
        put_string(&mut out, &options(&self.critical));
        put_string(&mut out, &options(&self.extensions));
        put_string(&mut out, self.reserved);
        put_string(&mut out, self.authority.as_deref().unwrap_or(ca.public_key().blob()));
        let signature = ca.sign_raw(&out).unwrap();
        put_string(&mut out, &signature);
        out
    }

    fn read(&self) -> Result<Certificate, Refusal> {
        Certificate::from_blob(&self.signed(&key(1), &key(2)))
    }
}

#[test]
fn a_certificate_of_another_kind_is_refused() {
    for kind in
        ["ssh-dss-cert-v01@openssh.com", "ssh-ed25519-cert-v00@openssh.com", "-cert-v01@openssh.com", ""]
    {
        let read = Draft { kind, ..Draft::default() }.read();
        assert!(matches!(read, Err(Refusal::Certificate(_))), "{kind}: {read:?}");
    }
    let host = Draft { of: 2, ..Draft::default() }.read();
    assert_eq!(host.unwrap_err(), Refusal::Certificate("it is not a user's"));
}

#[test]
fn a_certificate_signed_by_a_certificate_is_refused() {
    let inner = Draft::default().signed(&key(2), &key(3));
    let nested = Draft { authority: Some(inner), ..Draft::default() }.read();
    assert_eq!(nested.unwrap_err(), Refusal::Algorithm);
}

#[test]
fn every_critical_option_but_source_address_is_refused() {
    for name in ["force-command", "verify-required", "no-such-option", ""] {
        let read = Draft { critical: vec![(name, text("x"))], ..Draft::default() }.read();
        assert_eq!(read.unwrap_err(), Refusal::Certificate("it has a critical option that is not accepted"));
    }
    let unclear =
        Draft { critical: vec![("source-address", text("host.example"))], ..Draft::default() }.read();
    assert_eq!(unclear.unwrap_err(), Refusal::Certificate("its source-address is not understood"));
    let sources = text("10.0.0.0/8,fd7a::/16");
    let read = Draft { critical: vec![("source-address", sources)], ..Draft::default() }.read().unwrap();
    assert_eq!(read.check_source(Some([10, 1, 2, 3].into())), Ok(()));
    assert_eq!(read.check_source(Some([11, 1, 2, 3].into())), Err(Refusal::Source));
    assert_eq!(read.check_source(None), Err(Refusal::Source));
}

#[test]
fn options_twice_or_out_of_order_are_refused() {
    let sources = || ("source-address", text("10.0.0.0/8"));
    let twice = Draft { critical: vec![sources(), sources()], ..Draft::default() }.read();
    assert_eq!(twice.unwrap_err(), Refusal::Malformed("the certificate's options are out of order"));
    let extensions = vec![("permit-pty", vec![]), ("permit-agent-forwarding", vec![])];
    assert!(Draft { extensions, ..Draft::default() }.read().is_err());
}

#[test]
fn what_cannot_stand_in_a_log_is_refused() {
    for key_id in ["ann\nrole=owner", "ann\u{1b}[2J", "\u{202e}nna"] {
        let read = Draft { key_id, ..Draft::default() }.read();
        assert_eq!(read.unwrap_err(), Refusal::Certificate("its key id can't stand in a log"));
    }
}

#[test]
fn a_certificate_in_use_of_its_reserved_field_or_with_a_tail_is_refused() {
    assert!(Draft { reserved: b"x", ..Draft::default() }.read().is_err());
    let mut blob = Draft::default().signed(&key(1), &key(2));
    blob.push(0);
    assert!(Certificate::from_blob(&blob).is_err());
}

#[test]
fn no_changed_byte_and_no_cut_leaves_a_certificate_that_its_ca_signed() {
    let blob = Draft::default().signed(&key(1), &key(2));
    for index in 0..blob.len() {
        for bit in [0x01, 0x80] {
            let mut changed = blob.clone();
            changed[index] ^= bit;
            let held = Certificate::from_blob(&changed)
                .is_ok_and(|read| read.authority() == key(2).public_key() && read.check_signature().is_ok());
            assert!(!held, "byte {index}");
        }
        assert!(Certificate::from_blob(&blob[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn a_certificate_holds_from_its_first_second_until_its_last() {
    let second = NOW.0 / 1000;
    let check = |after, before| Draft { after, before, ..Draft::default() }.read().unwrap().check_time(NOW);
    assert_eq!(check(second + 1, u64::MAX), Err(Refusal::Certificate("it is not valid yet")));
    assert_eq!(check(0, second), Err(Refusal::Expired));
    assert_eq!(check(second, second + 1), Ok(()));
    assert_eq!(check(0, u64::MAX), Ok(()));
}

#[test]
fn a_good_certificate_says_what_its_ca_said() {
    let read =
        Draft { principals: vec!["ops", "dev"], before: 2_000_000_000, ..Draft::default() }.read().unwrap();
    assert_eq!(read.check_signature(), Ok(()));
    assert_eq!(read.key(), key(1).public_key());
    assert_eq!(read.authority(), key(2).public_key());
    assert_eq!((read.serial(), read.key_id()), (17, "ann@laptop"));
    assert_eq!(read.principals(), ["ops", "dev"]);
    assert_eq!(read.expires(), Some(Timestamp(2_000_000_000_000)));
    assert_eq!(Draft::default().read().unwrap().expires(), None);
}
