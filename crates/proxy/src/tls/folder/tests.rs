//! Which certificates are in use after a reading of the folder.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/it/certificates/", $name))
    };
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, stem: &str, chain: &[u8], key: &[u8]) {
        std::fs::write(self.0.path().join(format!("{stem}.pem")), chain).unwrap();
        std::fs::write(self.0.path().join(format!("{stem}.key")), key).unwrap();
        self.mode(stem, 0o600);
    }

    fn mode(&self, stem: &str, mode: u32) {
        let key = self.0.path().join(format!("{stem}.key"));
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> (Certificates, Read) {
        let certificates = Certificates::load(self.0.path()).unwrap();
        let read = certificates.reload().unwrap();
        (certificates, read)
    }
}

fn first_of(key: &CertifiedKey) -> &[u8] {
    key.cert.first().unwrap()
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

#[test]
fn a_key_that_others_may_read_is_refused_and_named() {
    let folder = Folder::new();
    folder.put("a", fixture!("a.pem"), fixture!("a.key"));
    for mode in [0o604, 0o640, 0o644, 0o602, 0o777] {
        folder.mode("a", mode);
        // Root's own keys may be shown to its group.
        if mode == 0o640 && rustix::process::geteuid().is_root() {
            continue;
        }
        let (certificates, read) = folder.load();
        assert!(certificates.find("a.example").is_none(), "{mode:o}");
        assert!(read.complaints[0].contains("a.key may be read or written by others"), "{read:?}");
    }
}

#[test]
fn what_is_no_pair_is_named_and_hurts_no_other() {
    let folder = Folder::new();
    folder.put("a", fixture!("a.pem"), fixture!("a.key"));
    folder.put("crossed", fixture!("b.pem"), fixture!("a.key"));
    folder.put("empty", b"", fixture!("b.key"));
    folder.put(
        "nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        fixture!("b.key"),
    );
    folder.put("torn", &fixture!("b.pem")[..200], fixture!("b.key"));
    folder.put("keyless", fixture!("b.pem"), b"no key");
    std::fs::write(folder.0.path().join("alone.pem"), fixture!("b.pem")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.0.path().join("pipe.pem"), Mode::from_raw_mode(0o600))
        .unwrap();
    std::fs::create_dir(folder.0.path().join("folder.pem")).unwrap();
    let (certificates, read) = folder.load();
    assert_eq!(read.names, ["a.example"]);
    for stem in ["crossed", "empty", "nonsense", "torn", "keyless", "alone", "pipe", "folder"] {
        assert!(read.complaints.iter().any(|complaint| complaint.contains(stem)), "{stem}: {read:?}");
    }
    assert_eq!(read.complaints.len(), 8, "{read:?}");
    assert!(certificates.find("a.example").is_some() && certificates.find("b.example").is_none());
}

#[test]
fn a_host_is_found_by_its_own_name_before_a_wildcard_of_one_level() {
    let folder = Folder::new();
    folder.put("b", fixture!("b.pem"), fixture!("b.key"));
    folder.put("wildcard", fixture!("wildcard.pem"), fixture!("wildcard.key"));
    let (certificates, _) = folder.load();
    let found = |host: &str| certificates.find(host).map(|key| first_of(&key).to_vec());
    assert_eq!(found("B.Shop.Example").as_deref(), Some(&der(fixture!("b.pem"))[..]));
    assert_eq!(found("c.shop.example").as_deref(), Some(&der(fixture!("wildcard.pem"))[..]));
    for nobody in [
        "",
        "shop.example",
        ".shop.example",
        "*.shop.example",
        "x.c.shop.example",
        "c.shop.example.",
        "a.example",
    ] {
        assert!(found(nobody).is_none(), "{nobody:?}");
    }
}

#[test]
fn a_name_in_two_files_is_served_with_the_first_and_the_second_is_named() {
    let folder = Folder::new();
    folder.put("1", fixture!("a.pem"), fixture!("a.key"));
    folder.put("2", fixture!("a-renewed.pem"), fixture!("a-renewed.key"));
    let (certificates, read) = folder.load();
    assert_eq!(first_of(&certificates.find("a.example").unwrap()), &der(fixture!("a.pem"))[..]);
    assert_eq!(read.complaints, ["2.pem: a.example is served with 1.pem already"]);
}

#[test]
fn a_renewal_is_followed_a_broken_one_is_not_and_a_removed_pair_goes() {
    let folder = Folder::new();
    folder.put("a", fixture!("a.pem"), fixture!("a.key"));
    let (certificates, _) = folder.load();
    std::fs::write(folder.0.path().join("a.pem"), fixture!("a-renewed.pem")).unwrap();
    let read = certificates.reload().unwrap();
    assert_eq!(read.complaints.len(), 1, "its key is still the old one");
    assert_eq!(first_of(&certificates.find("a.example").unwrap()), &der(fixture!("a.pem"))[..]);
    folder.put("a", fixture!("a-renewed.pem"), fixture!("a-renewed.key"));
    assert_eq!(certificates.reload().unwrap().complaints, [""; 0]);
    assert_eq!(first_of(&certificates.find("a.example").unwrap()), &der(fixture!("a-renewed.pem"))[..]);
    std::fs::remove_file(folder.0.path().join("a.pem")).unwrap();
    certificates.reload().unwrap();
    assert!(certificates.find("a.example").is_none());
}
