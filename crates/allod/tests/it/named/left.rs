//! What a run leaves behind when its shim is killed, alone or with the executor, or the program that asked for it: nothing,
//! and a record that says so.

use super::Named;
use crate::processes::{eventually, is_alive, signal};
use rustix::process::Signal;

#[tokio::test]
async fn x24_a_shim_killed_with_and_without_the_executor_leaves_nothing_and_the_next_one_has_its_turn() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let folder = scratch.display();
    // Somebody who is of no group of the command's, and somebody who is gone from its tree.
    let script = format!(
        "[ -e {folder}/quick ] && exit 0\n(setsid sh -c 'echo $$ >{folder}/hidden; exec sleep 1000' >/dev/null 2>&1 &)\n\
         while [ ! -s {folder}/hidden ]; do sleep 0.05; done\necho $$ >{folder}/main\nsleep 1000"
    );
    named.define_script("slow", &script, "timeout = \"10m\"").await;
    for (number, with_executor) in [(1, false), (2, true)] {
        let key = ["--idempotency-key", &format!("killed-shim-number-{number}")];
        named.run(&[&["slow", "--detach"], &key[..]].concat()).await.ok();
        let pids = eventually("it runs", async || {
            let pid = |name| std::fs::read_to_string(scratch.join(name)).ok()?.trim().parse::<u32>().ok();
            Some([pid("main")?, pid("hidden")?])
        })
        .await;
        let shims = named.world.own_processes("shim");
        let before = named.world.pid("executor");
        if with_executor {
            signal(before, Signal::KILL);
        }
        shims.iter().for_each(|shim| signal(*shim, Signal::KILL));
        if with_executor {
            named.world.is_back("executor", before).await;
        }
        eventually("nothing is left", async || pids.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
        let again = eventually("the server answers", async || {
            let again = named.run(&[&["slow", "--detach"], &key[..]].concat()).await;
            (again.code != 7).then_some(again)
        })
        .await;
        assert_eq!(again.refused(13).0, "unknown_outcome");
        let record = named.record().await;
        let ended = record.iter().rev().find(|line| line["entry"] == "outcome").unwrap();
        assert_eq!(ended["result"], "unknown", "{ended}");
        // It is an exclusive command: nobody else's turn comes before it has ended.
        std::fs::write(scratch.join("quick"), "").unwrap();
        named.run(&["slow"]).await.ok();
        for name in ["quick", "main", "hidden"] {
            std::fs::remove_file(scratch.join(name)).unwrap();
        }
    }
    named.world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn few_shims_wait_for_the_next_run_and_one_that_was_killed_is_not_used() {
    let named = Named::new().await;
    assert_eq!(named.world.own_processes("shim"), [0; 0], "no command was run yet");
    named.define_script("quick", "exit 0", "concurrency = 8\nper_minute = 6000").await;
    let runs = (0..8).map(|_| async { named.run(&["quick"]).await.ok() });
    futures_util::future::join_all(runs).await;
    let waiting = || ["shim", "launcher"].map(|word| named.world.own_processes(word).len());
    for word in ["shim", "launcher"] {
        eventually("two wait", async || (waiting() == [2, 2]).then_some(())).await;
        named.world.own_processes(word).iter().for_each(|pid| signal(*pid, Signal::KILL));
        eventually("those are gone", async || (waiting() == [0, 0]).then_some(())).await;
        named.run(&["quick"]).await.ok();
    }
    let executor = named.world.pid("executor");
    eventually("two wait", async || (waiting() == [2, 2]).then_some(())).await;
    signal(executor, Signal::KILL);
    eventually("nothing waits for one that is gone", async || (waiting() == [0, 0]).then_some(())).await;
    named.world.is_back("executor", executor).await;
    let again = eventually("the server answers", async || {
        let again = named.run(&["quick"]).await;
        (again.code != 7).then_some(again)
    });
    again.await.ok();
}

#[tokio::test]
async fn x17_when_the_gates_program_is_killed_a_command_ends_or_finishes_as_it_was_declared() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let folder = scratch.display();
    let script = format!("echo $$ >{folder}/pid; while [ ! -e {folder}/go ]; do sleep 0.1; done; exit 0");
    named.define_script("ends", &script, "timeout = \"10m\"\non_disconnect = \"end\"").await;
    named.define_script("finishes", &script, "timeout = \"10m\"").await;
    for (name, how) in [("ends", "cancelled"), ("finishes", "exit status 0")] {
        for mut asked in [named.as_sshd_begins_it(name), named.on_the_machine(&[name])] {
            let mut seq = 0;
            named.lines_after(&mut seq).await;
            let mut child = asked.spawn().unwrap();
            let pid: u32 = eventually("it runs", async || {
                std::fs::read_to_string(scratch.join("pid")).ok()?.trim().parse().ok()
            })
            .await;
            child.kill().await.unwrap();
            if name == "finishes" {
                std::fs::write(scratch.join("go"), "").unwrap();
            }
            let mut lines = Vec::new();
            let end = eventually("its end is in the record", async || {
                lines.extend(named.lines_after(&mut seq).await);
                let end = lines.iter().find(|line| line["reply"]["end"].is_object());
                end.map(|line| line["reply"]["end"]["how"].clone())
            })
            .await;
            assert_eq!(end, how);
            assert!(!is_alive(pid), "{name} goes on");
            let _ = std::fs::remove_file(scratch.join("go"));
            std::fs::remove_file(scratch.join("pid")).unwrap();
        }
    }
}
