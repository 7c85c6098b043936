//! Named commands through the signed door, as the attacks on such a thing go: each test is named after its row. The ssh
//! door has the same ones (`gate.rs`), and the registry on disk its own (`executor/src/named/store/tests.rs`).

use crate::{
    cli::{Cli, Output},
    processes::{eventually, is_alive, signal},
    world::World,
};
use allod_signing::{KeySigner, Signer as _};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// A server with commands, and a machine that may run them.
struct Named {
    world: World,
    key: KeySigner,
    builder: Cli,
    scripts: tempfile::TempDir,
}

impl Named {
    async fn new() -> Self {
        let world = World::up().await;
        let key = world.enrol("builder", 61, &["--role", "caller"]).await;
        let builder = world.person("builder", &key);
        let scripts = crate::world::fresh_folder();
        Self { world, key, builder, scripts }
    }

    /// A script that nobody but us may write, in a folder that its commands may.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scripts.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Where commands may write.
    fn scratch(&self) -> PathBuf {
        let folder = self.scripts.path().join("scratch");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    /// Puts a definition where root puts it, and waits until it is in force.
    async fn define(&self, name: &str, text: &str) {
        let text = format!("summary = \"{name}\"\ncallers = [\"builder\"]\n{text}");
        std::fs::write(self.world.state.join("commands.d").join(format!("{name}.toml")), text).unwrap();
        self.is_in_force(name).await;
    }

    async fn is_in_force(&self, name: &str) {
        eventually(&format!("{name} is in force"), async || {
            let listed = self.world.allod(&["commands", "list"]).await.ok().json();
            let commands = &listed["servers"][0]["commands"];
            let complaints = commands["registry"]["complaints"].to_string();
            assert!(!complaints.contains(name), "{complaints}");
            commands["definitions"].to_string().contains(&format!("\"name\":\"{name}\"")).then_some(())
        })
        .await;
    }

    /// The same for a script.
    async fn define_script(&self, name: &str, script: &str, more: &str) {
        let path = self.script(name, script);
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        self.define(name, &format!("exec = [{path:?}]\ninterpreter = [{shell:?}]\n{more}")).await;
    }

    async fn run(&self, words: &[&str]) -> Output {
        self.builder.run(&[&["run"], words].concat()).await
    }

    /// Lines of the record, as values.
    async fn record(&self) -> Vec<Value> {
        let document = self.world.allod(&["audit", "show", "--last", "5000"]).await.ok().json();
        let lines = document["lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line.as_str().map_or(line.clone(), |text| serde_json::from_str(text).unwrap()))
            .collect()
    }
}

fn stdout(output: &Output) -> String {
    output.json()["output"]["stdout"].as_str().unwrap().to_owned()
}

fn real(program: &str) -> PathBuf {
    std::fs::canonicalize(program).unwrap()
}

fn exec(program: &str, words: &[&str]) -> String {
    let path = real(program).to_string_lossy().into_owned();
    let all: Vec<&str> = std::iter::once(path.as_str()).chain(words.iter().copied()).collect();
    format!("exec = {all:?}\n")
}

#[tokio::test]
async fn a_machine_runs_exactly_its_commands_and_gets_their_output_and_exit_code() {
    let named = Named::new().await;
    assert_eq!(named.run(&["greet"]).await.refused(4).0, "not_allowed", "an empty registry allows nothing");
    named.define_script("greet", "echo \"hello $1\"; echo oops >&2; exit $2", "").await;
    let path = named.scripts.path().join("greet");
    let text = format!(
        "exec = [{path:?}, \"{{whom}}\", \"{{code}}\"]\ninterpreter = [{:?}]\n\
         params.whom = {{ choice = [\"ana\", \"bob\"] }}\nparams.code = {{ integer = [0, 9] }}\n",
        real("/bin/sh")
    );
    named.define("greet", &text).await;
    let ran = eventually("the new definition is in force", async || {
        let ran = named.run(&["greet", "whom=bob", "code=3"]).await;
        (ran.code == 3).then_some(ran)
    })
    .await;
    let document = ran.json();
    assert_eq!(document["output"]["stdout"], "hello bob\n", "{document}");
    assert_eq!(document["output"]["stderr"], "oops\n");
    assert_eq!(document["run"]["state"]["ended"]["how"], "exit status 3");
    assert_eq!(named.run(&["greet", "whom=ana", "code=0"]).await.ok().code, 0);
    // Without --json the bytes are the command's own.
    let plain = named.builder.plain_in(&named.builder.home, &["run", "greet", "whom=ana", "code=7"]).await;
    assert_eq!((plain.code, plain.stdout.as_str()), (7, "hello ana\n"), "{plain:?}");
    assert!(plain.stderr.contains("oops"));
    // What it may run is what it is told, and nothing else of the server.
    let can = named.builder.run(&["can"]).await.ok().json();
    assert_eq!(can["servers"][0]["can"]["named"][0]["name"], "greet", "{can}");
    assert_eq!(named.builder.run(&["audit", "show"]).await.refused(4).0, "not_allowed");
    assert_eq!(named.builder.run(&["commands", "history", "greet"]).await.refused(4).0, "not_allowed");
}

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
        // The reply of the call comes after two seconds; then the client follows.
        tokio::time::sleep(Duration::from_millis(2500)).await;
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
    assert_eq!(again.refused(6).0, "conflict");
    named.world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn d19_a_command_that_takes_a_second_yes_runs_once_for_each_and_never_on_ones_own() {
    let named = Named::new().await;
    let scratch = named.scratch();
    let path = named.script("danger", &format!("echo $1 >>{}/ran", scratch.display()));
    let shell = real("/bin/sh");
    named
        .define("danger", &format!("exec = [{path:?}, \"{{what}}\"]\ninterpreter = [{shell:?}]\napproval = true\nparams.what = {{ choice = [\"a\", \"b\"] }}"))
        .await;
    let refused = named.run(&["danger", "what=a"]).await.refused(9);
    assert_eq!(refused.0, "confirmation");
    // The owner may run it, and not on their own yes.
    let owner = named.world.owner().fingerprint().to_string();
    let approve = async |cli: &Cli, what: &str, caller: &str| {
        cli.run(&["commands", "approve", "danger", what, "--caller", caller]).await
    };
    approve(&named.world.cli, "what=a", &owner).await.ok();
    assert_eq!(named.world.allod(&["run", "danger", "what=a"]).await.refused(9).0, "confirmation");
    assert_eq!(approve(&named.builder, "what=a", "builder").await.refused(4).0, "not_allowed");
    approve(&named.world.cli, "what=a", "builder").await.ok();
    assert_eq!(named.run(&["danger", "what=b"]).await.refused(9).0, "confirmation", "another parameter");
    named.run(&["danger", "what=a"]).await.ok();
    assert_eq!(named.run(&["danger", "what=a"]).await.refused(9).0, "confirmation", "each is for one run");
    let long = ["commands", "approve", "danger", "what=a", "--caller", "builder", "--within", "2h"];
    assert_eq!(named.world.allod(&long).await.refused(2).0, "invalid");
    assert_eq!(std::fs::read_to_string(scratch.join("ran")).unwrap(), "a\n");
}

#[tokio::test]
async fn d6_d10_d11_an_owner_changes_the_registry_and_a_broken_file_leaves_what_stood() {
    let named = Named::new().await;
    let file = named.world.state.join("greet.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let add = async || named.world.allod(&["commands", "add", file.to_str().unwrap()]).await;
    write("summary = \"Say it\"\nexec = [\"/bin/true\"");
    assert_eq!(add().await.refused(2).0, "invalid");
    write(&format!("summary = \"Say it\"\n{}run_as = \"root\"", exec("/bin/echo", &["hi"])));
    assert_eq!(add().await.refused(4).0, "not_allowed");
    write(&format!("summary = \"Say it\"\n{}callers = [\"builder\"]", exec("/bin/echo", &["hi"])));
    add().await.ok();
    assert_eq!(stdout(&named.run(&["greet"]).await.ok()), "hi\n");
    assert_eq!(
        named.builder.run(&["commands", "add", file.to_str().unwrap()]).await.refused(4).0,
        "not_allowed"
    );
    let broken = named.world.state.join("commands.d/broken.toml");
    std::fs::write(&broken, "exec = ").unwrap();
    eventually("the broken file is told", async || {
        let listed = named.world.allod(&["commands", "list"]).await.ok().stdout;
        listed.contains("broken.toml:1").then_some(())
    })
    .await;
    assert_eq!(stdout(&named.run(&["greet"]).await.ok()), "hi\n", "what stood stands");
    std::fs::remove_file(&broken).unwrap();
    eventually("it is good again", async || {
        named.world.allod(&["commands", "rm", "greet"]).await.stdout.contains("\"ok\":true").then_some(())
    })
    .await;
    assert_eq!(named.run(&["greet"]).await.refused(4).0, "not_allowed");
    let history = named.world.allod(&["commands", "history", "greet"]).await.ok().json();
    let changes = history["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{history}");
    assert!(changes[0]["changes"][0].as_str().unwrap().starts_with("MORE: greet is new"));
    let notes = named.record().await;
    let notes = notes.iter().filter(|line| line["what"] == "registry").count();
    assert!(notes >= 3, "{notes} changes and complaints in the record");
}

#[tokio::test]
async fn d13_d15_a_narrowed_key_a_revoked_key_and_a_limit_a_minute() {
    let named = Named::new().await;
    named.define("one", &exec("/bin/true", &[])).await;
    named.define("two", &format!("{}per_minute = 3", exec("/bin/true", &[]))).await;
    let key = named.world.enrol("builder", 62, &["--role", "caller", "--commands", "one"]).await;
    let narrowed = named.world.person("narrowed", &key);
    narrowed.run(&["run", "one"]).await.ok();
    assert_eq!(narrowed.run(&["run", "two"]).await.refused(4).0, "not_allowed");
    for _ in 0..3 {
        named.run(&["two"]).await.ok();
    }
    assert_eq!(named.run(&["two"]).await.refused(6).0, "too_many");
    named.world.allod(&["keys", "revoke", &named.key.fingerprint().to_string()]).await.ok();
    assert_eq!(named.run(&["one"]).await.refused(3).0, "refused");
    narrowed.run(&["run", "one"]).await.ok();
}

#[tokio::test]
async fn a_secret_parameter_is_in_no_line_of_the_record_whatever_comes_of_the_call() {
    let named = Named::new().await;
    named
        .define(
            "tell",
            &format!(
                "{}params.word = {{ pattern = \"[a-z]+\", secret = true }}\nparams.n = {{ integer = [1, 2] }}",
                exec("/bin/echo", &["{word}", "{n}"])
            ),
        )
        .await;
    assert_eq!(stdout(&named.run(&["tell", "word=canarybird", "n=1"]).await.ok()), "canarybird 1\n");
    named.run(&["tell", "word=canarybird", "n=9"]).await.refused(2);
    let record = eventually("both are in the record", async || {
        let record = named.record().await;
        let denied = record.iter().any(|line| line["entry"] == "denied" && line.to_string().contains("n=9"));
        denied.then_some(record)
    })
    .await;
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains("canarybird"), "{text}");
    assert!(text.contains("hash:"), "{text}");
}

#[tokio::test]
async fn d14_who_ran_what_how_often_and_what_never_ran() {
    let named = Named::new().await;
    named.define("used", &exec("/bin/true", &[])).await;
    named.define("idle", &exec("/bin/true", &[])).await;
    for _ in 0..2 {
        named.run(&["used"]).await.ok();
    }
    let stats = eventually("the runs are counted", async || {
        let stats = named.world.allod(&["audit", "stats"]).await.ok().json()["servers"][0]["stats"].clone();
        let rows = stats["rows"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["command"] == "command.run used")?;
        (row["ok"] == 2 && row["caller"].as_str().unwrap().starts_with("builder")).then_some(stats)
    })
    .await;
    let never = stats["never"].to_string();
    assert!(never.contains("command.run idle") && !never.contains("command.run used"), "{never}");
}

#[tokio::test]
async fn d15_panic_stops_every_caller_and_what_they_run_until_they_are_let_in_again() {
    let named = Named::new().await;
    named.define("slow", &format!("{}timeout = \"10m\"", exec("/bin/sleep", &["1000"]))).await;
    named.define("quick", &exec("/bin/true", &[])).await;
    named.run(&["slow", "--detach"]).await.ok();
    named.world.allod(&["run", "slow", "--detach"]).await.ok();
    assert_eq!(named.builder.run(&["gate", "panic"]).await.refused(4).0, "not_allowed");
    let stopped = named.world.allod(&["gate", "panic"]).await.ok().json();
    assert_eq!(stopped["servers"][0]["ended"], 1, "the owner's run goes on: {stopped}");
    let refused = named.run(&["quick"]).await.refused(4);
    assert!(refused.1.contains("all callers are stopped"), "{refused:?}");
    named.world.allod(&["run", "quick"]).await.ok();
    // Over a restart, too.
    let before = named.world.kill("executor");
    named.world.is_back("executor", before).await;
    eventually("it is still stopped", async || {
        let output = named.run(&["quick"]).await;
        (output.code == 4).then_some(())
    })
    .await;
    named.world.allod(&["gate", "resume"]).await.ok();
    named.run(&["quick"]).await.ok();
}

/// Whoever may write where a program is decides what runs, so nothing does.
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

#[tokio::test]
async fn one_line_a_server_and_the_worst_exit_code() {
    let named = Named::new().await;
    named.define_script("fails", "echo last words; exit 5", "").await;
    // The same server under two names is two servers to whoever asks.
    let inventory = named.builder.home.join("servers.toml");
    let text = std::fs::read_to_string(&inventory).unwrap();
    let table = text.find("[[").map_or("", |at| &text[at..]).replace("name = \"local\"", "name = \"twin\"");
    std::fs::write(&inventory, format!("{text}\n{table}")).unwrap();
    let ran =
        named.builder.plain_in(&named.builder.home, &["run", "fails", "--on", "local", "--on", "twin"]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(ran.stdout.matches("last words").count(), 2, "{}", ran.stdout);
}
