use super::*;
use allod_meshproto::{
    control::{MapResponse, Node, NodeId},
    netmap::{NetMap, Outcome, Place},
    token::{RootKey, RootPrivate},
};
use allod_proto::Timestamp;
use ring::rand::SystemRandom;

fn key(byte: u8) -> MachineKey {
    MachineKey::new([byte; 32])
}

fn root() -> RootKey {
    RootPrivate::import(&[1; 32]).unwrap().public()
}

fn map(name: &str, heard_at: u64) -> StoredMap {
    let me = Node { id: NodeId(1), key: allod_meshproto::NodeKey::new([1; 32]), ..Node::default() };
    let response =
        MapResponse { node: Some(Box::new(me)), domain: name.to_owned(), ..MapResponse::default() };
    match NetMap::merge(None, &response, Place::First, Timestamp(heard_at)) {
        Ok(Outcome::Map(map)) => StoredMap { map: *map, heard_at: Timestamp(heard_at) },
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_do_not_have_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let first = Folder::open(folder.path()).unwrap();
    assert!(matches!(Folder::open(folder.path()), Err(MemberError::Store(_))));
    drop(first);
    Folder::open(folder.path()).unwrap();
}

#[test]
fn a_place_on_one_network_is_none_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    folder.keep_vouched(Vouched { key: key(1), serial: 0 }).unwrap();
    let refused = folder.recall(&mut Trust::Pinned(key(2))).unwrap_err();
    assert!(matches!(refused, MemberError::OtherNetwork { .. }), "{refused}");
    folder.recall(&mut Trust::Pinned(key(1))).unwrap();
}

#[test]
fn a_map_that_can_not_be_read_is_an_error_that_names_its_file_and_never_an_empty_map() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    assert_eq!(folder.map().unwrap(), None);
    for text in ["", "{}", "{\"format\":2}", "{\"format\":1}"] {
        std::fs::write(folder.path.join(MAP), text).unwrap();
        let refused = folder.map().unwrap_err();
        assert!(refused.to_string().ends_with(MAP), "{text}: {refused}");
    }
}

#[test]
fn what_was_vouched_for_once_is_what_is_trusted_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    folder.keep_vouched(Vouched { key: key(9), serial: 4 }).unwrap();
    for (trust, expected) in [
        (Trust::FirstUse, Trust::Pinned(key(9))),
        (Trust::Certificate, Trust::Pinned(key(9))),
        (Trust::Root { root: root(), seen: 0 }, Trust::Root { root: root(), seen: 4 }),
        (Trust::Root { root: root(), seen: 7 }, Trust::Root { root: root(), seen: 7 }),
    ] {
        let mut trust = trust;
        folder.recall(&mut trust).unwrap();
        assert_eq!(trust, expected);
    }
}

#[test]
fn a_sign_of_life_is_written_down_hourly_and_a_change_at_once() {
    let kept = map("a", 0);
    let hour = u64::try_from(AGE.as_millis()).unwrap();
    assert!(is_news(None, &kept));
    assert!(!is_news(Some(&kept), &map("a", hour - 1)));
    assert!(is_news(Some(&kept), &map("a", hour)));
    assert!(is_news(Some(&kept), &map("b", 1)));
}

#[test]
fn files_of_format_1_are_read_and_written_as_they_were() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mesh-coordinator.format-1.json");
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    folder.keep_vouched(Vouched { key: key(9), serial: 4 }).unwrap();
    let parsed =
        |path: &Path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(parsed(&folder.path.join(COORDINATOR)), parsed(&fixture));
    folder.keep_map(&map("a", 5)).unwrap();
    assert_eq!(folder.map().unwrap(), Some(map("a", 5)));
    let made = folder.identity(&SystemRandom::new()).unwrap();
    assert_eq!(folder.identity(&SystemRandom::new()).unwrap().node.public(), made.node.public());
}
