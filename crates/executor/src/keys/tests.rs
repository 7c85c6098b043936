use super::*;
use allod_signing::{KeySigner, Signer};

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], &format!("person-{seed}"))
}

fn line(role: &str, seed: u8) -> String {
    format!("role={role} {}", key(seed).public_openssh())
}

fn store() -> (tempfile::TempDir, KeyStore) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
    layout.create().unwrap();
    let mut store = KeyStore::load(layout).unwrap();
    assert!(store.enroll_first(&line("owner", 1)).unwrap());
    (folder, store)
}

const NOW: Timestamp = Timestamp(1_700_000_000_000);

#[test]
fn a_second_first_owner_is_not_enrolled() {
    let (_folder, mut store) = store();
    assert!(!store.enroll_first(&line("owner", 2)).unwrap());
    assert_eq!(store.list().keys.len(), 1);
}

#[test]
fn a_line_without_a_role_authorises_nobody() {
    let (_folder, mut store) = store();
    assert_eq!(store.add(&key(2).public_openssh(), NOW).unwrap_err().code, FaultCode::Invalid);
    assert_eq!(store.list().keys.len(), 1);
}

#[test]
fn the_last_owner_can_neither_be_revoked_nor_demoted_nor_expire() {
    let (_folder, mut store) = store();
    let owner = key(1).fingerprint();
    assert_eq!(store.revoke(&owner, NOW).unwrap_err().code, FaultCode::Conflict);
    assert_eq!(store.add(&line("viewer", 1), NOW).unwrap_err().code, FaultCode::Conflict);
    let expired = format!("role=owner,expiry-time=\"20200101\" {}", key(1).public_openssh());
    assert_eq!(store.add(&expired, NOW).unwrap_err().code, FaultCode::Conflict);
    assert_eq!(store.list().keys.first().unwrap().role, Role::Owner);
}

#[test]
fn adding_one_key_never_removes_another() {
    let (_folder, mut store) = store();
    for seed in 2..6 {
        store.add(&line("deployer", seed), NOW).unwrap();
    }
    assert_eq!(store.list().keys.len(), 5);
}

#[test]
fn a_revoked_key_stays_out_even_when_it_is_added_again() {
    let (_folder, mut store) = store();
    store.add(&line("owner", 2), NOW).unwrap();
    store.revoke(&key(2).fingerprint(), NOW).unwrap();
    assert!(store.revoked().has(&key(2).fingerprint()));
    assert_eq!(store.add(&line("owner", 2), NOW).unwrap_err().code, FaultCode::Conflict);
    let again = KeyStore::load(store.layout.clone()).unwrap();
    assert!(again.enrolled().find(&key(2).fingerprint()).is_none());
    assert!(again.revoked().has(&key(2).fingerprint()));
}

#[test]
fn rotation_keeps_role_and_name_and_revokes_the_old_key() {
    let (_folder, mut store) = store();
    store.rotate(&key(1).fingerprint(), &key(3).public_openssh()).unwrap();
    let entry = store.enrolled().find(&key(3).fingerprint()).unwrap();
    assert_eq!((entry.grant().role, entry.name()), (Role::Owner, "person-1"));
    assert!(store.revoked().has(&key(1).fingerprint()));
    assert_eq!(
        store.rotate(&key(3).fingerprint(), &key(1).public_openssh()).unwrap_err().code,
        FaultCode::Conflict
    );
}

#[test]
fn a_line_somebody_edited_by_hand_survives_a_change() {
    let (_folder, mut store) = store();
    let path = store.layout.enrolled();
    let edited = format!(
        "# our keys\n{}role=king {}\n",
        std::fs::read_to_string(&path).unwrap(),
        key(9).public_openssh()
    );
    std::fs::write(&path, edited).unwrap();
    store.refresh();
    store.add(&line("viewer", 2), NOW).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("# our keys") && text.contains("role=king"));
    assert_eq!(store.list().complaints.len(), 1);
}

#[test]
fn an_authority_is_revoked_by_its_fingerprint_and_stays_out() {
    let (_folder, mut store) = store();
    let line = format!("cert-authority,principals=\"ops\",role=viewer {}", key(7).public_openssh());
    store.add(&line, NOW).unwrap();
    assert_eq!(store.enrolled().authorities(&key(7).fingerprint()).count(), 1);
    store.revoke(&key(7).fingerprint(), NOW).unwrap();
    assert_eq!(store.enrolled().authorities(&key(7).fingerprint()).count(), 0);
    assert!(store.revoked().has(&key(7).fingerprint()));
    assert_eq!(store.add(&line, NOW).unwrap_err().code, FaultCode::Conflict);
}
