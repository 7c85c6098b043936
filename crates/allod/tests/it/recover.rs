//! Recovery: the forced command and the executor's door behind it, as sshd would run it. It works without an agent and
//! without a key, it does nothing but what is in its list, and it leaves every ask in the record.

use crate::{
    cli::{BINARY, Cli, Output},
    processes::{PATIENCE, eventually, signal},
    running::Running,
    wire::Draft,
    world::World,
};
use allod_proto::{
    FaultCode,
    executor::{Action, Done},
    messages::keys::KeysList,
};
use allod_signing::{KeySigner, Signer as _};
use rustix::process::Signal;
use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// How sshd runs it for a key of recovery: what was asked is in the environment, the flags are the key's line's.
fn asked(run: &Path, flags: &[&str], original: Option<&str>, input: &[u8], uid: Option<u32>) -> Output {
    // Another user may not be able to go where the build is.
    let copy = run.with_file_name("allod-for-all");
    if uid.is_some() && !copy.exists() {
        std::fs::copy(BINARY, &copy).unwrap();
    }
    let mut command = Command::new(if uid.is_some() { copy.as_path() } else { Path::new(BINARY) });
    command.arg("recover").arg("--run").arg(run).args(flags).env_clear().current_dir("/");
    command.env("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22");
    if let Some(original) = original {
        command.env("SSH_ORIGINAL_COMMAND", original);
    }
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have refused before it read anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    crate::cli::ended(child.wait_with_output().unwrap())
}

fn over_ssh(running: &Running, original: &str) -> Output {
    asked(&running.folder.path().join("r"), &[], Some(original), b"", None)
}

fn with_leave(running: &Running, original: &str, input: &[u8]) -> Output {
    asked(&running.folder.path().join("r"), &["--enrol"], Some(original), input, None)
}

fn new_key() -> KeySigner {
    KeySigner::generate([44; 32], "nora")
}

/// What the record says of recovery; the agent that asks is the test.
async fn recorded(running: &mut Running) -> Vec<String> {
    let mut agent = running.agent().await;
    match agent.ask(Action::RecordRead { from: 1, limit: 1000 }).await.outcome {
        Ok(Done::Lines(lines)) => lines.lines.into_iter().filter(|line| line.contains("recovery.")).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_list_is_refused_with_what_is_and_nothing_of_it_runs() {
    let (mut running, _first) = Running::listening().await;
    let proof = running.folder.path().join("proof");
    let touch = format!("touch {}", proof.display());
    let key = new_key().public_key().to_openssh();
    let many = format!("enrol {key} {}", "x".repeat(5000));
    for text in [
        "",
        "sh",
        &touch,
        &format!("doctor; {touch}"),
        &format!("doctor && {touch}"),
        &format!("doctor | {touch}"),
        &format!("$({touch})"),
        &format!("`{touch}`"),
        &format!("doctor\n{touch}"),
        &format!("doctor > {}", proof.display()),
        "doctor now",
        "restart --now",
        "--enrol",
        "--help",
        "enrol --role owner",
        &format!("enrol role=owner {key}"),
        &format!("enrol {key} a b"),
        &many,
        "internal-sftp",
        "scp -t .",
    ] {
        let refused = with_leave(&running, text, b"");
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{text:?}: {refused:?}");
        assert!(refused.stderr.contains("refused") && refused.stderr.contains("doctor  "), "{refused:?}");
    }
    let both = asked(&running.folder.path().join("r"), &["doctor"], Some("restart"), b"", None);
    assert_eq!(both.code, 2, "a line that says what it does does nothing else: {both:?}");
    let plain = asked(&running.folder.path().join("r"), &[], None, b"", None);
    assert_eq!(plain.code, 2, "a login without a command gets no shell: {plain:?}");
    assert!(!proof.exists());
    assert_eq!(recorded(&mut running).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_without_leave_enrols_nobody() {
    let (mut running, _first) = Running::listening().await;
    let before = std::fs::read_to_string(running.state("executor/enrolled")).unwrap();
    let key = new_key().public_openssh();
    for original in [format!("enrol {key}"), "enrol".to_owned()] {
        let refused = asked(&running.folder.path().join("r"), &[], Some(&original), key.as_bytes(), None);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("--enrol"), "{refused:?}");
    }
    for input in [
        &b""[..],
        b"\n",
        b"ssh-ed25519\n",
        &[b'x'; 10_000],
        b"command=\"id\" ssh-ed25519 AAAA\n",
        &[0xff; 50],
    ] {
        let refused = with_leave(&running, "enrol", input);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    assert_eq!(std::fs::read_to_string(running.state("executor/enrolled")).unwrap(), before);
    assert!(!recorded(&mut running).await.iter().any(|line| line.contains("enrol")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_in_the_executors_place_and_is_neither_root_nor_us_is_told_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "NOT TESTED: another user in the place of the recovery door, because this test may not become one"
        );
        return;
    }
    let folder = crate::world::fresh_folder();
    let place = folder.path().join("recovery");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(61_310), Some(61_310)).unwrap();
    let door = place.join("door.sock");
    let (bound, is_bound) = std::sync::mpsc::channel();
    let impostor = std::thread::spawn(move || {
        let uid = rustix::process::Uid::from_raw(61_310);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(door).unwrap();
        bound.send(()).unwrap();
        let mut said = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut said).unwrap();
        said
    });
    is_bound.recv_timeout(PATIENCE).unwrap();
    let refused = asked(folder.path(), &[], Some("doctor"), b"", None);
    assert_eq!(refused.code, 10, "{refused:?}");
    assert_eq!(impostor.join().unwrap(), b"", "it was told something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_root_and_the_recovery_user_may_open_the_door() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: the recovery door as another user, because this test may not become one");
        return;
    }
    let (running, _first) =
        Running::listening_with(&["--recovery-uid", "61300", "--agent-uid", "61100"]).await;
    let run = running.folder.path().join("r");
    for uid in [61_100, 61_301, 65_534] {
        let refused = asked(&run, &["--enrol"], Some("doctor"), b"", Some(uid));
        assert_eq!((refused.code, refused.stdout.as_str()), (7, ""), "{uid}: {refused:?}");
    }
    let recovery = asked(&run, &[], Some("identity"), b"", Some(61_300));
    assert!(recovery.code == 0 && recovery.stdout.contains(running.identity().as_str()), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_agent_a_server_says_what_is_wrong_and_takes_a_new_owner() {
    let (mut running, _unattached) = Running::listening().await;
    let doctor = over_ssh(&running, "doctor");
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.starts_with("BAD      agent    no agent is attached"), "{doctor:?}");
    let identity = over_ssh(&running, "identity");
    assert!(identity.stdout.contains(running.identity().as_str()), "{identity:?}");
    let key = new_key();
    let enrolled =
        with_leave(&running, "enrol", format!("{} nora@laptop\n", key.public_key().to_openssh()).as_bytes());
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    assert!(over_ssh(&running, "keys").stdout.contains("recovered-nora@laptop"));
    // The new owner's own signature is enough for the executor from now on.
    let mut agent = running.agent().await;
    let epoch = agent.attach().await.epoch;
    let line = format!("role=viewer {}", KeySigner::generate([45; 32], "vic").public_openssh());
    let draft = Draft::new(&running.identity(), &epoch, allod_proto::messages::keys::KeysAdd { line });
    let outcome = agent.ask(Action::Perform(draft.sign(&key).call())).await.outcome;
    assert!(matches!(outcome, Ok(Done::Replied { .. })), "{outcome:?}");
    let read = Draft::new(&running.identity(), &epoch, KeysList {}).sign(&key).call();
    assert_eq!(agent.ask(Action::Perform(read)).await.outcome.unwrap_err().code, FaultCode::Invalid);
    let lines = eventually("the looks are in the record", async || {
        Some(recorded(&mut running).await).filter(|lines| lines.len() >= 4)
    })
    .await;
    for (command, entry) in [("doctor", "read"), ("identity", "read"), ("keys", "read"), ("enrol", "intent")]
    {
        let command = format!("\"command\":\"recovery.{command}\"");
        let found = lines
            .iter()
            .find(|line| line.contains(&command))
            .unwrap_or_else(|| panic!("{command}: {lines:?}"));
        assert!(found.contains(&format!("\"entry\":\"{entry}\"")), "{found}");
        assert!(found.contains("told 192.0.2.7") && found.contains("\"door\":\"recovery\""), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_agent_hangs_and_whose_owners_lost_their_keys_is_recovered() {
    let world = World::up().await;
    let run = Path::new(world.ready["run"].as_str().unwrap()).to_owned();
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let (agent, executor) = (world.pid("agent"), world.pid("executor"));
    signal(agent, Signal::STOP);
    // It begins anew once it has been there for a while.
    let restarted = eventually("the server begins anew", async || {
        let output = asked(&run, &[], Some("restart"), b"", None);
        assert!(matches!(output.code, 0 | 6), "{output:?}");
        (output.code == 0).then_some(output)
    })
    .await;
    assert!(restarted.stdout.contains("begin anew"), "{restarted:?}");
    world.is_back("executor", executor).await;
    world.is_back("agent", agent).await;
    let key = new_key();
    let line = format!("enrol {}", key.public_openssh());
    let enrolled = eventually("the door is open again", async || {
        let output = asked(&run, &["--enrol"], Some(&line), b"", None);
        (output.code != 7).then_some(output)
    })
    .await;
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    let nora: Cli = world.person("nora", &key);
    eventually("the new owner is answered", async || {
        (nora.run(&["keys", "list"]).await.code == 0).then_some(())
    })
    .await;
    nora.run(&["keys", "revoke", world.owner().fingerprint().as_str()]).await.ok();
    assert_eq!(world.allod(&["keys", "list"]).await.code, 3, "the lost key is out");
    let pids: serde_json::Value = nora.run(&["status", "blog"]).await.ok().json();
    let text = pids.to_string();
    assert!(before.iter().all(|pid| text.contains(&pid.to_string())), "apps ran on: {before:?} {text}");
    nora.run(&["audit", "verify"]).await.ok();
}
