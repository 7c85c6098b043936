//! On a real hierarchy of version 2, as root; skipped with a word elsewhere.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests start real programs, and say what they skip"
)]

use super::*;
use rustix::fs::XattrFlags;
use std::process::{Child, Command, Stdio};

/// A group of our own with one below it, as a slice and a unit.
struct Unit {
    mount: Folder,
    slice: String,
    place: Place,
}

impl Unit {
    fn new(test: &str) -> Option<Self> {
        let read = |path: &str| std::fs::read(path).unwrap();
        let mut places =
            super::super::places::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        places.retain(|place| place.version == Version::Two);
        let slice = format!("allod-test-{}-{test}.slice", std::process::id());
        let made = places.pop().and_then(|place| {
            let mount = Folder::open(&place.mount).ok()?;
            let own = Path::new(&slice).join("allod.service");
            mount.make(&slice).and_then(|slice| slice.make("allod.service")).ok()?;
            Some(Self { mount, slice: slice.clone(), place: Place { own, ..place } })
        });
        if made.is_none() {
            println!("{test}: SKIPPED, no groups of version 2 can be made here");
        }
        made
    }

    fn folder(&self, relative: &str) -> Folder {
        self.mount.below(&Path::new(&self.slice).join(relative)).unwrap()
    }

    /// Says what systemd says of a group that it hands over. Not every kernel keeps the newer mark.
    fn hand_over(&self, relative: &str) {
        let path = self.folder(relative).path;
        let mark = |name: &str| rustix::fs::setxattr(&path, name, b"1", XattrFlags::empty());
        mark("user.delegate").or_else(|_| mark("trusted.delegate")).unwrap();
    }

    fn open(&self, systemd: bool) -> Result<Root, String> {
        Root::open(&self.place, &Base::Own, "0011", systemd)
    }

    fn made(&self, relative: &str) -> Vec<String> {
        self.folder(relative).children().unwrap()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.mount.remove(&self.slice);
    }
}

fn sleeper(group: &Folder) -> Child {
    let null = || Stdio::null();
    let child =
        Command::new("sleep").arg("1000").stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
    group.take(child.id()).unwrap();
    child
}

#[test]
fn a_group_that_systemd_has_not_handed_over_is_left_alone() {
    let Some(unit) = Unit::new("left-alone") else { return };
    let why = unit.open(true).unwrap_err();
    assert!(why.contains("Delegate=yes"), "{why}");
    assert_eq!(unit.made("allod.service"), [""; 0]);
    assert_eq!(unit.made(""), ["allod.service"]);
}

#[test]
fn in_a_group_that_was_handed_over_groups_are_made() {
    let Some(unit) = Unit::new("handed-over") else { return };
    unit.hand_over("allod.service");
    let root = unit.open(true).unwrap();
    assert_eq!(root.path(), unit.folder("allod.service/allod/0011").path);
    root.close();
    assert_eq!(unit.made("allod.service"), [""; 0], "nothing is left of them");
}

#[test]
fn from_a_group_below_the_one_that_was_handed_over_they_are_made_beside_it() {
    let Some(unit) = Unit::new("beside") else { return };
    unit.hand_over("");
    let root = unit.open(true).unwrap();
    assert_eq!(root.path(), unit.folder("allod/0011").path);
    root.close();
}

#[test]
fn where_nobody_manages_them_they_are_made_below_the_own_one() {
    let Some(unit) = Unit::new("nobody") else { return };
    let root = unit.open(false).unwrap();
    assert_eq!(root.path(), unit.folder("allod.service/allod/0011").path);
    root.close();
}

#[test]
fn whoever_is_in_the_way_is_moved_and_lives() {
    let Some(unit) = Unit::new("moved") else { return };
    let own = unit.folder("allod.service");
    let mut children = [sleeper(&own), sleeper(&own)];
    let programs = vacate(&own).unwrap();
    assert_eq!(own.own_pids().unwrap(), [0; 0]);
    let moved = programs.own_pids().unwrap();
    assert!(children.iter().all(|child| moved.contains(&child.id())), "{moved:?}");
    for child in &mut children {
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
