use super::*;
use crate::{
    Format, create_folder, disk, load, remove_file, remove_folder, save, write_atomic, write_unsynced,
};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
};

type Shown = BTreeMap<String, String>;

/// Every file below and what is in it; temporary files are nobody's.
fn shown(root: &Path) -> Result<Shown, String> {
    let (mut found, mut folders) = (Shown::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                found.insert(name, "folder".to_owned());
                folders.push(path);
            } else if !name.ends_with(".allod-new") {
                found.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
            }
        }
    }
    Ok(found)
}

/// All that different choices make of the journal at its end.
fn outcomes(journal: &Journal) -> BTreeSet<Shown> {
    // Names are decided on before what they name.
    let choices: [&[u8]; 7] =
        [&[0], &[0, 255], &[255, 0], &[255], &[255, 255, 0], &[255, 255, 150], &[255, 255, 100, 100]];
    let all = choices.into_iter().map(|choices| {
        let left = tempfile::tempdir().unwrap();
        journal.power_cut(usize::MAX, choices, left.path()).unwrap();
        shown(left.path()).unwrap()
    });
    all.collect()
}

fn place() -> (tempfile::TempDir, PathBuf, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let journal = Journal::begin(&root).unwrap();
    (folder, root, journal)
}

fn one(name: &str, content: &str) -> Shown {
    Shown::from([(name.to_owned(), content.to_owned())])
}

#[test]
fn a_store_that_does_not_sync_its_file_is_found_out() {
    let tell = |story: &mut Story<Shown>| {
        story.step(|root| {
            write_unsynced(&root.join("state"), b"first", 0o600)?;
            crate::sync_folder(root).map(|()| one("state", "first"))
        });
    };
    let found = survives(200, |_| {}, tell, shown).unwrap_err();
    assert!(found.contains("power cut at"), "{found}");
}

#[test]
fn a_store_that_does_not_sync_its_folder_is_found_out() {
    let tell = |story: &mut Story<Shown>| {
        story.step(|root| {
            let file = disk::create_new(CWD, &root.join("new"))?;
            disk::write_all(&file, b"first")?;
            disk::sync(&file)?;
            disk::rename(&root.join("new"), &root.join("state")).map(|()| one("state", "first"))
        });
    };
    assert!(survives(50, |_| {}, tell, shown).is_err());
}

#[test]
fn what_was_made_without_the_store_is_found_out() {
    let tell = |story: &mut Story<Shown>| {
        story.step(|root| fs::write(root.join("state"), "first").map(|()| one("state", "first")));
    };
    let found = survives(1, |_| {}, tell, |_| Ok(Shown::new())).unwrap_err();
    assert!(found.contains("state is not on the disk as it was written down"), "{found}");
}

#[test]
fn an_earlier_life_that_did_not_sync_is_found_out() {
    let tell = |story: &mut Story<Shown>| {
        story.step(|root| write_atomic(&root.join("state"), b"first", 0o600).map(|()| one("state", "first")));
    };
    assert!(survives_kills(60, |_| {}, tell, shown).is_err(), "opened before the folder is synced");
    let settled =
        |root: &Path| crate::settle(root).map_err(|error| error.to_string()).and_then(|_| shown(root));
    survives_kills(60, |_| {}, tell, settled).unwrap();
}

#[test]
fn unsynced_bytes_are_lost_torn_or_zeros_and_synced_ones_are_there() {
    let (_folder, root, journal) = place();
    write_unsynced(&root.join("state"), b"abcdefgh", 0o600).unwrap();
    let all = outcomes(&journal);
    assert!(all.contains(&Shown::new()) && all.contains(&one("state", "abcdefgh")), "{all:?}");
    assert!(all.contains(&one("state", "")), "the name without the bytes: {all:?}");
    assert!(all.contains(&one("state", "\0\0\0\0\0\0\0\0")), "{all:?}");
    assert!(all.iter().any(|shown| shown.get("state").is_some_and(|text| text == "abc")), "torn: {all:?}");
    disk::sync_all(File::open(&root).unwrap()).unwrap();
    assert_eq!(outcomes(&journal), BTreeSet::from([one("state", "abcdefgh")]));
}

#[test]
fn unsynced_names_are_there_in_any_combination() {
    let (_folder, root, journal) = place();
    for name in ["a", "b"] {
        disk::sync(&disk::create_new(CWD, &root.join(name)).unwrap()).unwrap();
    }
    let names: BTreeSet<Vec<String>> =
        outcomes(&journal).into_iter().map(|it| it.into_keys().collect()).collect();
    for expected in [vec![], vec!["a"], vec!["b"], vec!["a", "b"]] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert!(names.contains(&expected), "{expected:?} of {names:?}");
    }
    crate::sync_folder(&root).unwrap();
    assert_eq!(outcomes(&journal).len(), 1);
    disk::remove(&root.join("a")).unwrap();
    assert_eq!(outcomes(&journal).len(), 2, "a removal that is not synced may be undone");
}

#[test]
fn after_the_stop_nothing_happens_any_more() {
    let (_folder, root, journal) = place();
    journal.stop_at(Some(1));
    assert!(write_atomic(&root.join("state"), b"x", 0o600).is_err());
    assert_eq!(journal.len(), 1, "only its temporary file was made");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "and is not removed by a program that is dead");
    journal.stop_at(None);
    write_atomic(&root.join("state"), b"x", 0o600).unwrap();
    journal.is_complete().unwrap();
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Count {
    count: u32,
}

impl Format for Count {
    const NAME: &'static str = "count";
    const FORMAT: u32 = 1;
}

fn count_and_folders(root: &Path) -> Result<(Option<u32>, bool), String> {
    let count = load::<Count>(&root.join("deep/count.json")).map_err(|error| error.to_string())?;
    Ok((count.map(|count| count.count), root.join("deep/er").is_dir()))
}

#[test]
fn a_numbered_file_and_folders_survive_a_power_cut_anywhere() {
    let tell = |story: &mut Story<(Option<u32>, bool)>| {
        let count = |root: &Path| root.join("deep/count.json");
        story.step(|root| create_folder(&root.join("deep"), 0o700).map(|()| (None, false)));
        story.step(|root| save(&count(root), &Count { count: 1 }, 0o600).map(|()| (Some(1), false)));
        story.step(|root| save(&count(root), &Count { count: 2 }, 0o600).map(|()| (Some(2), false)));
        story.step(|root| create_folder(&root.join("deep/er"), 0o700).map(|()| (Some(2), true)));
        story.step(|root| remove_file(&count(root)).map(|_| (None, true)));
        story.step(|root| save(&count(root), &Count { count: 3 }, 0o600).map(|()| (Some(3), true)));
        story.step(|root| write_atomic(&root.join("deep/er/file"), b"x", 0o600).map(|()| (Some(3), true)));
        story.step(|root| remove_folder(&root.join("deep/er")).map(|_| (Some(3), false)));
    };
    survives(400, |_| {}, tell, count_and_folders).unwrap();
}

#[test]
fn what_a_settled_program_shows_is_there_after_a_power_cut() {
    let tell = |story: &mut Story<(Option<u32>, bool)>| {
        let count = |root: &Path| root.join("count.json");
        for number in 0..3 {
            story.step(|root| {
                save(&count(root), &Count { count: number }, 0o600).map(|()| (Some(number), false))
            });
        }
        story.step(|root| remove_file(&count(root)).map(|_| (None, false)));
    };
    let open = |root: &Path| {
        crate::settle(root).map_err(|error| error.to_string())?;
        let left = fs::read_dir(root).unwrap().count();
        let count = load::<Count>(&root.join("count.json")).map_err(|error| error.to_string())?;
        assert_eq!(left, usize::from(count.is_some()), "no temporary file is left");
        Ok((count.map(|count| count.count), false))
    };
    survives_kills(60, |_| {}, tell, open).unwrap();
}
