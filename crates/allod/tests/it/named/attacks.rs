//! The attacks on named commands, each named after its row, through the signed door. The ssh door has the same ones
//! (`tests/peers/gate.sh`).

use super::{Named, exec, real, stdout};
use crate::processes::{eventually, is_alive, signal};
use allod_signing::KeySigner;
use rustix::process::Signal;
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt as _, path::Path};

#[tokio::test]
async fn x1_x2_x3_x4_x11_what_is_more_than_a_name_and_sound_values_is_refused_and_one_line_of_the_record() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let touch = format!("touch {}/ran", scratch.display());
    named.define_script("deploy", &touch, "").await;
    let path = named.script("install", &touch);
    let shell = real("/bin/sh");
    named
        .define(
            "pip_install",
            &format!("exec = [{path:?}, \"--\", \"{{package}}\"]\ninterpreter = [{shell:?}]\nslot = \"package\"\nparams.package = {{ pattern = \".*\", max_length = 60 }}"),
        )
        .await;
    let before = named.record().await.len();
    let hostile = [
        "deploy --force",
        "deploy;id",
        "deploy|id",
        "deploy&&id",
        "$(deploy)",
        "`deploy`",
        "deploy ",
        " deploy",
        "DEPLOY",
        "deploy\n",
        "deploy\r",
        "deploy\u{85}",
        "deploy\u{2028}",
        "dеploy",
        "dep\u{200b}loy",
        "de\u{301}ploy",
        "",
        "../deploy",
        "deploy\",\"decision\":\"allow",
        "\u{1b}[2Jdeploy",
        "deploy*",
        "pip_install_-r/etc/shadow",
        "pip_install_--index-url=http://x",
        "pip_install_$(id)",
        "pip_install_a b",
        "pip_install_'x'",
    ];
    for name in hostile {
        assert_eq!(
            named.run(&["--", name]).await.code,
            if name.starts_with("pip_install_") { 2 } else { 4 },
            "{name:?}"
        );
    }
    for value in [
        "-r/etc/shadow",
        "a b",
        "$(id)",
        "a;b",
        "a\nb",
        "\u{2028}",
        "ä",
        "a'b",
        "a\"b",
        "a*",
        "~",
        "a\\b",
        "",
    ] {
        let word = format!("package={value}");
        assert_eq!(named.run(&["pip_install", &word]).await.refused(2).0, "invalid", "{value:?}");
    }
    assert!(!scratch.join("ran").exists(), "something ran");
    let denied: Vec<Value> = eventually("all refusals are in the record", async || {
        let record = named.record().await;
        let denied: Vec<Value> =
            record.into_iter().skip(before).filter(|line| line["entry"] == "denied").collect();
        (denied.len() >= hostile.len() + 13).then_some(denied)
    })
    .await;
    assert_eq!(denied.len(), hostile.len() + 13);
    let asked = denied.iter().map(|line| line["asked"].as_str().unwrap());
    assert!(asked.clone().all(|asked| asked.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
    assert!(asked.clone().any(|asked| asked == "deploy\\x0a"), "{denied:?}");
    assert!(denied.iter().all(|line| line["who"]["name"] == "builder" && line["said"].is_string()));
}

#[tokio::test]
async fn x6_x20_a_command_gets_its_declared_environment_and_nothing_else() {
    let named = Named::new().await;
    named.define("env", &format!("{}env = {{ COLOR = \"blue\" }}", exec("/usr/bin/env", &[]))).await;
    let ran = named.builder.command(&["--json", "run", "env"]);
    let mut ran = ran;
    for name in
        ["LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "GIT_SSH", "IFS", "TZ", "TMPDIR", "LC_ALL", "LC_EVIL"]
    {
        ran.env(name, "/nonexistent");
    }
    let output = crate::cli::ended(ran.output().await.unwrap()).ok();
    let text = stdout(&output);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let run = output.json()["run"]["id"].as_str().unwrap().to_owned();
    let expected = [
        "ALLOD_CALLER=builder".to_owned(),
        format!("ALLOD_RUN={run}"),
        "COLOR=blue".to_owned(),
        "LANG=C.UTF-8".to_owned(),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    ];
    assert_eq!(lines, expected);

    named.define("status", &exec("/bin/cat", &["/proc/self/status"])).await;
    let status = stdout(&named.run(&["status"]).await.ok());
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs"), field("Umask")), ("1".to_owned(), "0022".to_owned()));
    // SIGPIPE is 13: a broken pipe ends it, as anywhere.
    assert_eq!(u64::from_str_radix(&field("SigIgn"), 16).unwrap() & (1 << 12), 0, "{status}");
    assert_eq!(field("SigBlk"), "0000000000000000");
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Groups"), "");
        assert_ne!(
            field("Uid").split_whitespace().next(),
            Some("0"),
            "a command without run_as has a user of its own"
        );
        assert!(field("CapEff").bytes().all(|byte| byte == b'0'), "{status}");
    }
    named.define("descriptors", &exec("/bin/ls", &["/proc/self/fd"])).await;
    // The last is the folder that is being listed.
    assert_eq!(stdout(&named.run(&["descriptors"]).await.ok()), "0\n1\n2\n3\n");
    named.define("place", &exec("/bin/readlink", &["/proc/self/cwd", "/proc/self/fd/0"])).await;
    assert_eq!(stdout(&named.run(&["place"]).await.ok()), "/\n/dev/null\n");
    named.define("limits", &exec("/bin/cat", &["/proc/self/limits"])).await;
    let limits = stdout(&named.run(&["limits"]).await.ok());
    assert!(
        limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")),
        "{limits}"
    );
    // X21: no terminal to take hold of.
    named
        .define_script("terminal", "if (: </dev/tty) 2>/dev/null; then echo has one; else echo none; fi", "")
        .await;
    assert_eq!(stdout(&named.run(&["terminal"]).await.ok()), "none\n");
}

#[tokio::test]
async fn x3_what_the_kernel_does_not_know_as_a_program_is_not_given_to_a_shell() {
    let named = Named::new().await;
    let scratch = named.scratch();
    for (name, head) in [("words", ""), ("foreign", "\u{7f}ELF\n")] {
        let path = named.script(name, "");
        std::fs::write(&path, format!("{head}touch {}/ran\n", scratch.display())).unwrap();
        named.define(name, &format!("exec = [{path:?}]")).await;
        let (code, message) = named.run(&[name]).await.refused(2);
        assert_eq!(code, "invalid");
        assert!(message.contains("is not a program for this machine"), "{message}");
    }
    assert!(!scratch.join("ran").exists());
}

#[tokio::test]
async fn x15_output_without_end_is_cut_and_an_endless_line_too() {
    let named = Named::new().await;
    named.define_script("flood", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done", "timeout = \"2s\"\noutput_limit = \"64KB\"").await;
    let ran = named.run(&["flood"]).await;
    assert_eq!(ran.code, 124, "{}", ran.stderr);
    let document = ran.json();
    assert_eq!(document["output"]["stdout"].as_str().unwrap().len(), 65_536);
    let end = &document["run"]["state"]["ended"];
    assert_eq!((&end["truncated"], &end["how"]), (&true.into(), &"timeout".into()));
    assert!(end["output_bytes"].as_u64().unwrap() > 65_536);
    named.define_script("line", "head -c 3000000 /dev/zero | tr '\\0' x", "").await;
    let ran = named.run(&["line"]).await.ok().json();
    assert_eq!(ran["output"]["stdout"].as_str().unwrap().len(), 1 << 20, "the usual limit");
}

#[tokio::test]
async fn x16_a_tree_that_hides_ignores_signals_and_forks_is_gone_when_the_time_is_over() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let tree = format!(
        "trap '' TERM HUP INT\n(trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; echo $$ >{0}/hidden; sleep 1000') &\n\
         (sh -c 'echo $$ >{0}/orphan; sleep 1000 &' &)\nwhile [ ! -s {0}/hidden ] || [ ! -s {0}/orphan ]; do sleep 0.05; done\necho $$ >{0}/main\nsleep 1000",
        scratch.display()
    );
    named.define_script("tree", &tree, "timeout = \"3s\"").await;
    let ran = named.run(&["tree"]).await;
    assert_eq!(ran.code, 124, "{ran:?}");
    for name in ["hidden", "main"] {
        let pid: u32 = std::fs::read_to_string(scratch.join(name)).unwrap().trim().parse().unwrap();
        assert!(!is_alive(pid), "{name} lives");
    }
    // What goes on by itself ends with its command, too.
    named
        .define_script("leaves", &format!("setsid sh -c 'echo $$ >{}/left; sleep 1000' >/dev/null 2>&1 &\nwhile [ ! -s {0}/left ]; do sleep 0.05; done", scratch.display()).replace("{0}", &scratch.display().to_string()), "")
        .await;
    named.run(&["leaves"]).await.ok();
    let pid: u32 = std::fs::read_to_string(scratch.join("left")).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid), "a daemon was left behind");
}

#[tokio::test]
async fn x17_when_the_client_goes_a_command_ends_or_finishes_as_it_was_declared() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let script = format!(
        "echo begun; while [ ! -e {0}/go ]; do sleep 0.1; done; touch {0}/$ALLOD_RUN",
        scratch.display()
    );
    named.define_script("ends", &script, "on_disconnect = \"end\"").await;
    named.define_script("finishes", &script, "").await;
    for (name, how) in [("ends", "cancelled"), ("finishes", "exit status 0")] {
        let mut child = named.builder.command(&["run", name]).spawn().unwrap();
        let run = eventually("it runs and is followed", async || {
            let runs = named.world.allod(&["runs", "list"]).await.ok().json();
            let run = runs["servers"][0]["runs"][0].clone();
            (run["name"] == name && run["output_bytes"].as_u64() > Some(0)).then_some(run)
        })
        .await;
        assert!(
            child.try_wait().unwrap().is_none(),
            "nobody followed it: {:?}",
            child.wait_with_output().await
        );
        child.kill().await.unwrap();
        if name == "finishes" {
            std::fs::write(scratch.join("go"), "").unwrap();
        }
        let ended = eventually("it has ended", async || {
            let runs = named.world.allod(&["runs", "list"]).await.ok().json();
            let state = runs["servers"][0]["runs"][0]["state"]["ended"].clone();
            state.is_object().then_some(state)
        })
        .await;
        assert_eq!(ended["how"], how, "{name}");
        let touched = scratch.join(run["id"].as_str().unwrap()).exists();
        assert_eq!(touched, name == "finishes");
    }
}

#[tokio::test]
async fn x18_standard_input_is_closed_unless_declared_and_has_a_limit() {
    let named = Named::new().await;
    named.define("closed", &exec("/bin/cat", &[])).await;
    named.define("open", &format!("{}stdin_limit = \"1KB\"", exec("/bin/cat", &[]))).await;
    let folder = named.builder.home.clone();
    let send = async |name: &str, bytes: usize| {
        named.builder.run_with_input(&folder, &["run", name, "--stdin"], &vec![b'x'; bytes]).await
    };
    assert_eq!(stdout(&named.run(&["closed"]).await.ok()), "");
    assert!(send("closed", 1).await.refused(2).1.contains("takes no standard input"));
    assert_eq!(stdout(&send("open", 1024).await.ok()).len(), 1024);
    assert!(send("open", 1025).await.refused(2).1.contains("at most 1024"));
    assert_eq!(send("open", 512 * 1024 + 1).await.refused(2).0, "too_large");
}

#[tokio::test]
async fn x13_the_same_word_for_the_same_run_runs_it_once_and_answers_the_same() {
    let named = Named::new().await;
    let scratch = named.scratch();
    named.define_script("once", &format!("echo x >>{}/ran; echo said", scratch.display()), "").await;
    let key = ["--idempotency-key", "0123456789abcdef"];
    let first = named.run(&[&["once"], &key[..]].concat()).await.ok();
    let second = named.run(&[&["once"], &key[..]].concat()).await.ok();
    assert_eq!(first.json(), second.json());
    let other = named.run(&[&["once", "more=1"], &key[..]].concat()).await;
    assert_eq!(other.refused(6).0, "conflict");
    assert_eq!(std::fs::read_to_string(scratch.join("ran")).unwrap(), "x\n");
}

#[tokio::test]
async fn x14_two_hundred_calls_of_an_exclusive_command_run_one_at_a_time_and_are_all_recorded() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let script = format!(
        "mkdir {0}/busy || echo two >>{0}/wrong; sleep 0.05; echo ran >>{0}/ran; rmdir {0}/busy",
        scratch.display()
    );
    named.define_script("exclusive", &script, "queue = 30").await;
    let before = named.record().await.len();
    let callers = (0..8_u64).map(|_| {
        let (peer, key) =
            (named.world.peer(), KeySigner::from_openssh(&named.key.to_openssh(), None).unwrap());
        async move {
            let mut client = allod_rpc::client::Client::connect_with_keys(
                peer,
                Box::new(allod_rpc::client::OneKey::new(std::sync::Arc::new(key))),
                Box::new(allod_rpc::client::Forgetful::default()),
            )
            .await
            .unwrap();
            let mut begun = 0;
            for _ in 0..25 {
                let ask = allod_proto::messages::named::CommandRun {
                    name: "exclusive".to_owned(),
                    params: std::collections::BTreeMap::new(),
                    stdin: None,
                    detach: true,
                };
                match client.call(ask).await {
                    Ok(_) => begun += 1,
                    Err(error) => assert_eq!(error.code(), allod_proto::FaultCode::Busy, "{error}"),
                }
            }
            begun
        }
    });
    let at_once = async {
        let mut calling = tokio::task::JoinSet::new();
        callers.for_each(|caller| drop(calling.spawn_local(caller)));
        calling.join_all().await
    };
    let begun: usize = tokio::task::LocalSet::new().run_until(at_once).await.into_iter().sum();
    assert!(begun >= 31, "{begun} of 200 were taken in");
    let ran = || std::fs::read_to_string(scratch.join("ran")).unwrap_or_default().lines().count();
    eventually("all that were taken in have run", async || (ran() == begun).then_some(())).await;
    assert!(!scratch.join("wrong").exists(), "two ran at once");
    let all_recorded = eventually("every outcome is recorded", async || {
        let record = named.record().await;
        let of = |kind: &str, what: &dyn Fn(&Value) -> bool| {
            record.iter().skip(before).filter(|line| line["entry"] == kind && what(line)).count()
        };
        let intents = of("intent", &|line| line["command"] == "command.run");
        let outcomes = of("outcome", &|_| true);
        (intents == 200 && outcomes == 200).then_some(())
    });
    all_recorded.await;
}

#[tokio::test]
async fn x22_what_is_not_there_and_what_is_not_allowed_look_alike() {
    let named = Named::new().await;
    named.define("mine", &exec("/bin/true", &[])).await;
    let folder = named.world.state.join("commands.d");
    std::fs::write(folder.join("theirs.toml"), format!("summary = \"s\"\n{}", exec("/bin/true", &[])))
        .unwrap();
    named.is_in_force("theirs").await;
    let answer = async |name: &str| {
        let fault = named.run(&[name]).await.json()["fault"].clone();
        let fault = fault.to_string().replace(name, "NAME");
        let request = fault.find("\"request\"").map_or(fault.len(), |at| at);
        fault[..request].to_owned()
    };
    assert_eq!(answer("theirs").await, answer("nothing").await);
    named.world.allod(&["run", "theirs"]).await.ok();
    // The same holds of runs.
    let runs = named.world.allod(&["runs", "list"]).await.ok().json();
    let theirs = runs["servers"][0]["runs"][0]["id"].as_str().unwrap().to_owned();
    for verb in ["attach", "cancel"] {
        let answer = async |run: &str| {
            let fault = named.builder.run(&["runs", verb, run]).await.json()["fault"].clone();
            let said = (fault["code"].clone(), fault["message"].to_string(), fault["hint"].to_string());
            (said.0, said.1.replace(run, "RUN"), said.2.replace(run, "RUN"))
        };
        assert_eq!(answer(&theirs).await, answer("run-0123456789ab").await, "{verb}");
    }
}

#[tokio::test]
async fn x24_an_executor_killed_in_the_middle_ends_the_tree_and_says_that_nobody_knows() {
    let named = Named::new().await;
    let scratch = named.scratch();
    named
        .define_script(
            "slow",
            &format!("echo $$ >{}/pid; sleep 1000", scratch.display()),
            "timeout = \"10m\"",
        )
        .await;
    let key = ["--idempotency-key", "fedcba9876543210"];
    named.run(&[&["slow", "--detach"], &key[..]].concat()).await.ok();
    let pid: u32 = eventually("it runs", async || {
        std::fs::read_to_string(scratch.join("pid")).ok()?.trim().parse().ok()
    })
    .await;
    let before = named.world.pid("executor");
    signal(before, Signal::KILL);
    named.world.is_back("executor", before).await;
    eventually("its tree is gone", async || (!is_alive(pid)).then_some(())).await;
    let outcome = eventually("its outcome is in the record", async || {
        let output = named.world.allod(&["audit", "show", "--last", "5000"]).await;
        if output.code != 0 {
            return None;
        }
        let record = named.record().await;
        let intent =
            record.iter().find(|line| line["entry"] == "intent" && line["target"] == "slow")?["seq"].clone();
        record.iter().find(|line| line["entry"] == "outcome" && line["intent"] == intent).cloned()
    })
    .await;
    assert_eq!(outcome["result"], "unknown", "{outcome}");
    // Whoever asks again with the same word does not run it again without knowing.
    let again = named.run(&[&["slow", "--detach"], &key[..]].concat()).await;
    assert_eq!(again.refused(13).0, "unknown_outcome");
    let listed = named.builder.run(&["runs", "list"]).await.ok().json()["servers"][0]["runs"][0].clone();
    let end = &listed["state"]["ended"];
    assert_eq!(
        (&listed["name"], &end["fault"]["code"]),
        (&"slow".into(), &"unknown_outcome".into()),
        "{listed}"
    );
    named.world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn x24_a_run_that_ended_is_answered_with_its_end_also_when_the_executor_began_anew() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let script = format!("echo ran >>{}/ran; echo said; exit 3", scratch.display());
    named.define_script("fails", &script, "").await;
    let key = ["--idempotency-key", "0123456789fedcba"];
    let ask = [&["fails"], &key[..]].concat();
    let first = named.run(&ask).await;
    assert_eq!((first.code, stdout(&first).as_str()), (3, "said\n"));
    let before = named.world.kill("executor");
    named.world.is_back("executor", before).await;
    let second = eventually("the server answers again", async || {
        let again = named.run(&ask).await;
        (again.code != 7).then_some(again)
    })
    .await;
    assert_eq!(second.code, 3, "{second:?}");
    let (first, second) = (first.json()["run"].clone(), second.json());
    assert_eq!(second["run"]["state"], first["state"]);
    assert_eq!((&second["run"]["id"], &second["run"]["output_gone"]), (&first["id"], &true.into()));
    assert_eq!(second["output"]["stdout"], "");
    let plain = named.builder.plain_in(&named.builder.home, &[&["run"], &ask[..]].concat()).await;
    assert!(plain.code == 3 && plain.stderr.contains("printed is not kept any more"), "{plain:?}");
    let runs = named.builder.run(&["runs", "list"]).await.ok().json();
    assert_eq!(runs["servers"][0]["runs"][0]["state"]["ended"]["code"], 3, "{runs}");
    assert_eq!(std::fs::read_to_string(scratch.join("ran")).unwrap(), "ran\n");
}

#[tokio::test]
async fn x7_x8_x9_a_program_that_somebody_else_could_change_is_not_run() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let copy = |to: &Path| {
        std::fs::copy(real("/bin/true"), to).unwrap();
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    copy(&scratch.join("program"));
    named.define("open", &format!("exec = [{:?}]", scratch.join("program"))).await;
    assert_eq!(named.run(&["open"]).await.refused(10).0, "untrusted");
    copy(&named.scripts.path().join("program"));
    let link = scratch.join("link");
    std::os::unix::fs::symlink(named.scripts.path().join("program"), &link).unwrap();
    named.define("linked", &format!("exec = [{link:?}]")).await;
    assert_eq!(named.run(&["linked"]).await.refused(10).0, "untrusted");
    let program = named.scripts.path().join("program");
    let digest = allod_proto::Digest::of(std::fs::read(&program).unwrap());
    named.define("exact", &format!("exec = [{program:?}]\ndigest = \"sha256:{digest}\"")).await;
    named.run(&["exact"]).await.ok();
    std::fs::copy(real("/bin/false"), &program).unwrap();
    let refused = named.run(&["exact"]).await.refused(10);
    assert!(refused.1.contains("is not the file that exact was declared for"), "{refused:?}");
}
