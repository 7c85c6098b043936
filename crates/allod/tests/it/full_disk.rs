//! A server whose disk is full: a small disk of its own, filled to the last block. Only root can mount one, so this says
//! plainly when it is skipped.

use crate::{
    cli::Cli,
    visitor,
    world::{World, fresh_folder, fresh_uid},
};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder that is a small disk; gone with this value.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(folder: &Path, test: &str) -> Option<Self> {
        Self::mount_with(folder, test, "size=1g,mode=755")
    }

    fn mount_with(folder: &Path, test: &str, options: &str) -> Option<Self> {
        let mounted = rustix::process::geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(folder)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("{test}: SKIPPED, only root can mount a small disk");
        }
        mounted.then(|| Self(folder.to_owned()))
    }

    pub(crate) fn fill(&self) -> PathBuf {
        self.fill_as("filler")
    }

    /// With a file of this name.
    pub(crate) fn fill_as(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut file = File::create(&path).unwrap();
        let block = vec![7_u8; 1024 * 1024];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..512]).is_ok() {}
        path
    }

    /// Until there is room for no further file, whatever its size. Answers the files that take it.
    fn fill_with_files(&self) -> Vec<PathBuf> {
        let folder = self.0.join("fillers");
        std::fs::create_dir(&folder).unwrap();
        let paths = (0..).map(|number: u32| folder.join(number.to_string()));
        paths.take_while(|path| File::create(path).is_ok()).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The owner, with a home on another disk.
pub(crate) fn elsewhere(world: &World, home: &Path) -> Cli {
    for entry in std::fs::read_dir(&world.cli.home).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), home.join(entry.file_name())).unwrap();
        }
    }
    Cli::at(home.to_owned())
}

#[tokio::test]
async fn on_a_full_disk_what_frees_it_works_and_nothing_new_begins() {
    let (folder, home) = (fresh_folder(), fresh_folder());
    let test = "on_a_full_disk_what_frees_it_works_and_nothing_new_begins";
    let Some(disk) = SmallDisk::mount(folder.path(), test) else { return };
    let world = World::up_in(folder, fresh_uid(), "info").await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let thief = world.enrol("thief", 5, &["--role", "viewer"]).await;
    let thief = allod_signing::Signer::fingerprint(&thief).to_string();
    let late = allod_signing::KeySigner::generate([6; 32], "late").public_openssh();
    app.write("v2");
    let owner = elsewhere(&world, home.path());
    let filler = disk.fill();

    let found = owner.run(&["doctor"]).await;
    assert!(found.stdout.contains("\"about\":\"disk\""), "{found:?}");
    assert_eq!(owner.run(&["keys", "add", &late, "--role", "viewer"]).await.refused(1).0, "disk_full");
    let deploy = owner.run_in(&app.folder, &["deploy"]).await;
    assert!(deploy.code != 0 && deploy.stdout.contains("disk_full"), "{deploy:?}");
    owner.run(&["keys", "revoke", &thief]).await.ok();
    let cancel = owner.run(&["ops", "cancel", "0123456789abcdef"]).await;
    assert!(cancel.code != 0 && !cancel.stdout.contains("disk_full"), "{cancel:?}");
    owner.run_in(&app.folder, &["stop"]).await.ok();
    owner.run(&["servers", "prune"]).await.ok();
    assert_eq!(
        owner.run(&["keys", "add", &late, "--role", "viewer"]).await.refused(1).0,
        "disk_full",
        "still full"
    );

    owner.run_in(&app.folder, &["app", "remove"]).await.ok();
    for folder in ["releases", "data", "logs", "agent/chunks"] {
        let left = world.state.join(folder).join("blog/production");
        assert!(!left.exists(), "{} is left", left.display());
    }

    std::fs::remove_file(filler).unwrap();
    owner.run(&["keys", "add", &late, "--role", "viewer"]).await.ok();
    owner.run_in(&app.folder, &["deploy"]).await.ok();
    owner.run(&["audit", "verify"]).await.ok();
    drop(world);
}

/// What lies in a folder, its files and folders without those of apps.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_deploy_that_runs_out_of_disk_midway_leaves_what_served_and_succeeds_once_there_is_room() {
    let (folder, home) = (fresh_folder(), fresh_folder());
    let test = "a_deploy_that_runs_out_of_disk_midway_leaves_what_served_and_succeeds_once_there_is_room";
    // Bytes there are plenty, so that nothing is refused beforehand; files run out in the middle.
    let options = "size=1g,mode=755,nr_inodes=6000";
    let Some(disk) = SmallDisk::mount_with(folder.path(), test, options) else { return };
    let world = World::up_in(folder, fresh_uid(), "info").await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    app.write("v2");
    for number in 0..300 {
        std::fs::write(app.folder.join(format!("part-{number}")), format!("{number}").repeat(50)).unwrap();
    }
    let owner = elsewhere(&world, home.path());
    let mut fillers = disk.fill_with_files();
    let (chunks, releases) =
        (world.state.join("agent/chunks/blog/production"), world.state.join("releases/blog/production"));
    let serves = async |version: &str| {
        let answer = visitor::get(world.http, "blog.test", "/").await.unwrap();
        assert!(answer.status == 200 && answer.body.contains(version), "{answer:?}");
    };

    // While chunks arrive.
    fillers.drain(..100).for_each(|path| std::fs::remove_file(path).unwrap());
    let sent = owner.run_in(&app.folder, &["deploy"]).await;
    assert!(sent.code != 0 && sent.stdout.contains("disk_full") && sent.stdout.contains("prune"), "{sent:?}");
    let arrived = names(&chunks);
    assert!(arrived.len() > 20 && !arrived.iter().any(|name| name.starts_with('.')), "{}", arrived.len());
    assert_eq!(names(&releases).len(), 1);
    serves("v1").await;

    // While the release is laid out: room for the rest of the chunks, and for a few files more.
    fillers.drain(..260).for_each(|path| std::fs::remove_file(path).unwrap());
    let laid = owner.run_in(&app.folder, &["deploy"]).await;
    assert!(laid.code != 0 && laid.stdout.contains("disk_full") && laid.stdout.contains("prune"), "{laid:?}");
    assert!(names(&chunks).len() > 300, "all chunks are there");
    assert_eq!(names(&releases).len(), 1, "nothing half made is left");
    serves("v1").await;

    fillers.drain(..).for_each(|path| std::fs::remove_file(path).unwrap());
    owner.run_in(&app.folder, &["deploy"]).await.ok();
    serves("v2").await;
    owner.run(&["audit", "verify"]).await.ok();
    drop(world);
}

#[tokio::test]
async fn what_a_failed_deploy_sent_goes_with_prune_an_hour_later_and_what_serves_stays() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let chunks = world.state.join("agent/chunks/blog/production");
    let of_v1 = names(&chunks);
    app.write("v2");
    std::fs::write(app.folder.join("run.sh"), "#!/bin/sh\nexit 1\n").unwrap();
    let failed = app.run(&world, &["deploy"]).await;
    assert_ne!(failed.code, 0, "{failed:?}");
    let sent = names(&chunks).len() - of_v1.len();
    assert!(sent > 0, "it was sent");

    let freed = async || {
        let document = app.run(&world, &["servers", "prune"]).await.ok().json();
        document["servers"][0]["bytes"].as_u64().unwrap()
    };
    freed().await;
    assert_eq!(names(&chunks).len(), of_v1.len() + sent, "somebody may be about to try again");
    let before = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for name in names(&chunks) {
        let times = std::fs::FileTimes::new().set_modified(before);
        File::options().write(true).open(chunks.join(name)).unwrap().set_times(times).unwrap();
    }
    assert!(freed().await > 0, "it says what it freed");
    let (mut left, mut expected) = (names(&chunks), of_v1);
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    let answer = visitor::get(world.http, "blog.test", "/").await.unwrap();
    assert!(answer.body.contains("v1"), "{answer:?}");
    app.deploy(&world, "v3").await.ok();
}
