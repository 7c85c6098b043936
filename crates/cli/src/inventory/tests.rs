use super::*;

fn server(name: &str) -> Server {
    Server {
        name: name.to_owned(),
        address: "100.64.0.1:9844".to_owned(),
        identity: Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap(),
        record_key: None,
        recipient: None,
        key: None,
    }
}

fn add(config: &Path, name: &str) -> Result<(), InventoryError> {
    Inventory::change(config, |servers| {
        servers.push(server(name));
        Ok(())
    })
}

#[test]
fn a_broken_inventory_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "format = 1\n[[server]]\nname = 1\n", "format = 1\nservers = []\n", "\u{0}"] {
        std::fs::write(folder.path().join(FILE), text).unwrap();
        assert!(matches!(Inventory::load(folder.path()), Err(InventoryError::Broken { .. })), "{text:?}");
        assert!(add(folder.path(), "web1").is_err(), "{text:?}");
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), text);
    }
}

#[test]
fn a_newer_inventory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "format = 2\nnew = true\n").unwrap();
    assert!(matches!(Inventory::load(folder.path()), Err(InventoryError::Newer { format: 2, .. })));
}

#[test]
fn a_change_that_refuses_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "web1").unwrap();
    let before = std::fs::read(folder.path().join(FILE)).unwrap();
    let refused: Result<(), InventoryError> = Inventory::change(folder.path(), |servers| {
        servers.clear();
        Err(InventoryError::Taken("web1".to_owned()))
    });
    assert!(refused.is_err());
    assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), before);
}

#[test]
fn what_is_written_reads_back_by_name() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "web2").unwrap();
    add(folder.path(), "web1").unwrap();
    let inventory = Inventory::load(folder.path()).unwrap();
    let names: Vec<_> = inventory.servers().iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["web1", "web2"]);
    assert_eq!(inventory.server("web1").unwrap(), &server("web1"));
    assert!(inventory.server("web").unwrap_err().to_string().contains("did you mean \"web1\"?"));
}

#[test]
fn two_programs_that_add_at_once_both_succeed() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let folder = folder.path();
            scope.spawn(move || add(folder, &format!("web{n}")).unwrap());
        }
    });
    assert_eq!(Inventory::load(folder.path()).unwrap().servers().len(), 8);
}

#[test]
fn names_that_could_be_options_or_paths_are_refused() {
    for bad in ["", "-x", "../x", "a/b", "A", "a b", ".", "a.", &"a".repeat(64)] {
        assert!(!is_name(bad), "{bad:?}");
    }
    assert!(is_name("web-1.example.com"));
}

#[test]
fn an_address_without_port_gets_the_management_port() {
    assert_eq!(with_port("100.64.0.1", 9844), "100.64.0.1:9844");
    assert_eq!(with_port("fd7a:115c:a1e0::1", 9844), "[fd7a:115c:a1e0::1]:9844");
    assert_eq!(with_port("web1", 9844), "web1:9844");
    assert_eq!(with_port("127.0.0.1:20000", 9844), "127.0.0.1:20000");
    assert_eq!(with_port("[::1]:20000", 9844), "[::1]:20000");
}
