//! What a run may use, and that nothing of it is left (row X16), over the whole server. Where the executor can make no
//! control groups these say that they are skipped; that trees are found by descent then is shown in `attacks`.

use super::{Named, exec, real};
use crate::processes::{eventually, is_alive, signal};
use rustix::process::Signal;
use serde_json::Value;

/// Whether this server bounds what runs use; tells where it doesn't.
async fn bounds(named: &Named, test: &str) -> bool {
    let listed = named.world.allod(&["commands", "list"]).await.ok().json();
    let why = &listed["servers"][0]["commands"]["registry"]["unbounded"];
    if let Some(why) = why.as_str() {
        eprintln!("{test}: SKIPPED, {why}");
    }
    why.is_null()
}

/// Every process of a user.
fn of_user(uid: u32) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let theirs = entries.filter(|entry| entry.metadata().is_ok_and(|facts| facts.uid() == uid));
    theirs.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_alive(*pid)).collect()
}

fn ended(document: &Value) -> &Value {
    &document["run"]["state"]["ended"]
}

#[tokio::test]
async fn x16_a_fork_bomb_ends_and_the_machine_goes_on() {
    let named = Named::new().await;
    // Never without both: a bound on the group, and one on a user that nobody else has.
    if !rustix::process::geteuid().is_root() || !bounds(&named, "x16_a_fork_bomb_ends").await {
        return;
    }
    let scratch = named.scratch();
    let bomb = format!(
        "id -u >{0}/uid\ntrap '' TERM HUP\nbomb() {{ bomb & bomb & sleep 1000; }}\nbomb 2>/dev/null",
        scratch.display()
    );
    named.define_script("bomb", &bomb, "processes = 50\ntimeout = \"3s\"").await;
    named.define("greet", &exec("/bin/echo", &["hello"])).await;
    let bombing = named.builder.command(&["run", "bomb"]).spawn().unwrap();
    eventually("it has begun", async || scratch.join("uid").exists().then_some(())).await;
    named.run(&["greet"]).await.ok();
    let ran = bombing.wait_with_output().await.unwrap();
    assert!(!ran.status.success());
    let uid: u32 = std::fs::read_to_string(scratch.join("uid")).unwrap().trim().parse().unwrap();
    assert_eq!(of_user(uid), [0; 0]);
    named.run(&["greet"]).await.ok();
}

#[tokio::test]
async fn x16_a_run_over_its_memory_is_killed_and_says_so() {
    let named = Named::new().await;
    if !bounds(&named, "x16_a_run_over_its_memory_is_killed").await {
        return;
    }
    named.define("hungry", &format!("{}memory = \"64MB\"", exec("/usr/bin/tail", &["/dev/zero"]))).await;
    let ran = named.run(&["hungry"]).await;
    assert_eq!(ran.code, 137, "{ran:?}");
    assert_eq!(ended(&ran.json())["how"], "killed: over its memory of 64 MB");
    // Its own exit status is told where it has one, and what came before that.
    let tail = real("/usr/bin/tail").display().to_string();
    named.define_script("feeds", &format!("{tail} /dev/zero\nexit 7"), "memory = \"64MB\"").await;
    let ran = named.run(&["feeds"]).await;
    assert!([7, 137].contains(&ran.code), "{ran:?}");
    let document = ran.json();
    assert!(ended(&document).to_string().contains("killed: over its memory of 64 MB"), "{document}");
    // What stays below its bound does not hear of it.
    named.define("frugal", &format!("{}memory = \"64MB\"", exec("/bin/echo", &["hello"]))).await;
    named.run(&["frugal"]).await.ok();
}

#[tokio::test]
async fn x16_what_a_run_started_is_gone_also_when_executor_and_shim_are_killed() {
    let named = Named::new().await;
    if !bounds(&named, "x16_what_a_run_started_is_gone").await {
        return;
    }
    let scratch = named.scratch();
    let tree = format!(
        "(trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; echo $$ >{0}/hidden; sleep 1000' &)\n\
         while [ ! -s {0}/hidden ]; do sleep 0.05; done\necho $$ >{0}/main\nsleep 1000",
        scratch.display()
    );
    named.define_script("tree", &tree, "").await;
    let mut asking = named.builder.command(&["run", "tree"]).spawn().unwrap();
    let pid = async |name: &str| {
        eventually("it runs", async || {
            std::fs::read_to_string(scratch.join(name)).ok()?.trim().parse::<u32>().ok()
        })
        .await
    };
    let (main, hidden) = (pid("main").await, pid("hidden").await);
    let status = std::fs::read_to_string(format!("/proc/{main}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    signal(shim, Signal::STOP);
    named.world.kill("executor");
    signal(shim, Signal::KILL);
    eventually("the next life has cleared it away", async || {
        (!is_alive(main) && !is_alive(hidden)).then_some(())
    })
    .await;
    let _ = asking.kill().await;
}
