use super::*;
use allod_proto::Digest;

const NOW: Timestamp = Timestamp(1_780_000_000_000);
const GOOD: &str = "summary = \"s\"\nexec = [\"/bin/true\"]\n";

struct World {
    _folder: tempfile::TempDir,
    layout: Layout,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
        layout.create().unwrap();
        std::fs::create_dir_all(layout.commands()).unwrap();
        Self { _folder: folder, layout }
    }

    fn open(&self) -> Store {
        let mut store = Store::open(self.layout.clone()).unwrap();
        store.refresh(NOW);
        store
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.layout.commands().join(name), text).unwrap();
    }
}

fn names(store: &Store) -> Vec<String> {
    store.rules().registry.definitions().map(|definition| definition.name.to_string()).collect()
}

fn name(text: &str) -> NamedCommandName {
    NamedCommandName::new(text).unwrap()
}

fn owner() -> Author {
    Author { name: "ana".to_owned(), key: None }
}

#[test]
fn an_empty_folder_allows_nothing_and_a_broken_file_leaves_what_stood() {
    let world = World::new();
    let mut store = world.open();
    assert!(names(&store).is_empty());
    world.put("a.toml", GOOD);
    assert_eq!(store.refresh(NOW).notes.len(), 1);
    assert_eq!(names(&store), ["a"]);
    world.put("b.toml", "summary = ");
    let notes = store.refresh(NOW).notes;
    assert!(notes[0].contains("not taken in, 1 stands: b.toml:1"), "{notes:?}");
    assert!(store.refresh(NOW).notes.is_empty(), "it is told once");
    assert_eq!(names(&store), ["a"]);
    assert!(!store.state().complaints.is_empty());
    // Also over a restart.
    assert_eq!(names(&world.open()), ["a"]);
    world.put("b.toml", GOOD);
    store.refresh(NOW);
    assert_eq!(names(&store), ["a", "b"]);
    assert!(store.state().complaints.is_empty());
}

#[test]
fn a_file_that_others_may_write_or_with_a_name_that_is_none_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.put("a.toml", GOOD);
    let path = world.layout.commands().join("a.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let store = world.open();
    assert!(names(&store).is_empty());
    assert!(store.state().complaints[0].contains("may be written by others"));
    std::fs::remove_file(path).unwrap();
    world.put("Bad Name.toml", GOOD);
    assert!(world.open().state().complaints[0].contains("not a command's name"));
}

#[test]
fn x10_an_older_registry_put_back_is_refused_also_over_a_restart() {
    let world = World::new();
    let folder = world.layout.commands();
    world.put("a.toml", GOOD);
    let mut store = world.open();
    let old_counter = std::fs::read_to_string(folder.join("counter")).unwrap();
    std::fs::remove_file(folder.join("a.toml")).unwrap();
    store.refresh(NOW);
    assert!(names(&store).is_empty());
    world.put("a.toml", GOOD);
    world.put("counter", &old_counter);
    store.refresh(NOW);
    assert!(names(&store).is_empty());
    assert!(store.state().complaints[0].contains("an older registry"), "{:?}", store.state());
    let mut store = world.open();
    assert!(names(&store).is_empty());
    std::fs::remove_file(folder.join("counter")).unwrap();
    store.refresh(NOW);
    assert!(store.state().complaints[0].contains("missing"), "also one from before there was a counter");
    // Root says that it is meant.
    world.put("counter", "2");
    store.refresh(NOW);
    assert_eq!((names(&store), store.state().counter), (vec!["a".to_owned()], 3));
}

#[test]
fn an_owner_adds_and_removes_and_the_history_says_who_and_what() {
    let world = World::new();
    let mut store = world.open();
    assert!(store.add(&name("a"), "summary = 1", &owner(), NOW).unwrap_err().message.contains("a.toml:1"));
    store.add(&name("a"), GOOD, &owner(), NOW).unwrap();
    let changes = store.add(&name("a"), &format!("{GOOD}timeout = \"2m\""), &owner(), NOW).unwrap();
    assert!(changes[0].starts_with("MORE"), "{changes:?}");
    world.put("b.toml", GOOD);
    store.refresh(NOW);
    store.remove(&name("a"), &owner(), NOW).unwrap();
    assert_eq!(names(&store), ["b"]);
    assert_eq!(store.remove(&name("a"), &owner(), NOW).unwrap_err().code, FaultCode::NotFound);
    let history = store.history(&name("a")).unwrap().changes;
    assert_eq!(history.iter().map(|it| it.counter).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(history[2].text.is_none() && history[0].by == "ana");
    assert_eq!(store.history(&name("b")).unwrap().changes[0].by, "root on the machine");
    assert!(store.history(&name("never")).is_err());
}

#[test]
fn running_as_another_user_is_granted_by_root_on_the_machine_alone() {
    let world = World::new();
    let mut store = world.open();
    let text = format!("{GOOD}run_as = \"root\"");
    let refused = store.add(&name("a"), &text, &owner(), NOW).unwrap_err();
    assert_eq!(refused.code, FaultCode::NotAllowed);
    assert!(refused.hint.unwrap().contains("echo 'a root'"));
    world.put("run-as", "b root\n# a root\n");
    assert!(store.add(&name("a"), &text, &owner(), NOW).is_err());
    world.put("run-as", "b root\na root\n");
    assert!(store.add(&name("a"), &text, &owner(), NOW).is_ok());
}

#[test]
fn callers_stay_stopped_over_a_restart() {
    let world = World::new();
    let mut store = world.open();
    store.hold(true).unwrap();
    assert!(store.rules().held && world.open().rules().held);
    store.hold(false).unwrap();
    assert!(!world.open().rules().held);
}

#[test]
fn a_list_of_values_is_read_again_when_it_changes() {
    let world = World::new();
    let list = world.layout.commands().join("packages");
    std::fs::write(&list, "one\n").unwrap();
    world.put(
        "a.toml",
        &format!("summary = \"s\"\nexec = [\"/bin/echo\", \"{{p}}\"]\nparams.p = {{ list = {list:?} }}"),
    );
    let mut store = world.open();
    let has = |store: &Store, value: &str| format!("{:?}", store.rules().choices).contains(value);
    assert!(has(&store, "one") && !has(&store, "two"));
    std::fs::write(&list, "one\ntwo\n").unwrap();
    store.refresh(NOW);
    assert!(has(&store, "two"));
    assert_eq!(store.state().counter, 1, "the definitions are the same");
    std::fs::remove_file(&list).unwrap();
    store.refresh(NOW);
    assert!(store.state().complaints[0].contains("a list of values"));
    assert_ne!(store.state().digest, Digest::ZERO);
}
