//! Apps with users of their own. Only root can give them, so these say plainly when they are skipped.

use crate::support::*;
use allod_executor::isolation::Isolation;
use std::{os::unix::fs::MetadataExt as _, time::Duration};

/// Each test has its own: what clears one app's user away must not meet another test's.
fn own(base: u32) -> Isolation {
    Isolation::OwnUids { base, agent: 61_100, proxy: 61_101 }
}

fn skipped(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{test}: SKIPPED, only root can give apps users of their own");
    }
    !root
}

#[tokio::test]
async fn an_app_with_a_user_of_its_own_reaches_nothing_of_others() {
    if skipped("an_app_with_a_user_of_its_own_reaches_nothing_of_others") {
        return;
    }
    let own = own(62_000);
    let place = place_with(own);
    let (instances, _) = place.open().await;
    let other: allod_proto::AppRef = "other".parse().unwrap();
    own.create_app_folders(&place.layout, &other).unwrap();
    std::fs::write(place.layout.data(&other).join("theirs"), "x").unwrap();
    let tries = format!(
        "cd /; id -u; id -G; touch \"$HOME/mine\" \"$TMPDIR/mine\" && echo own\n\
         cat {0}/theirs; ls {0}; ls {1}; ls {2}; touch {3}/new; ls {4}; echo x > {3}/run\n",
        place.layout.data(&other).display(),
        place.layout.executor().display(),
        place.layout.sockets().display(),
        place.files.display(),
        place.layout.logs(&other).display(),
    );
    place.script("run", &tries);
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    until_exit(&instances, &instance.id).await;
    let log = place.log(&instance.id);
    let said: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("out ")).collect();
    let uid = instance.uid.unwrap().to_string();
    assert_eq!(said, [uid.as_str(), uid.as_str(), "own"], "{log:?}");
    let refused =
        log.iter().filter(|line| line.starts_with("err ") && line.to_lowercase().contains("denied")).count();
    assert_eq!(refused, 7, "{log:?}");
    let data = std::fs::metadata(place.data()).unwrap();
    assert_eq!((Some(data.uid()), data.mode() & 0o777), (instance.uid, 0o700));
}

#[tokio::test]
async fn an_app_that_kills_its_own_shim_leaves_nothing_behind() {
    if skipped("an_app_that_kills_its_own_shim_leaves_nothing_behind") {
        return;
    }
    let own = own(62_100);
    let place = place_with(own);
    let (instances, _) = place.open().await;
    // It gets out of its session, its group and its environment first.
    let escape =
        "env -i setsid sleep 1000 & echo $! > \"$ALLOD_DATA/pid\"\nsleep 0.2\nkill -9 $PPID\nsleep 1000\n";
    place.script("run", escape);
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let daemon = pid_in(place.data().join("pid")).await;
    assert_eq!(until_exit(&instances, &instance.id).await, "shim lost");
    eventually("nothing is left", || !is_alive(daemon)).await;
    assert!(!is_alive(instance.pid.unwrap()));
}

#[tokio::test]
async fn clearing_one_app_away_spares_another_and_its_own_other_copies() {
    if skipped("clearing_one_app_away_spares_another_and_its_own_other_copies") {
        return;
    }
    let own = own(62_200);
    let place = place_with(own);
    let (instances, _) = place.open().await;
    place.script("run", "while :; do sleep 1; done\n");
    let (release, other) = (place.release(&[SH, "./run"]), place.release_of("other", &[SH, "./run"]));
    let (one, two) = (start(&instances, &release).await, start(&instances, &release).await);
    let three = start(&instances, &other).await;
    instances.stop(&one.id, Duration::ZERO).await.unwrap();
    assert!(is_alive(two.pid.unwrap()) && is_alive(three.pid.unwrap()));
    instances.stop(&two.id, Duration::ZERO).await.unwrap();
    assert!(is_alive(three.pid.unwrap()));
    assert_ne!(two.uid, three.uid);
    instances.stop_all().await;
}

#[tokio::test]
async fn a_shim_with_a_user_of_its_own_ends_when_nobody_can_come_for_the_exit() {
    if skipped("a_shim_with_a_user_of_its_own_ends_when_nobody_can_come_for_the_exit") {
        return;
    }
    let own = own(62_300);
    let place = place_with(own);
    let (instances, _) = place.open().await;
    place.script("run", "while [ ! -e \"$ALLOD_DATA/go\" ]; do sleep 0.02; done\n");
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let shim = parent(instance.pid.unwrap());
    instances.close().await;
    std::fs::write(place.data().join("go"), "").unwrap();
    eventually("the program has ended", || !is_alive(instance.pid.unwrap())).await;
    assert!(is_alive(shim), "an executor may come back and ask");
    std::fs::remove_dir_all(place.layout.sockets()).unwrap();
    eventually("the shim has ended", || !is_alive(shim)).await;
}
