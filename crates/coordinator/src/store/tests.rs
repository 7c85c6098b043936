use super::*;
use crate::{
    keys::Keys,
    policy::Policy,
    state::{Asked, JoinKeySpec, Refusal, Registered},
};
use allod_meshproto::{
    MachineKey, NodeKey,
    control::{NodeId, RegisterAuth, RegisterRequest},
};
use allod_proto::Timestamp;
use ring::rand::SystemRandom;
use rusqlite::Connection;
use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn draft(folder: &Path) -> (Database, Draft) {
    let mut database = Database::open(folder).unwrap();
    let (state, keys) = database.load().unwrap();
    let keys = keys.unwrap_or_else(|| {
        let keys = Keys::generate(&SystemRandom::new(), Timestamp(1)).unwrap().0;
        database.write(&[], Some(&keys)).unwrap();
        keys
    });
    (database, Draft { state, keys: Arc::new(keys) })
}

fn start(folder: &Path) -> Store {
    let (database, draft) = draft(folder);
    Store::start(database, draft, |_, _| {}).unwrap().0
}

fn join(number: u8) -> impl FnOnce(&mut Draft) -> Result<NodeId, Refusal> + Send + 'static {
    move |draft| {
        let (_, text) = draft.state.create_join_key(JoinKeySpec::default(), NOW, &SystemRandom::new())?;
        let request = RegisterRequest {
            node_key: NodeKey::new([number; 32]),
            auth: Some(RegisterAuth { auth_key: text.as_str().to_owned() }),
            ..RegisterRequest::default()
        };
        let asked = Asked {
            machine: MachineKey::new([number; 32]),
            source: Ipv4Addr::LOCALHOST.into(),
            request: &request,
            fresh_id: String::new(),
        };
        match draft.state.register(&asked, NOW)? {
            Registered::In(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_of_a_newer_program_or_of_another_one_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.sqlite");
    drop(Database::open(folder.path()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", FORMAT + 1).unwrap();
    assert!(
        matches!(Database::open(folder.path()), Err(StoreFault::Newer { found, .. }) if found == FORMAT + 1)
    );
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("coordinator.sqlite");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=7; CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(Database::open(other.path()), Err(StoreFault::Damaged { .. })));
    std::fs::write(
        &path,
        "no database at all, but long enough to be taken for one by its length alone".repeat(20),
    )
    .unwrap();
    assert!(Database::open(other.path()).is_err());
}

#[test]
fn a_second_coordinator_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, draft) = draft(folder.path());
    first.write(&[], Some(&draft.keys)).unwrap();
    assert!(Database::open(folder.path()).and_then(|second| second.load()).is_err());
}

#[test]
fn a_record_that_is_damaged_is_told_and_not_left_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(draft(folder.path()));
    let path = folder.path().join("coordinator.sqlite");
    let sql = "INSERT INTO join_keys VALUES ('x', '{\"id\":1}')";
    Connection::open(path).unwrap().execute(sql, []).unwrap();
    assert!(matches!(Database::open(folder.path()).unwrap().load(), Err(StoreFault::Damaged { .. })));
}

#[tokio::test]
async fn a_change_that_is_refused_changes_nothing_and_the_others_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    store.change(join(1)).await.unwrap().unwrap();
    let refused = store.change(|draft| {
        draft.state.delete(NodeId(1))?;
        draft.state.rename(NodeId(1), "web").map(drop)
    });
    assert_eq!(refused.await.unwrap(), Err(Refusal::NoNode));
    let count = store.change(|draft| Ok::<_, Refusal>(draft.state.nodes().len())).await.unwrap();
    assert_eq!(count, Ok(1));
}

#[tokio::test]
async fn what_cant_be_stored_did_not_happen_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (database, draft) = draft(folder.path());
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let publish = move |draft: &Draft, is_well: bool| {
        heard.lock().unwrap().push((draft.state.nodes().len(), is_well));
    };
    let (store, _) = Store::start(database, draft, publish).unwrap();
    store.change(join(1)).await.unwrap().unwrap();
    // The tables' own rule is broken by hand: a second node with the machine of the first, behind the state's back.
    let broken = store.change(|draft| {
        let id = join(2)(draft)?;
        let mut twin = draft.state.nodes()[&id].as_ref().clone();
        twin.id = NodeId(99);
        draft.state =
            crate::state::State::stored(vec![twin], Vec::new(), Policy::default(), draft.state.counters());
        draft.state.rename(NodeId(99), "twin")?;
        draft.state.delete(NodeId(99))?;
        join(1)(draft).map(drop)
    });
    assert!(matches!(broken.await, Err(StoreFault::NotStored(_))));
    let names = store.change(|draft| {
        Ok::<_, Refusal>(draft.state.nodes().values().map(|node| node.id.0).collect::<Vec<_>>())
    });
    assert_eq!(names.await.unwrap(), Ok(vec![1]));
    assert_eq!(told.lock().unwrap().get(..2), Some(&[(1, true), (1, false)][..]));
}

#[tokio::test]
async fn all_that_was_acknowledged_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let policy = r#"{"allow":[{"from":["*"],"to":["*"],"ports":["22"]}]}"#;
    {
        let (database, draft) = draft(folder.path());
        let (store, thread) = Store::start(database, draft, |_, _| {}).unwrap();
        let all = (1..=20).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.change(join(number)).await.unwrap().unwrap() })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        store.change(|draft| draft.state.delete(NodeId(7))).await.unwrap().unwrap();
        store.change(|draft| draft.state.set_policy(Policy::parse(policy)?)).await.unwrap().unwrap();
        drop(store);
        thread.join().unwrap();
    }
    let (_, again) = draft(folder.path());
    assert_eq!(again.state.nodes().len(), 19);
    assert!(!again.state.nodes().contains_key(&NodeId(7)));
    assert_eq!(again.state.policy().as_ref(), &Policy::parse(policy).unwrap());
    assert_eq!(again.state.join_keys().count(), 20);
}

#[tokio::test]
async fn a_backup_is_one_private_file_and_its_restore_gives_no_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    store.change(join(1)).await.unwrap().unwrap();
    let keys = store.change(|draft| Ok::<_, Refusal>(Arc::clone(&draft.keys))).await.unwrap().unwrap();
    let backup = folder.path().join("backup");
    store.backup(backup.clone()).await.unwrap();
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let after = store.change(join(2)).await.unwrap().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    restore(&backup, elsewhere.path()).unwrap();
    assert!(matches!(restore(&backup, elsewhere.path()), Err(StoreFault::Exists(_))));
    let (_, restored) = draft(elsewhere.path());
    assert_eq!(restored.state.nodes().len(), 1);
    assert_eq!(*restored.keys.to_text().unwrap(), *keys.to_text().unwrap());
    let again = start_in(elsewhere.path(), restored).change(join(3)).await.unwrap().unwrap();
    assert!(again > after, "{again:?} after {after:?}");
}

fn start_in(folder: &Path, _: Draft) -> Store {
    start(folder)
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    std::fs::write(&backup, "").unwrap();
    let into = tempfile::tempdir().unwrap();
    assert!(restore(&backup, into.path()).is_err());
    std::fs::write(&backup, vec![7; 100_000]).unwrap();
    assert!(restore(&backup, into.path()).is_err());
    assert!(restore(&folder.path().join("none"), into.path()).is_err());
    let left = std::fs::read_dir(into.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        left.collect::<Vec<_>>(),
        ["lock"],
        "nothing is left behind but the mark that it was looked at"
    );
}
