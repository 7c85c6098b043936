//! Instances in control groups. Where none can be made these say that they are skipped, and what they would show is shown by
//! descent in `instances`.

use crate::support::*;
use allod_executor::{
    groups::{Base, Groups},
    isolation::Isolation,
};
use allod_proto::{executor::Release, spec::UnitKind};
use std::{path::PathBuf, time::Duration};

fn skipped(test: &str, place: &Place) -> bool {
    let groups = Groups::open(&Base::Own, place.layout.root());
    if !groups.can_be_made() {
        println!("{test}: SKIPPED, {}", groups.why_not());
    }
    !groups.can_be_made()
}

/// The control groups of a process, those that Allod made, and what is in each.
fn groups_of(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter(|line| line.contains("/allod/")).map(str::to_owned).collect()
}

fn bounded(place: &Place, start: &[&str], memory: u64) -> Release {
    let mut release = place.release(start);
    for unit in release.spec.units.values_mut() {
        if let UnitKind::Process(process) = &mut unit.kind {
            process.resources.memory_bytes = Some(memory);
        }
    }
    release
}

/// The folders that an instance's record names.
fn folders(place: &Place, id: &allod_proto::InstanceId) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(place.layout.instance(id)).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let group = record.get("group").and_then(|group| group.as_array()).cloned().unwrap_or_default();
    group.iter().map(|path| path.as_str().unwrap().into()).collect()
}

#[tokio::test]
async fn without_groups_an_instance_starts_and_its_tree_ends_by_descent() {
    let mut place = place();
    place.base = Base::None;
    let (instances, _) = place.open().await;
    place.script(
        "run",
        "(trap '' TERM; setsid sh -c 'echo $$ > \"$ALLOD_DATA/pid\"; sleep 1000' &)\nsleep 1000",
    );
    let instance = start(&instances, &bounded(&place, &[SH, "./run"], 64 << 20)).await;
    let daemon = pid_in(place.data().join("pid")).await;
    assert_eq!((groups_of(daemon).len(), folders(&place, &instance.id).len()), (0, 0));
    instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn everything_of_an_instance_is_in_its_group_but_for_its_shim_and_the_group_goes_with_it() {
    let place = place();
    if skipped("everything_of_an_instance_is_in_its_group", &place) {
        return;
    }
    let (instances, _) = place.open().await;
    place.script("run", "(setsid sh -c 'echo $$ > \"$ALLOD_DATA/pid\"; sleep 1000' &)\nsleep 1000");
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let (main, daemon) = (instance.pid.unwrap(), pid_in(place.data().join("pid")).await);
    let group = groups_of(main);
    assert!(
        !group.is_empty() && group.iter().all(|line| line.ends_with(&format!("/app-{}", instance.id))),
        "{group:?}"
    );
    assert_eq!(groups_of(daemon), group);
    let shim = parent(main);
    assert_eq!(groups_of(shim), groups_of(std::process::id()), "a shim outlives what it tells the end of");
    let folders = folders(&place, &instance.id);
    assert!(folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
    assert!(!is_alive(daemon));
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}

#[tokio::test]
async fn an_instance_over_its_memory_is_killed_and_says_so_and_one_that_forks_without_end_is_bounded() {
    let place = place();
    let groups = Groups::open(&Base::Own, place.layout.root());
    if !groups.bound_memory() || !groups.bound_processes() {
        println!("an_instance_over_its_memory: SKIPPED, {}", groups.why_not());
        return;
    }
    let (instances, _) = place.open().await;
    let instance = start(&instances, &bounded(&place, &["tail", "/dev/zero"], 32 << 20)).await;
    assert_eq!(until_exit(&instances, &instance.id).await, "killed: over its memory of 32 MB");
    place.script("run", "sleep 1000");
    let instance = start(&instances, &bounded(&place, &[SH, "./run"], 32 << 20)).await;
    let bound = |name: &str| {
        let mut found = folders(&place, &instance.id).into_iter().map(|folder| folder.join(name));
        let text = found.find_map(|path| std::fs::read_to_string(path).ok());
        text.map(|text| text.trim().to_owned())
    };
    assert_eq!(bound("pids.max").as_deref(), Some("4096"));
    instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
}

#[tokio::test]
async fn a_check_and_a_release_command_have_groups_of_their_own_that_go_with_them() {
    let place = place();
    if skipped("a_check_and_a_release_command_have_groups_of_their_own", &place) {
        return;
    }
    let (instances, _) = place.open().await;
    place.script("run", "sleep 1000");
    place.script("check", "cat /proc/self/cgroup > \"$ALLOD_DATA/$1\"; setsid sleep 1000 & exit 3");
    let release = place.release(&[SH, "./run"]);
    let instance = start(&instances, &release).await;
    let argv = |word: &str| [SH, "./check", word].map(str::to_owned);
    let patience = Duration::from_secs(20);
    let ran = instances.check(&instance.id, &release, &argv("checked"), [].into(), patience).await.unwrap();
    assert_eq!(ran.exit, "exit status 3");
    instances.run_once(&release, &argv("ran"), [].into(), patience).await.unwrap();
    for (file, group) in
        [("checked", format!("/check-{}-", instance.id)), ("ran", "/app-release-".to_owned())]
    {
        let text = std::fs::read_to_string(place.data().join(file)).unwrap();
        assert!(text.contains(&group), "{text}");
    }
    assert!(instances.get(&instance.id).unwrap().exit.is_none(), "the end of a check is not the instance's");
    let folders = folders(&place, &instance.id);
    eventually("only the instance's group is left", || {
        folders.iter().all(|folder| {
            let above = std::fs::read_dir(folder.parent().unwrap()).unwrap().filter_map(Result::ok);
            above.filter(|entry| entry.path().is_dir()).count() == 1
        })
    })
    .await;
    instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
}

#[tokio::test]
async fn the_next_life_takes_an_instance_back_with_its_group_and_clears_away_what_is_nobodys() {
    let place = place();
    if skipped("the_next_life_takes_an_instance_back_with_its_group", &place) {
        return;
    }
    let (instances, _) = place.open().await;
    place.script("run", "setsid sleep 1000 & echo $! > \"$ALLOD_DATA/pid.$ALLOD_INSTANCE\"\nsleep 1000");
    let release = place.release(&[SH, "./run"]);
    let (kept, lost) = (start(&instances, &release).await, start(&instances, &release).await);
    let daemon = pid_in(place.data().join(format!("pid.{}", lost.id))).await;
    let group = groups_of(kept.pid.unwrap());
    let gone = folders(&place, &lost.id);
    instances.close().await;
    drop(instances);
    // Nobody knows of it any more: its record is gone, and its shim.
    std::fs::remove_file(place.layout.instance(&lost.id)).unwrap();
    kill(parent(lost.pid.unwrap()));
    let (instances, found) = place.open().await;
    assert_eq!(found.adopted, std::slice::from_ref(&kept.id));
    assert!(!is_alive(daemon) && !is_alive(lost.pid.unwrap()));
    assert!(gone.iter().all(|folder| !folder.exists()), "{gone:?}");
    assert_eq!(groups_of(kept.pid.unwrap()), group);
    instances.stop(&kept.id, Duration::from_millis(100)).await.unwrap();
    assert_eq!(folders(&place, &kept.id).iter().filter(|folder| folder.exists()).count(), 0);
}

#[tokio::test]
async fn an_app_with_a_user_of_its_own_can_not_leave_its_group_nor_change_its_bounds() {
    let place = place_with(Isolation::OwnUids { base: 62_700, agent: 61_100, proxy: 61_101 });
    if !rustix::process::geteuid().is_root() || skipped("an_app_can_not_leave_its_group", &place) {
        return;
    }
    let (instances, _) = place.open().await;
    let tries = "read -r folders < \"$ALLOD_DATA/folders\"\nfor folder in $folders; do\n\
         for file in cgroup.procs memory.limit_in_bytes memory.max pids.max cgroup.kill; do\n\
         for at in $folder $folder/.. $folder/../../..; do\n\
         [ ! -e $at/$file ] || { (echo $$ > $at/$file) 2>&1 && echo changed $at/$file; }\n\
         done; done; mkdir $folder/mine && echo made\ndone\necho tried; cat /proc/self/cgroup; sleep 1000";
    place.script("run", tries);
    let isolation = place.isolation;
    isolation.create_app_folders(&place.layout, &app()).unwrap();
    let fifo = place.data().join("folders");
    assert!(std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status().unwrap().success());
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let folders = folders(&place, &instance.id);
    let words: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    tokio::task::spawn_blocking(move || std::fs::write(fifo, words.join(" ") + "\n")).await.unwrap().unwrap();
    eventually("it has tried", || place.log(&instance.id).iter().any(|line| line.contains("0::/"))).await;
    let log = place.log(&instance.id);
    assert!(!log.iter().any(|line| line.contains("changed") || line.contains("made")), "{log:?}");
    let still =
        log.iter().filter(|line| line.contains(&format!("/app-{}", instance.id)) && line.contains(":/"));
    assert!(still.count() >= folders.len(), "{log:?}");
    instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
}
