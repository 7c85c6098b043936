//! What lasts: a killed hub, a lost network that is restored, the root key that leaves and the Noise key that it replaces.

use super::hub::{Hub, address, on_the_mesh, until};
use crate::{cli::BINARY, processes::eventually};
use allod_meshnode::{Member, control::ControlState};
use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

async fn is_away(member: &Member) {
    until(member, |state| matches!(state, ControlState::Away(_))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_a_key_waits_until_a_person_lets_it_in() {
    let hub = Hub::start().await;
    let phone = hub.member("phone", None);
    let page = match until(&phone, |state| matches!(state, ControlState::LogIn(_))).await {
        ControlState::LogIn(page) => page,
        other => panic!("{other:?}"),
    };
    let id = page.rsplit('/').next().unwrap();
    let waiting = hub.told(&["nodes", "waiting"]).await["machines"].clone();
    assert_eq!((waiting[0]["id"].as_str(), waiting[0]["hostname"].as_str()), (Some(id), Some("phone")));
    assert!(hub.node("phone").await.is_none());
    assert!(hub.plain(&["nodes"]).await.stderr.contains("1 waiting"));
    assert_eq!(hub.deed(&["nodes", "approve", id, "--name", "No Name"]).await.refused(2).0, "invalid");
    let approved = hub.told(&["nodes", "approve", id, "--name", "my-phone"]).await;
    assert_eq!(approved["node"]["name"], "my-phone");
    on_the_mesh(&phone).await;
    assert_eq!(hub.told(&["nodes", "waiting"]).await["machines"], serde_json::json!([]));

    let thief = hub.member("th\u{1b}[2Jie\u{202e}f\n", None);
    until(&thief, |state| matches!(state, ControlState::LogIn(_))).await;
    let id = hub.told(&["nodes", "waiting"]).await["machines"][0]["id"].clone();
    let shown = hub.plain(&["nodes", "waiting"]).await.ok().stdout;
    assert!(shown.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{shown:?}");
    assert_eq!(shown.lines().count(), 3, "a heading, a machine, what to do: {shown:?}");
    hub.told(&["nodes", "reject", id.as_str().unwrap()]).await;
    assert_eq!(hub.told(&["nodes"]).await["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_hub_comes_back_with_everything_and_members_with_it() {
    let mut hub = Hub::start().await;
    let web = hub.join("web", &["--tag", "tag:server"]).await;
    let before = address(&web);
    hub.told(&["nodes", "rename", "web", "web1"]).await;
    let keys = hub.told(&["keys", "list"]).await;
    hub.kill();
    is_away(&web).await;
    hub.begin().await;
    on_the_mesh(&web).await;
    let node = hub.node("web1").await.unwrap();
    assert_eq!(
        (node["addresses"][0].as_str(), &node["tags"][0]),
        (Some(before.as_str()), &"tag:server".into())
    );
    assert_eq!(hub.told(&["keys", "list"]).await, keys);
    hub.stop().await;
    assert!(hub.log().contains("the coordinator ends"), "its end is orderly: {}", hub.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_lost_comes_back_from_its_backup_and_members_need_no_login() {
    let mut hub = Hub::start().await;
    let web = hub.join("web", &[]).await;
    let before = address(&web);
    let file = hub.folder.path().join("mesh.backup");
    let path = file.to_str().unwrap();
    let told = hub.told(&["backup", path]).await;
    let facts = std::fs::metadata(&file).unwrap();
    assert_eq!((facts.len(), facts.permissions().mode() & 0o777), (told["bytes"].as_u64().unwrap(), 0o600));
    assert_eq!(hub.deed(&["backup", path]).await.refused(6).0, "conflict");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), facts.len(), "what is there stays");
    assert!(!hub.state().join("hub/backup.sqlite").exists(), "nothing of it lies about");
    let late = hub.join("late", &[]).await;
    assert_eq!(hub.deed(&["restore", path, "--yes"]).await.refused(6).0, "conflict");
    hub.stop().await;

    assert!(hub.deed(&["restore", path, "--yes"]).await.refused(6).1.contains("root key"));
    let root = hub.folder.path().join("root");
    hub.told(&["root-key", "take", "--to", root.to_str().unwrap()]).await;
    assert_eq!(hub.deed(&["restore", path]).await.refused(9).0, "confirmation");
    let garbage = hub.folder.path().join("garbage");
    for bytes in [&b"garbage"[..], &[0; 100_000], b""] {
        std::fs::write(&garbage, bytes).unwrap();
        assert_eq!(hub.deed(&["restore", garbage.to_str().unwrap(), "--yes"]).await.code, 2);
    }
    let kept = hub.told(&["restore", path, "--yes"]).await["kept"].as_str().unwrap().to_owned();
    assert!(Path::new(&kept).join("coordinator.sqlite").exists(), "what was there is kept");
    // And where nothing is left at all:
    std::fs::remove_dir_all(hub.state().join("hub/coordinator")).unwrap();
    assert_eq!(hub.told(&["restore", path]).await["kept"], serde_json::Value::Null);
    drop(late);
    hub.begin().await;
    on_the_mesh(&web).await;
    let node = hub.node("web").await.unwrap();
    assert_eq!((node["addresses"][0].as_str(), address(&web)), (Some(before.as_str()), before.clone()));
    assert!(hub.node("late").await.is_none(), "it came after the backup");
    let new = hub.join("new", &[]).await;
    assert!(hub.node("new").await.unwrap()["id"].as_i64().unwrap() > 1000, "no number is given twice");
    eventually("the old member sees the new one", async || {
        web.node().whois(address(&new).parse().unwrap()).map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_key_leaves_whole_and_signs_another_noise_key() {
    let mut hub = Hub::start().await;
    let web = hub.join("web", &[]).await;
    let (key, signed) = (hub.folder.path().join("root.key"), hub.folder.path().join("signed.json"));
    let (key_path, signed_path) = (key.to_str().unwrap(), signed.to_str().unwrap());
    let here = hub.state().join("hub/coordinator/root.key");
    std::fs::write(&key, "mine").unwrap();
    assert_eq!(hub.deed(&["root-key", "take", "--to", key_path]).await.refused(6).0, "conflict");
    assert_eq!(hub.deed(&["root-key", "take", "--to", "no/such/folder"]).await.refused(5).0, "not_found");
    assert!(here.exists() && std::fs::read(&key).unwrap() == b"mine");
    std::fs::remove_file(&key).unwrap();
    let secret = std::fs::read(&here).unwrap();
    hub.told(&["root-key", "take", "--to", key_path]).await;
    assert!(!here.exists());
    assert_eq!(std::fs::read(&key).unwrap(), secret);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(hub.told(&["nodes"]).await["root_key"], serde_json::Value::Null);
    assert_eq!(hub.deed(&["root-key", "take", "--to", "again"]).await.refused(5).0, "not_found");

    let prepared = hub.told(&["noise-key", "prepare"]).await;
    let (public, serial) = (prepared["key"].as_str().unwrap(), prepared["serial"].to_string());
    let stranger = hub.folder.path().join("stranger");
    std::fs::write(&stranger, [7; 32]).unwrap();
    for (by, number, exit) in [(stranger.to_str().unwrap(), serial.as_str(), 6), (key_path, "99", 0)] {
        let text = hub.plain(&["root-key", "sign", "--key", by, public, number]).await.ok().stdout;
        std::fs::write(&signed, text).unwrap();
        assert_eq!(
            hub.deed(&["noise-key", "take", signed_path, "--overlap", "0s"]).await.code,
            exit,
            "{by} {number}"
        );
    }
    assert_eq!(
        hub.deed(&["root-key", "sign", "--key", key_path, "mkey:00", "2"]).await.refused(2).0,
        "invalid"
    );
    assert_eq!(hub.deed(&["noise-key", "take", signed_path]).await.refused(6).0, "conflict", "it was taken");
    let _new = hub.join("new", &[]).await;
    assert_eq!(hub.node("web").await.unwrap()["online"], true, "who was there stays");
    hub.kill();
    is_away(&web).await;
    hub.begin().await;
    // It knows the key before only, which answers no more, and believes the new one for the root key's word.
    on_the_mesh(&web).await;
    assert_eq!(address(&web), hub.node("web").await.unwrap()["addresses"][0].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_administers_the_hub_of_another_user_and_leaves_it_its_files() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: the hub of another user, because this user is not root");
        return;
    }
    let mut hub = Hub::unborn(BINARY.into(), &["--mesh", "loopback", "--listen", "127.0.0.1:0"]);
    // Where that user can reach it.
    let program = hub.folder.path().join("allod");
    std::fs::copy(BINARY, &program).unwrap();
    hub.program = program;
    let (uid, folder) = (crate::world::fresh_uid(), hub.state().join("hub"));
    std::fs::create_dir_all(&folder).unwrap();
    chown(&folder, Some(uid), Some(uid)).unwrap();
    hub.uid = Some(uid);
    hub.begin().await;
    let web = hub.join("web", &[]).await;
    let owner = |name: &str| std::fs::metadata(hub.folder.path().join(name)).unwrap().uid();
    hub.told(&["backup", "mesh.backup"]).await;
    hub.told(&["root-key", "take", "--to", "root"]).await;
    assert_eq!((owner("mesh.backup"), owner("root")), (0, 0));
    assert!(hub.log().contains("uid=0"), "who asked is in the log");
    hub.stop().await;
    let kept = hub.told(&["restore", "mesh.backup", "--yes"]).await["kept"].as_str().unwrap().to_owned();
    for path in [folder.join("coordinator"), folder.join("coordinator/coordinator.sqlite"), kept.into()] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), uid, "{}", path.display());
    }
    hub.begin().await;
    on_the_mesh(&web).await;
    hub.stop().await;
    // A hub that was taken over puts a link where root is going to write and read.
    let secret = hub.folder.path().join("mesh.backup");
    std::fs::remove_dir_all(folder.join("coordinator")).unwrap();
    std::fs::create_dir(folder.join("coordinator")).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("coordinator/root.key")).unwrap();
    assert_ne!(hub.deed(&["root-key", "take", "--to", "again"]).await.code, 0);
    assert!(secret.exists() && !hub.folder.path().join("again").exists());
}

/// The hub's clock is set forward by a file beside its program, which builds for development alone read.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_hour_no_key_is_made_until_the_root_key_is_taken_away() {
    let beside = tempfile::tempdir_in(Path::new(BINARY).parent().unwrap()).unwrap();
    let program = beside.path().join("allod");
    std::fs::hard_link(BINARY, &program).unwrap();
    let mut hub = Hub::start_with(program, &["--mesh", "loopback", "--listen", "127.0.0.1:0"]).await;
    let first = hub.plain(&["keys", "create"]).await.ok();
    assert!(first.stderr.contains("root-key take --to FILE"), "it is said from the first minute: {first:?}");
    assert!(hub.log().contains("root-key take --to FILE"));
    let (status, page) = hub.status().await;
    let overdue = &status["coordinator"]["root_key_is_overdue"];
    assert_eq!((&status["well"], overdue), (&true.into(), &false.into()));
    assert!(page.contains("root-key take --to FILE"), "{page}");
    hub.stop().await;
    std::fs::write(beside.path().join("clock-offset-ms"), "3600001").unwrap();
    hub.begin().await;
    let refused = hub.plain(&["keys", "create"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (6, ""));
    let (status, page) = hub.status().await;
    assert_eq!(status["well"], false);
    assert!(page.contains("Something needs a person") && page.contains("root-key take"), "{page}");
    assert!(refused.stderr.contains("root-key take --to FILE"), "{refused:?}");
    assert!(hub.plain(&["nodes"]).await.ok().stderr.contains("root-key take --to FILE"));
    hub.told(&["root-key", "take", "--to", "root"]).await;
    hub.told(&["keys", "create"]).await;
    let (status, page) = hub.status().await;
    assert_eq!((&status["well"], page.contains("root-key")), (&true.into(), false));
}
