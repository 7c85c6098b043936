//! A server whose disk is full: a small disk of its own, filled to the last block. Only root can mount one, so this says
//! plainly when it is skipped.

use crate::{
    cli::Cli,
    world::{World, fresh_folder, fresh_uid},
};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder that is a small disk; gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, test: &str) -> Option<Self> {
        let mounted = rustix::process::geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs"])
                .arg(folder)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("{test}: SKIPPED, only root can mount a small disk");
        }
        mounted.then(|| Self(folder.to_owned()))
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![7_u8; 1024 * 1024];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The owner, with a home on another disk.
fn elsewhere(world: &World, home: &Path) -> Cli {
    for entry in std::fs::read_dir(&world.cli.home).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), home.join(entry.file_name())).unwrap();
        }
    }
    Cli { home: home.to_owned() }
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

    std::fs::remove_file(filler).unwrap();
    owner.run(&["keys", "add", &late, "--role", "viewer"]).await.ok();
    owner.run_in(&app.folder, &["deploy"]).await.ok();
    owner.run(&["audit", "verify"]).await.ok();
    drop(world);
}
