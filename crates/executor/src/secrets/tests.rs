use super::*;
use allod_apps::seal::seal;
use proptest::prelude::*;

struct Place {
    _folder: tempfile::TempDir,
    layout: Layout,
    recipient: String,
    app: AppRef,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), folder.path().join("run"));
    layout.create().unwrap();
    let recipient = recipient(&layout).unwrap();
    Place { _folder: folder, layout, recipient, app: "shop/staging".parse().unwrap() }
}

impl Place {
    fn store(&self) -> SecretStore {
        SecretStore::open(&self.layout, &self.app).unwrap()
    }
    fn sealed(&self, name: &str, value: &[u8]) -> SealedSecret {
        let name = SecretName::new(name).unwrap();
        SealedSecret { sealed: seal(&self.recipient, &self.app, &name, value).unwrap(), name }
    }
    /// Sealed by somebody who does not keep to the rules.
    fn raw(&self, name: &str, text: &[u8]) -> SealedSecret {
        let to: Recipient = self.recipient.parse().unwrap();
        let sealed = STANDARD.encode(age::encrypt(&to, text).unwrap());
        SealedSecret { name: SecretName::new(name).unwrap(), sealed }
    }
    fn refusal(&self, secret: SealedSecret) -> String {
        let fault = self.store().set(&[secret], "ann", Timestamp(1)).unwrap_err();
        assert_eq!(fault.code, FaultCode::Invalid, "{fault}");
        assert!(self.store().current_versions().is_empty());
        format!("{fault:?}")
    }
}

fn versions(pairs: &[(&str, u64)]) -> BTreeMap<SecretName, u64> {
    pairs.iter().map(|(name, version)| (SecretName::new(*name).unwrap(), *version)).collect()
}

#[test]
fn a_secret_sealed_for_another_app_or_name_is_refused() {
    let place = place();
    assert!(place.refusal(place.raw("KEY", b"shop/production\nKEY\nx")).contains("another app"));
    assert!(place.refusal(place.raw("KEY", b"shop/staging\nKEYS\nx")).contains("another app"));
    assert!(place.refusal(place.raw("KEY", b"shop/staging\nKEY")).contains("another app"));
    assert!(place.refusal(place.raw("KEY", b"")).contains("another app"));
}

#[test]
fn a_secret_that_can_not_be_opened_here_is_refused() {
    let place = place();
    let stranger = Identity::generate().to_public().to_string();
    let name = SecretName::new("KEY").unwrap();
    let foreign = seal(&stranger, &place.app, &name, b"x").unwrap();
    let refusal = place.refusal(SealedSecret { name: name.clone(), sealed: foreign });
    assert!(refusal.contains("not sealed to this server"), "{refusal}");
    for garbage in
        ["", "!!", "AAAA", &STANDARD.encode(b"age-encryption.org/v1\n-> scrypt AAAA 30\nx\n--- x\n")]
    {
        place.refusal(SealedSecret { name: name.clone(), sealed: garbage.to_owned() });
    }
    let mut torn = place.sealed("KEY", b"value");
    torn.sealed.truncate(torn.sealed.len() / 8 * 4);
    place.refusal(torn);
}

#[test]
fn a_secret_that_is_too_large_or_has_a_nul_byte_is_refused_without_being_shown() {
    let place = place();
    let prefix = b"shop/staging\nKEY\n".to_vec();
    let nul = [prefix.as_slice(), b"canary\0canary"].concat();
    let refusal = place.refusal(place.raw("KEY", &nul));
    assert!(refusal.contains("NUL") && !refusal.contains("canary"), "{refusal}");
    for size in [limits::SECRET + 1, limits::SECRET * 8] {
        let large = [prefix.as_slice(), &vec![b'x'; size]].concat();
        assert!(place.refusal(place.raw("KEY", &large)).contains("more than"));
    }
    let exact = [prefix.as_slice(), &vec![b'x'; limits::SECRET]].concat();
    place.store().set(&[place.raw("KEY", &exact)], "ann", Timestamp(1)).unwrap();
}

#[test]
fn one_bad_secret_means_none_is_set() {
    let place = place();
    let both = [place.sealed("GOOD", b"1"), place.raw("BAD", b"elsewhere\nBAD\nx")];
    assert!(place.store().set(&both, "ann", Timestamp(1)).is_err());
    let twice = [place.sealed("GOOD", b"1"), place.sealed("GOOD", b"2")];
    assert!(place.store().set(&twice, "ann", Timestamp(1)).is_err());
    assert!(place.store().list(&BTreeMap::new()).is_empty());
}

#[test]
fn a_damaged_file_or_identity_is_an_error_and_never_empty() {
    let place = place();
    place.store().set(&[place.sealed("KEY", b"1")], "ann", Timestamp(1)).unwrap();
    std::fs::write(place.layout.secrets(&place.app), "{").unwrap();
    assert!(SecretStore::open(&place.layout, &place.app).is_err());
    std::fs::write(place.layout.recipient_key(), "").unwrap();
    assert!(recipient(&place.layout).is_err());
}

#[test]
fn a_removed_secret_keeps_the_versions_that_releases_use_and_its_numbers_are_never_used_again() {
    let place = place();
    let mut store = place.store();
    for value in [b"1", b"2", b"3"] {
        store.set(&[place.sealed("KEY", value)], "ann", Timestamp(1)).unwrap();
    }
    store.remove(&SecretName::new("KEY").unwrap()).unwrap();
    assert!(store.remove(&SecretName::new("KEY").unwrap()).is_err());
    assert!(store.list(&BTreeMap::new()).is_empty());
    let used = (SecretName::new("KEY").unwrap(), 2);
    assert_eq!(store.prune(&BTreeSet::from([used])).unwrap(), 2);
    let mut store = place.store();
    assert_eq!(
        *store.open_versions(&versions(&[("KEY", 2)])).unwrap().values().next().unwrap().as_slice(),
        *b"2"
    );
    assert_eq!(store.open_versions(&versions(&[("KEY", 3)])).unwrap_err().code, FaultCode::NotFound);
    store.set(&[place.sealed("KEY", b"4")], "bob", Timestamp(9)).unwrap();
    assert_eq!(store.current_versions(), versions(&[("KEY", 4)]));
    let listed = store.list(&versions(&[("KEY", 2)]));
    let entry = listed.first().unwrap();
    assert_eq!((entry.by.as_str(), entry.in_use, entry.set_at), ("bob", Some(2), Timestamp(9)));
}

#[test]
fn an_export_is_sealed_to_the_asker_and_says_whose_secret_it_is() {
    let place = place();
    let mut store = place.store();
    store.set(&[place.sealed("KEY", b"line\n\"quoted\"\xff")], "ann", Timestamp(1)).unwrap();
    assert!(store.export("age1nonsense").is_err());
    let asker = Identity::generate();
    let exported = store.export(&asker.to_public().to_string()).unwrap();
    let text = age::decrypt(&asker, &STANDARD.decode(&exported.first().unwrap().sealed).unwrap()).unwrap();
    assert_eq!(text, b"shop/staging\nKEY\nline\n\"quoted\"\xff");
}

#[test]
fn values_are_on_the_disk_only_sealed_and_for_the_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    place.store().set(&[place.sealed("KEY", b"canary-in-the-mine")], "ann", Timestamp(1)).unwrap();
    let path = place.layout.secrets(&place.app);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("canary"));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let identity = std::fs::metadata(place.layout.recipient_key()).unwrap();
    assert_eq!(identity.permissions().mode() & 0o777, 0o600);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_but_nul_come_back_exactly(value in proptest::collection::vec(1_u8.., 0..2000)) {
        let place = place();
        place.store().set(&[place.sealed("KEY", &value)], "ann", Timestamp(1)).unwrap();
        let opened = place.store().open_versions(&versions(&[("KEY", 1)])).unwrap();
        prop_assert_eq!(opened.values().next().unwrap().as_slice(), value.as_slice());
    }
}
