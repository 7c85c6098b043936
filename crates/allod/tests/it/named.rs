//! Named commands through the signed door: what a machine gets, and what it takes to change that. The attacks on it are in
//! `attacks`; the registry on disk has its own tests (`executor/src/named/store/tests.rs`).

mod attacks;
mod bounds;
mod contract;
mod doors;
mod full;
mod golden;
mod kills;
mod left;

use crate::{
    cli::{Cli, Output},
    processes::eventually,
    world::World,
};
use allod_signing::{KeySigner, Signer as _};
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

/// A server with commands, and a machine that may run them.
struct Named {
    world: World,
    key: KeySigner,
    auditor: KeySigner,
    builder: Cli,
    scripts: tempfile::TempDir,
}

impl Named {
    async fn new() -> Self {
        Self::on(World::up().await).await
    }

    /// The same on a server that there is.
    async fn on(world: World) -> Self {
        let key = world.enrol("builder", 61, &["--role", "caller"]).await;
        let auditor = world.enrol("auditor", 60, &["--role", "operator"]).await;
        let builder = world.person("builder", &key);
        let scripts = crate::world::fresh_folder();
        Self { world, key, auditor, builder, scripts }
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
