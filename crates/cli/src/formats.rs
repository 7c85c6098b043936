//! Every file of a client as it was written under each format number (`tests/fixtures`).

use crate::{
    inventory::{Inventory, InventoryError},
    keys::Logins,
    known::KnownServers,
    mesh::MeshPlace,
};
use allod_proto::{Fingerprint, Timestamp};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The fixture, and the same of a newer program.
fn both(name: &str) -> (String, String) {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    let newer = text.replacen("\"format\": 1", "\"format\": 2, \"new\": true", 1).replacen(
        "format = 1",
        "format = 2\nnew = true",
        1,
    );
    assert_ne!(text, newer);
    (text, newer)
}

#[test]
fn an_inventory_is_read_as_it_was_written_and_a_newer_one_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let (text, newer) = both("inventory.format-1.toml");
    std::fs::write(&file, &newer).unwrap();
    let refused = Inventory::load(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("use a version that reads 2"), "{refused}");
    assert!(Inventory::change(folder.path(), |_| Ok::<(), InventoryError>(())).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
    std::fs::write(&file, &text).unwrap();
    let inventory = Inventory::load(folder.path()).unwrap();
    assert_eq!(inventory.servers()[0].recipient.as_deref(), Some("age1example"));
    // What it is written as now is what it was.
    Inventory::change(folder.path(), |_| Ok::<(), InventoryError>(())).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn what_is_known_of_a_server_is_read_as_it_was_written_and_a_newer_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap();
    let file = folder.path().join("servers").join(format!("{}.json", "a".repeat(43)));
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let (text, newer) = both("known.format-1.json");
    std::fs::write(&file, newer).unwrap();
    let refused = KnownServers::new(folder.path()).load(&identity).unwrap_err().to_string();
    assert!(refused.contains("use a version that reads 2"), "{refused}");
    std::fs::write(&file, &text).unwrap();
    let known = KnownServers::new(folder.path()).load(&identity).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(serde_json::to_value(known).unwrap(), json(&text));
}

#[test]
fn a_login_is_read_as_it_was_written_and_a_newer_one_is_named_with_the_version_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logins/login.json");
    let logins = Logins::new(folder.path());
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let put = |text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (text, newer) = both("logins.format-1.json");
    let now = Timestamp(1_780_000_000_000);
    put(&newer);
    let (held, broken) = logins.load(now).unwrap();
    assert!(held.is_empty() && broken.len() == 1);
    assert!(broken[0].to_string().contains("use a version that reads 2"), "{}", broken[0]);
    put(&text);
    let (held, broken) = logins.load(now).unwrap();
    assert!(held.len() == 1 && broken.is_empty(), "{broken:?}");
    held[0].signer().unwrap();
}

#[test]
fn a_place_on_the_mesh_is_read_as_it_was_written_and_a_newer_one_is_refused() {
    allod_store::fixtures::check::<MeshPlace>(&fixture("")).unwrap();
}
