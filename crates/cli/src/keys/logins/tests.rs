use super::*;
use allod_proto::Role;
use allod_signing::Terms;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_780_000_000_000);

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "a test")
}

fn kept(logins: &Logins, seed: u8, servers: &[u8], minutes: u64) {
    let audiences = servers.iter().map(|&seed| key(seed).fingerprint());
    let span = (NOW, NOW.plus(Duration::from_secs(60 * minutes)));
    let terms = Terms::new(key(seed).public_key().clone(), audiences, Role::Viewer, span).unwrap();
    let delegation = terms.sign(&key(1)).unwrap();
    logins.keep(&key(seed), &key(1).fingerprint(), &delegation, NOW).unwrap();
}

fn held(logins: &Logins, now: Timestamp) -> Vec<Fingerprint> {
    let (held, broken) = logins.load(now).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    let mut keys: Vec<_> = held.iter().map(|login| login.signer().unwrap().fingerprint()).collect();
    keys.sort();
    keys
}

#[test]
fn a_login_that_others_may_read_or_that_is_none_is_named_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let logins = Logins::new(folder.path());
    kept(&logins, 9, &[100], 15);
    let path = logins.path(&key(9).fingerprint());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (held, broken) = logins.load(NOW).unwrap();
    assert!(held.is_empty() && matches!(broken.as_slice(), [KeysError::Exposed { .. }]), "{broken:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "{}").unwrap();
    let (held, broken) = logins.load(NOW).unwrap();
    assert!(held.is_empty() && matches!(broken.as_slice(), [KeysError::Unusable { .. }]), "{broken:?}");
    assert_eq!(logins.end_all().unwrap(), 1);
    assert!(!path.exists());
}

#[test]
fn what_has_ended_is_wiped_and_what_holds_stays() {
    let folder = tempfile::tempdir().unwrap();
    let logins = Logins::new(folder.path());
    kept(&logins, 8, &[100], 15);
    kept(&logins, 9, &[101], 60);
    assert_eq!(held(&logins, NOW).len(), 2);
    let later = NOW.plus(Duration::from_secs(15 * 60));
    assert_eq!(held(&logins, later), [key(9).fingerprint()]);
    assert!(!logins.path(&key(8).fingerprint()).exists());
    assert_eq!(logins.end_all().unwrap(), 1);
    assert_eq!(held(&logins, NOW), []);
    assert_eq!(logins.end_all().unwrap(), 0);
}

#[test]
fn a_new_login_replaces_those_for_the_same_servers_only() {
    let folder = tempfile::tempdir().unwrap();
    let logins = Logins::new(folder.path());
    kept(&logins, 7, &[100, 101], 15);
    kept(&logins, 8, &[100], 15);
    kept(&logins, 9, &[100], 15);
    let mut expected = vec![key(7).fingerprint(), key(9).fingerprint()];
    expected.sort();
    assert_eq!(held(&logins, NOW), expected);
}

#[test]
fn the_file_and_its_folder_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let logins = Logins::new(folder.path());
    kept(&logins, 9, &[100], 15);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&logins.folder), 0o700);
    assert_eq!(mode(&logins.path(&key(9).fingerprint())), 0o600);
}
