//! On the real thing, as root on a machine whose groups may be used; elsewhere these say that they are skipped. What is
//! none, and what is refused, is tested everywhere.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests start real programs, and say what they skip"
)]

use super::*;
use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Instant,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The hierarchies of this machine, of one version or of both.
fn places(version: Option<Version>) -> Vec<Place> {
    let read = |path: &str| std::fs::read(path).unwrap();
    let mut places = places::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    places.retain(|place| version.is_none_or(|version| place.version == version));
    places
}

/// Groups of a state of our own. Nothing is left in them, also where a test fails.
struct Own {
    groups: Groups,
    state: tempfile::TempDir,
}

impl std::ops::Deref for Own {
    type Target = Groups;

    fn deref(&self) -> &Groups {
        &self.groups
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.groups.sweep(|_| false);
    }
}

fn groups(test: &str, version: Option<Version>) -> Option<Own> {
    let state = tempfile::tempdir().unwrap();
    let groups = Groups::at(places(version), &Base::Own, &key(state.path()).unwrap());
    if !groups.can_be_made() {
        println!("{test}: SKIPPED for {version:?}, {}", groups.why_not());
        return None;
    }
    Some(Own { groups, state })
}

/// A shell that waits for a line before it does anything, as a user that has nothing else.
fn shell(script: &str, uid: u32) -> Child {
    let mut command = Command::new("/bin/bash");
    command
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.current_dir("/").process_group(0);
    if rustix::process::geteuid().is_root() {
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap()
}

fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn app(name: &str) -> InstanceId {
    InstanceId::new(format!("{name}-0011aabb")).unwrap()
}

#[test]
fn turned_off_no_group_is_made_and_it_is_said() {
    let groups = Groups::open(&Base::None, Path::new("/"));
    assert!(groups.make(Whose::App(&app("web")), Bounds::default()).unwrap().is_none());
    assert!(!groups.can_be_made() && !groups.bound_memory() && !groups.bound_processes());
    assert!(groups.why_not().contains("--groups none"), "{}", groups.why_not());
    let said = groups.unbounded().unwrap();
    assert!(said.starts_with("memory and the number of processes have no bound: "), "{said}");
    assert!(groups.paths(Whose::App(&app("web"))).is_empty());
    assert_eq!(groups.sweep(|_| false), [""; 0]);
}

#[test]
fn where_nothing_is_mounted_that_is_said() {
    let groups = Groups::at(Vec::new(), &Base::Own, "0011");
    assert_eq!(groups.why_not(), "no control groups: none are mounted here");
}

#[test]
fn a_place_that_is_no_control_group_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    let mount = std::fs::canonicalize(folder.path()).unwrap();
    let place = |version, mount: &Path| Place {
        version,
        controllers: if version == Version::One { vec!["memory".to_owned()] } else { Vec::new() },
        mount: mount.to_path_buf(),
        own: PathBuf::new(),
    };
    for version in [Version::One, Version::Two] {
        let groups = Groups::at(vec![place(version, &mount)], &Base::Own, "0011");
        assert!(!groups.can_be_made());
        assert!(groups.why_not().contains("no control group"), "{}", groups.why_not());
    }
    assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 1, "nothing was made");
    // Nor one that a link leads to.
    for real in self::places(None).into_iter().take(1) {
        let link = mount.join("link");
        std::os::unix::fs::symlink(&real.mount, &link).unwrap();
        assert!(!Groups::at(vec![place(real.version, &link)], &Base::Own, "0011").can_be_made());
    }
}

#[test]
fn a_configured_group_that_is_not_there_is_named_and_none_other_is_taken() {
    for text in ["", "allod", "/a/../b"] {
        assert!(text.parse::<Base>().is_err(), "{text:?}");
    }
    let wanted: Base = "/no-such-group-of-allod".parse().unwrap();
    let groups = Groups::at(places(None), &wanted, "0011");
    assert!(!groups.can_be_made());
    if !places(None).is_empty() && rustix::process::geteuid().is_root() {
        assert!(groups.why_not().contains("no-such-group-of-allod"), "{}", groups.why_not());
    }
}

#[test]
fn what_is_in_a_group_ends_with_it_and_what_has_left_does_not() {
    for version in [Some(Version::One), Some(Version::Two), None] {
        let Some(groups) = groups("what_is_in_a_group_ends_with_it", version) else { continue };
        let id = app("web");
        let group = groups.make(Whose::App(&id), Bounds::default()).unwrap().unwrap();
        assert_eq!(group.paths(), groups.paths(Whose::App(&id)));
        // It ignores what can be ignored, and leaves its session and its parent.
        let script = "trap '' TERM HUP INT; (trap '' TERM HUP; setsid bash -c \"trap '' TERM; exec sleep 1000\" &) ; sleep 1000";
        let mut tree = shell(script, 62_900);
        let mut left = shell("sleep 1000", 62_900);
        for child in [&tree, &left] {
            groups.enter(&group, child.id()).unwrap();
        }
        groups.leave(left.id()).unwrap();
        go(&mut tree);
        until("the grandchild has left its parent", || group.pids().len() >= 2);
        let inside = group.pids();
        assert!(inside.contains(&tree.id()) && !inside.contains(&left.id()), "{inside:?}");
        assert!(groups.find("app-web-0011aabb").pids().contains(&tree.id()), "it is found again by its name");
        assert_eq!(Group::find(&group.paths()).pids(), group.pids(), "and by its folders");
        group.kill(PATIENCE).unwrap();
        assert!(!tree.wait().unwrap().success());
        assert!(inside.iter().all(|pid| crate::shim::tree::stat(*pid).is_none_or(|stat| stat.is_dead())));
        assert!(left.try_wait().unwrap().is_none(), "what had left lives");
        let paths = group.paths();
        assert_eq!(end(&group), None);
        assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
        left.kill().unwrap();
        left.wait().unwrap();
    }
}

#[test]
fn x16_a_fork_bomb_stops_at_its_bound_and_ends_at_once() {
    if !rustix::process::geteuid().is_root() {
        println!("x16_a_fork_bomb: SKIPPED, no user of its own can be given to it");
        return;
    }
    for version in [Some(Version::One), Some(Version::Two), None] {
        let Some(groups) = groups("x16_a_fork_bomb", version) else { continue };
        let bounds = Bounds { processes: Some(50), ..Bounds::default() };
        let group = groups.make(Whose::Run(0x1122), bounds).unwrap().unwrap();
        // A belt: whatever goes wrong here, its user has no more than this.
        let mut bomb = shell("ulimit -u 80; bomb() { bomb & bomb & sleep 1000; }; bomb", 62_901);
        groups.enter(&group, bomb.id()).unwrap();
        go(&mut bomb);
        until("it has spread", || group.pids().len() >= 40);
        if groups.bound_processes() {
            assert!(group.pids().len() <= 50, "{}", group.pids().len());
        }
        assert_eq!(end(&group), None);
        bomb.wait().unwrap();
        let left = crate::shim::tree::all_pids().unwrap();
        let alive = |pid: &u32| crate::shim::tree::stat(*pid).is_some_and(|stat| !stat.is_dead());
        if rustix::process::geteuid().is_root() {
            let left: Vec<u32> = left
                .into_iter()
                .filter(|pid| crate::shim::tree::uid(*pid) == Some(62_901))
                .filter(alive)
                .collect();
            assert_eq!(left, [0; 0], "{version:?}");
        }
    }
}

#[test]
fn more_memory_than_the_bound_is_killed_and_the_bound_is_told() {
    let Some(groups) = groups("more_memory_than_the_bound", None) else { return };
    if !groups.bound_memory() {
        println!("more_memory_than_the_bound: SKIPPED, {}", groups.why_not());
        return;
    }
    let bounds = Bounds { memory_bytes: Some(32 << 20), processes: Some(20) };
    let id = app("web");
    let group = groups.make(Whose::App(&id), bounds).unwrap().unwrap();
    let mut hungry = shell("exec tail /dev/zero", 62_902);
    groups.enter(&group, hungry.id()).unwrap();
    go(&mut hungry);
    assert!(!hungry.wait().unwrap().success());
    let over = end(&group);
    assert_eq!(over, Some(32 << 20));
    assert_eq!(over_memory(over.unwrap()), "killed: over its memory of 32 MB");
}

#[test]
fn what_an_earlier_life_left_is_cleared_away_but_for_what_is_somebodys() {
    let Some(groups) = groups("what_an_earlier_life_left", None) else { return };
    let (kept, lost) = (app("kept"), app("lost"));
    let mut children = Vec::new();
    for whose in [Whose::App(&kept), Whose::App(&lost), Whose::Run(0x1122), Whose::Check(&kept, 7)] {
        let group = groups.make(whose, Bounds::default()).unwrap().unwrap();
        let child = shell("sleep 1000", 62_903);
        groups.enter(&group, child.id()).unwrap();
        children.push(child);
    }
    // Another life, of the same state; a state of its own has nothing to do with it.
    let other = self::groups("another state", None).unwrap();
    assert_eq!(other.sweep(|_| false), [""; 0]);
    let next = Groups::at(places(None), &Base::Own, &key(groups.state.path()).unwrap());
    let left = next.sweep(|name| name == "app-kept-0011aabb");
    assert_eq!(left, ["app-lost-0011aabb", "check-kept-0011aabb-00000007", "run-0000000000001122"]);
    let mut ended: Vec<bool> = Vec::new();
    for child in &mut children {
        ended.push(child.try_wait().unwrap().is_some() || !group_has(&groups, child.id()));
    }
    assert_eq!(ended, [false, true, true, true]);
    assert_eq!(end(&next.find("app-kept-0011aabb")), None);
    for mut child in children {
        child.wait().unwrap();
    }
}

fn group_has(groups: &Groups, pid: u32) -> bool {
    groups.find("app-kept-0011aabb").pids().contains(&pid)
}

#[test]
fn sizes_are_told_in_the_unit_that_fits() {
    let told = |bytes| over_memory(bytes).trim_start_matches(allod_proto::named::OVER_MEMORY).to_owned();
    assert_eq!([told(1 << 30), told(1536 << 20), told(5000 << 10)], ["1 GB", "1536 MB", "5000 KB"]);
}
