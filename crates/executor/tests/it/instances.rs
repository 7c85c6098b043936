//! Life and death of instances.

use crate::support::*;
use allod_executor::{groups::Base, secrets::OpenSecrets};
use allod_proto::{FaultCode, SecretName, spec::SecretHandover};
use std::{collections::BTreeSet, time::Duration};
use zeroize::Zeroizing;

const WAIT_FOR_GO: &str = "while [ ! -e \"$ALLOD_DATA/go\" ]; do sleep 0.02; done\n";
const FOREVER: &str = "while :; do sleep 1; done\n";

#[tokio::test]
async fn a_program_that_can_not_start_is_named_with_the_reason_and_leaves_nothing() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("plain", "x");
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(place.files.join("plain"), plain).unwrap();
    place.script("foreign", "\u{7f}ELF and then nothing");
    place.script("orphan", "#!/nowhere/python9\n");
    for (program, reason) in [
        ("./missing", "was not found in the release"),
        ("./plain", "is not executable"),
        ("./foreign", "is not a program for this machine"),
        ("./orphan", "/nowhere/python9 is not on this server"),
        ("/bin/sh", "must be below the release's folder"),
        ("../bin/allod", "must be below the release's folder"),
        ("no-such-runtime", "was not found on this server"),
    ] {
        let fault = start_with(&instances, &place.release(&[program]), OpenSecrets::new()).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::Unhealthy);
        assert!(fault.message.contains(reason), "{program}: {fault}");
    }
    assert!(instances.all().is_empty());
    assert_eq!(std::fs::read_dir(place.layout.instances()).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(place.layout.sockets()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_program_prints_is_in_its_log_and_how_it_ends_is_known() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", "#!/bin/sh\necho hello\necho oops >&2\nprintf 'no newline'\nexit 3\n");
    let instance = start(&instances, &place.release(&["./run"])).await;
    assert_eq!(until_exit(&instances, &instance.id).await, "exit status 3");
    let log: BTreeSet<String> = place.log(&instance.id).into_iter().collect();
    assert_eq!(log, ["out hello", "err oops", "out no newline"].map(str::to_owned).into());
    instances.forget(&instance.id).await.unwrap();
    assert!(instances.all().is_empty());
    assert!(!place.layout.instance(&instance.id).exists());
    assert_eq!(instances.forget(&instance.id).await.unwrap_err().code, FaultCode::NotFound);
    assert_eq!(place.log(&instance.id).len(), 3, "the log stays");
    assert!(!place.data().join("tmp").join(instance.id.as_str()).exists());
}

#[tokio::test]
async fn an_instance_outlives_the_executor_and_its_exit_is_not_lost() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("{WAIT_FOR_GO} exit 7"));
    let release = place.release(&[SH, "./run"]);
    let (one, two) = (start(&instances, &release).await, start(&instances, &release).await);
    instances.close().await;
    let (instances, found) = place.open().await;
    assert_eq!(found.adopted.iter().collect::<BTreeSet<_>>(), [&one.id, &two.id].into());
    let again = until(&instances, &one.id, |instance| instance.pid == one.pid).await;
    assert_eq!(again.exit, None);
    instances.close().await;
    std::fs::write(place.data().join("go"), "").unwrap();
    let (instances, found) = place.open().await;
    assert!(found.lost.is_empty(), "{found:?}");
    for id in [&one.id, &two.id] {
        assert_eq!(until_exit(&instances, id).await, "exit status 7");
    }
    instances.close().await;
    let (instances, _) = place.open().await;
    assert_eq!(until_exit(&instances, &one.id).await, "exit status 7", "also when its shim is gone");
}

#[tokio::test]
async fn whoever_stops_everything_waits_for_what_is_being_started_and_lets_nothing_else_start() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", FOREVER);
    let release = place.release(&[SH, "./run"]);
    let starting = start_with(&instances, &release, OpenSecrets::new());
    let stopping = async {
        while instances.all().is_empty() {
            tokio::task::yield_now().await;
        }
        instances.stop_all().await;
    };
    let (started, ()) = tokio::join!(starting, stopping);
    let started = started.unwrap();
    let ended = instances.get(&started.id).unwrap();
    assert_eq!(ended.exit.as_deref(), Some("signal 15"), "it was told, not found and killed: {ended:?}");
    let late = start_with(&instances, &release, OpenSecrets::new()).await.unwrap_err();
    assert_eq!(late.code, FaultCode::Unreachable);
    assert_eq!(instances.all().len(), 1);
}

#[tokio::test]
async fn a_shim_that_is_too_slow_to_answer_is_awaited_and_what_it_keeps_lives() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("{WAIT_FOR_GO} exit 7"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let (main, shim) = (instance.pid.unwrap(), parent(instance.pid.unwrap()));
    instances.close().await;
    signal(shim, rustix::process::Signal::STOP);
    let (instances, found) = place.open().await;
    assert_eq!((found.awaited.as_slice(), found.lost.as_slice()), (&[instance.id.clone()][..], &[][..]));
    assert!(is_alive(main));
    std::fs::write(place.data().join("go"), "").unwrap();
    signal(shim, rustix::process::Signal::CONT);
    assert_eq!(until_exit(&instances, &instance.id).await, "exit status 7");
}

#[tokio::test]
async fn a_shim_whose_exit_is_known_does_not_wait_for_a_farewell_that_a_crash_cut_off() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("{WAIT_FOR_GO} exit 7"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let shim = parent(instance.pid.unwrap());
    instances.close().await;
    // As an executor leaves it that dies between the record and the last word.
    let path = place.layout.instance(&instance.id);
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["instance"]["exit"] = "exit status 7".into();
    std::fs::write(&path, record.to_string()).unwrap();
    std::fs::write(place.data().join("go"), "").unwrap();
    eventually("the program is gone", || !is_alive(instance.pid.unwrap())).await;
    assert!(is_alive(shim));
    let opening = async {
        while is_alive(shim) {
            place.open().await.0.close().await;
        }
    };
    tokio::time::timeout(PATIENCE, opening).await.expect("the shim stays for nobody");
}

#[tokio::test]
async fn a_killed_program_is_seen_and_what_it_left_is_cleared_away() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("setsid sleep 1000 & echo $! > \"$ALLOD_DATA/pid\"\n{FOREVER}"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let daemon = pid_in(place.data().join("pid")).await;
    kill(instance.pid.unwrap());
    assert_eq!(until_exit(&instances, &instance.id).await, "signal 9");
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn a_grandchild_that_made_itself_a_daemon_is_stopped_too() {
    let place = place();
    let (instances, _) = place.open().await;
    let daemon = "sh -c 'setsid sh -c \"setsid sleep 1000 & echo \\$! > $ALLOD_DATA/pid\" &'\n";
    place.script("run", &format!("{daemon}{FOREVER}"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let daemon = pid_in(place.data().join("pid")).await;
    assert!(is_alive(daemon));
    let stopped = instances.stop(&instance.id, Duration::from_millis(50)).await.unwrap();
    assert_eq!(stopped.exit.as_deref(), Some("signal 15"));
    assert!(!is_alive(daemon));
    assert_eq!(
        instances.stop(&instance.id, Duration::ZERO).await.unwrap(),
        stopped,
        "stopping again is no error"
    );
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("trap '' TERM\necho $$ > \"$ALLOD_DATA/pid\"\n{FOREVER}"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    pid_in(place.data().join("pid")).await;
    let stopped = instances.stop(&instance.id, Duration::from_millis(100)).await.unwrap();
    assert_eq!(stopped.exit.as_deref(), Some("signal 9"));
}

#[tokio::test]
async fn a_gentle_stop_gives_the_rest_of_the_tree_its_time() {
    let place = place();
    let (instances, _) = place.open().await;
    // The parent ends at once; its worker takes the signal, works on for a moment, and says so.
    let worker = "trap 'sleep 0.3; echo drained; exit 0' TERM\necho $$ > \"$ALLOD_DATA/pid\"\nwhile :; do sleep 0.05; done\n";
    place.script("worker", worker);
    place.script("run", &format!("sh ./worker &\n{FOREVER}"));
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    pid_in(place.data().join("pid")).await;
    instances.stop(&instance.id, Duration::from_secs(20)).await.unwrap();
    assert!(place.log(&instance.id).contains(&"out drained".to_owned()), "{:?}", place.log(&instance.id));
}

#[tokio::test]
async fn the_program_sees_nothing_but_what_is_declared() {
    let place = place();
    let (instances, _) = place.open().await;
    // A descriptor that any child would inherit.
    let leaked = rustix::io::dup(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let mut release = place.release(&["./app", "dump"]);
    release.spec.vars =
        [("LOG".to_owned(), "info".to_owned()), ("HOME".to_owned(), "/root".to_owned())].into();
    let instance = start(&instances, &release).await;
    assert_eq!(until_exit(&instances, &instance.id).await, "exit status 0");
    drop(leaked);
    let log = place.log(&instance.id);
    let names: BTreeSet<&str> = log
        .iter()
        .filter_map(|line| line.strip_prefix("out env ")?.split_once('=').map(|(name, _)| name))
        .collect();
    let declared = [
        "ALLOD_APP",
        "ALLOD_DATA",
        "ALLOD_ENV",
        "ALLOD_INSTANCE",
        "ALLOD_RELEASE",
        "ALLOD_UNIT",
        "HOME",
        "HOST",
        "LOG",
        "NOTIFY_SOCKET",
        "PATH",
        "PORT",
        "TMPDIR",
    ];
    assert_eq!(names, declared.into(), "{log:?}");
    let home = format!("out env HOME={}", place.data().display());
    assert!(log.contains(&home) && log.contains(&"out env PORT=20001".to_owned()), "{log:?}");
    let descriptors: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("out fd ")).collect();
    let open: Vec<&str> = descriptors.iter().filter_map(|line| line.split(' ').next()).collect();
    // 3 is the folder that it lists.
    assert_eq!(open, ["0", "1", "2", "3"], "{descriptors:?}");
    assert!(descriptors[0].ends_with("/dev/null") && descriptors[3].contains("/proc/"), "{descriptors:?}");
    assert!(log.contains(&"out status NoNewPrivs: 1".to_owned()), "{log:?}");
}

fn secrets(pairs: &[(&str, &[u8])]) -> OpenSecrets {
    pairs
        .iter()
        .map(|(name, value)| (SecretName::new(*name).unwrap(), Zeroizing::new(value.to_vec())))
        .collect()
}

#[tokio::test]
async fn secrets_reach_the_program_exactly_and_nothing_else() {
    let place = place();
    let (instances, _) = place.open().await;
    let mut release = place.release(&["./app", "dump"]);
    for name in ["TEXT", "BYTES", "ASKED"] {
        let handover = if name == "ASKED" { SecretHandover::Environment } else { SecretHandover::Descriptor };
        release.spec.secrets.insert(SecretName::new(name).unwrap(), handover);
    }
    let values: [(&str, &[u8]); 3] = [
        ("ASKED", b"canary-env"),
        ("BYTES", b"\xff\x01canary"),
        ("TEXT", "canary \"é\"\n\\ \u{1}".as_bytes()),
    ];
    let missing = start_with(&instances, &release, secrets(&values[1..])).await.unwrap_err();
    assert_eq!(missing.code, FaultCode::NotFound);
    let binary = [("ASKED", &b"\xff"[..]), values[1], values[2]];
    assert_eq!(
        start_with(&instances, &release, secrets(&binary)).await.unwrap_err().code,
        FaultCode::Invalid
    );
    let instance = start_with(&instances, &release, secrets(&values)).await.unwrap();
    assert_eq!(until_exit(&instances, &instance.id).await, "exit status 0");
    let log = place.log(&instance.id);
    let hex = log.iter().find_map(|line| line.strip_prefix("out secrets ")).unwrap();
    let json: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let found: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        found,
        serde_json::json!({"TEXT": "canary \"é\"\n\\ \u{1}", "BYTES": {"base64": "/wFjYW5hcnk="}})
    );
    assert!(log.contains(&"out env ASKED=canary-env".to_owned()));
    assert!(log.contains(&"out env ALLOD_SECRETS_FD=3".to_owned()));
    let open: Vec<_> = log.iter().filter(|line| line.starts_with("out fd ")).collect();
    assert!(open.len() == 5 && open[3].contains("memfd:secrets"), "{open:?}");
}

#[tokio::test]
async fn no_secret_is_in_files_arguments_or_the_shims_environment() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", FOREVER);
    let mut release = place.release(&[SH, "./run"]);
    release.spec.secrets.insert(SecretName::new("KEY").unwrap(), SecretHandover::Descriptor);
    let instance =
        start_with(&instances, &release, secrets(&[("KEY", b"canary-in-the-mine")])).await.unwrap();
    let pid = instance.pid.unwrap();
    let shim = parent(pid);
    for path in
        [format!("/proc/{pid}/cmdline"), format!("/proc/{pid}/environ"), format!("/proc/{shim}/cmdline")]
    {
        assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("canary"), "{path}");
    }
    assert!(std::fs::read(format!("/proc/{shim}/environ")).unwrap_or_default().is_empty());
    let found = std::process::Command::new("grep")
        .args(["-rl", "canary"])
        .arg(place.folder.path().join("s"))
        .output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
    // Whatever the shim still has in memory of it would be found here.
    assert!(
        !memory_of(shim).windows(18).any(|part| part == b"canary-in-the-mine"),
        "the shim still has the secret"
    );
    instances.stop_all().await;
}

/// The writable memory of a process; empty where it may not be read.
fn memory_of(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let Ok(memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut part = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut part, from).is_ok() {
            all.append(&mut part);
        }
    }
    all
}

#[tokio::test]
async fn when_a_shim_is_killed_everything_it_kept_goes() {
    let place = place();
    let (instances, _) = place.open().await;
    place.script("run", &format!("setsid sleep 1000 & echo $! > \"$ALLOD_DATA/pid\"\n{FOREVER}"));
    let release = place.release(&[SH, "./run"]);
    let instance = start(&instances, &release).await;
    let (main, daemon) = (instance.pid.unwrap(), pid_in(place.data().join("pid")).await);
    kill(parent(main));
    assert_eq!(until_exit(&instances, &instance.id).await, "shim lost");
    eventually("the tree is gone", || !is_alive(main) && !is_alive(daemon)).await;
    // The same while no executor looks.
    std::fs::remove_file(place.data().join("pid")).unwrap();
    let instance = start(&instances, &release).await;
    let (main, daemon) = (instance.pid.unwrap(), pid_in(place.data().join("pid")).await);
    drop(instances);
    kill(parent(main));
    let (instances, found) = place.open().await;
    assert_eq!(found.lost, std::slice::from_ref(&instance.id));
    assert_eq!(instances.get(&instance.id).unwrap().exit.as_deref(), Some("shim lost"));
    assert!(!is_alive(main) && !is_alive(daemon));
}

#[tokio::test]
async fn a_record_of_another_boot_kills_nothing() {
    // No control group survives a boot.
    let mut place = place();
    place.base = Base::None;
    let (instances, _) = place.open().await;
    place.script("run", FOREVER);
    let instance = start(&instances, &place.release(&[SH, "./run"])).await;
    let main = instance.pid.unwrap();
    drop(instances);
    let path = place.layout.instance(&instance.id);
    let text = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&path, text.replace(boot.trim(), "another")).unwrap();
    std::fs::write(place.layout.instances().join("web-00000000.json"), "{").unwrap();
    let (instances, found) = place.open().await;
    assert_eq!(found.damaged.len(), 1, "{found:?}");
    assert_eq!(instances.get(&instance.id).unwrap().exit.as_deref(), Some("the machine was restarted"));
    assert!(is_alive(main));
    kill(parent(main));
    kill(main);
}

#[tokio::test]
async fn a_program_that_says_it_is_ready_and_listens_is_seen_to() {
    let place = place();
    let (instances, _) = place.open().await;
    let instance = start(&instances, &place.release(&["./app", "listen"])).await;
    let ready = until(&instances, &instance.id, |instance| instance.ready).await;
    assert_eq!(ready.exit, None);
    instances.refresh_ports().await;
    assert_eq!(instances.get(&instance.id).unwrap().listens_on, [instance.address.unwrap()]);
    let release = place.release(&[SH, "./run"]);
    let here = ["sh".to_owned(), "-c".to_owned(), "echo $PORT $ALLOD_INSTANCE; exit 1".to_owned()];
    let checked = instances.check(&instance.id, &release, &here, OpenSecrets::new(), PATIENCE).await.unwrap();
    assert_eq!((checked.ok, checked.exit.as_str()), (false, "exit status 1"));
    assert_eq!(checked.tail, [format!("20001 {}", instance.id)]);
    assert!(
        place.data().join("tmp").join(instance.id.as_str()).exists(),
        "a check leaves the instance's folder"
    );
    instances.stop_all().await;
    assert!(instances.get(&instance.id).unwrap().listens_on.is_empty());
}

#[tokio::test]
async fn a_command_is_run_to_its_end_or_to_the_end_of_its_time() {
    let place = place();
    let (instances, _) = place.open().await;
    let release = place.release(&["./app", "listen"]);
    let run = async |text: &str, time| {
        let argv = ["sh".to_owned(), "-c".to_owned(), text.to_owned()];
        instances.run_once(&release, &argv, OpenSecrets::new(), time).await
    };
    let none =
        instances.run_once(&release, &["./none".to_owned()], OpenSecrets::new(), PATIENCE).await.unwrap_err();
    assert!(none.message.contains("./none was not found"), "{none}");
    let many = run("seq 1 100; echo last >&2", PATIENCE).await.unwrap();
    assert!(many.ok && many.tail.len() == 40, "{many:?}");
    let late = run("echo begun; setsid sleep 1000 & sleep 1000", Duration::from_millis(300)).await.unwrap();
    assert_eq!(
        (late.ok, late.exit.as_str(), late.tail.as_slice()),
        (false, "timeout", &["begun".to_owned()][..])
    );
    assert!(instances.all().is_empty(), "a command is no instance");
    let logs = allod_executor::logs::list(&place.layout, &app()).unwrap();
    assert_eq!(logs.len(), 2, "each has a log of its own");
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_killed() {
    let place = place();
    let (instances, _) = place.open().await;
    let release = place.release(&["./app", "listen"]);
    let argv = ["sh".to_owned(), "-c".to_owned(), "echo $$ > \"$ALLOD_DATA/pid\"; sleep 1000".to_owned()];
    let asked = {
        let (instances, release) = (instances.clone(), release.clone());
        tokio::spawn(async move {
            instances.run_once(&release, &argv, OpenSecrets::new(), PATIENCE).await.unwrap()
        })
    };
    let pid = pid_in(place.data().join("pid")).await;
    asked.abort();
    eventually("the command is gone", || !is_alive(pid)).await;
}
