//! A disk of 48 MiB, full. Only root can mount one, so these say plainly when they are skipped.

#![expect(clippy::disallowed_methods, reason = "a test mounts its small disk with the system's own program")]

use super::*;
use crate::{authorize::bench::Bench, groups::Base, isolation::Isolation, layout::Layout};
use allod_signing::{KeySigner, Signer as _};
use std::{fs::File, io::Write as _, process::Command as Process, sync::Arc};

/// A small disk of its own; gone with this value.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, said loudly, where this user may not mount.
    fn mount(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = rustix::process::geteuid().is_root()
            && Process::new("mount")
                .args(["-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs"])
                .arg(folder.path())
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            println!("{test}: SKIPPED, only root can mount a small disk");
        }
        mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }

    /// To the last block.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let block = vec![7_u8; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..512]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

async fn bench_on(disk: &SmallDisk) -> Bench {
    let layout = Layout::new(disk.path().join("state"), disk.path().join("run"));
    std::fs::create_dir_all(layout.agent()).unwrap();
    let owner = KeySigner::generate([1; 32], "owner");
    let line = format!("role=owner {}", owner.public_openssh());
    let executor = Executor::open(layout, Isolation::SameUser, &Base::None, Some(&line)).await.unwrap();
    Bench { executor, owner, _folder: tempfile::tempdir().unwrap() }
}

fn body(id: char, command: &str, params: &str) -> String {
    let id = id.to_string().repeat(16);
    format!(r#"{{"v":1,"id":"{id}","command":"{command}","params":{params}}}"#)
}

fn key_line(seed: u8) -> String {
    format!("role=viewer {}", KeySigner::generate([seed; 32], "other").public_openssh())
}

#[tokio::test]
async fn on_a_full_disk_a_key_can_be_revoked_and_nothing_new_begins() {
    let test = "on_a_full_disk_a_key_can_be_revoked_and_nothing_new_begins";
    let Some(disk) = SmallDisk::mount(test) else { return };
    let bench = bench_on(&disk).await;
    let reserve = Reserve::new(&bench.executor.layout().executor());
    assert!(!reserve.is_spent().unwrap(), "room is set aside at the start");
    let add = |seed: u8| format!(r#"{{"line":"{}"}}"#, key_line(seed));
    bench.done(&body('a', "keys.add", &add(9)), "a").await.unwrap();

    disk.fill();
    let fault = bench.done(&body('b', "keys.add", &add(8)), "b").await.unwrap_err();
    assert_eq!(fault.code, FaultCode::DiskFull);
    assert!(fault.hint.is_some_and(|hint| hint.contains("prune")), "it says what to do");
    assert!(!reserve.is_spent().unwrap(), "it was not given up for that");

    let thief = KeySigner::generate([9; 32], "other").fingerprint();
    let revoke = format!(r#"{{"fingerprint":"{thief}"}}"#);
    bench.done(&body('c', "keys.revoke", &revoke), "c").await.unwrap();
    assert!(reserve.is_spent().unwrap());
    assert!(!bench.executor.keys().list().keys.iter().any(|key| key.fingerprint == thief));
    bench.done(&body('d', "server.prune", "{}"), "d").await.unwrap();
    let unknown = bench.done(&body('e', "ops.cancel", r#"{"operation":"0123456789abcdef"}"#), "e").await;
    assert_ne!(unknown.unwrap_err().code, FaultCode::DiskFull);

    disk.free();
    bench.done(&body('f', "keys.add", &add(7)), "f").await.unwrap();
    assert!(!reserve.is_spent().unwrap(), "room is set aside again");
    let folder = bench.executor.layout().record();
    bench.executor.record().flush().unwrap();
    allod_audit::verify(&folder, Some(bench.executor.record_public_key()), &[]).unwrap();
}

#[tokio::test]
async fn an_executor_that_starts_on_a_full_disk_gives_its_reserve_up_and_starts() {
    let test = "an_executor_that_starts_on_a_full_disk_gives_its_reserve_up_and_starts";
    let Some(disk) = SmallDisk::mount(test) else { return };
    let bench = bench_on(&disk).await;
    let layout = bench.executor.layout().clone();
    bench.executor.close(false).await;
    drop(bench);
    disk.fill();
    let executor = Executor::open(layout.clone(), Isolation::SameUser, &Base::None, None).await.unwrap();
    assert!(Reserve::new(&layout.executor()).is_spent().unwrap());
    assert_eq!(Arc::strong_count(&executor), 1);
}

#[tokio::test]
async fn reads_on_a_full_disk_are_counted_and_eat_nothing_of_the_reserve() {
    let test = "reads_on_a_full_disk_are_counted_and_eat_nothing_of_the_reserve";
    let Some(disk) = SmallDisk::mount(test) else { return };
    let bench = bench_on(&disk).await;
    disk.fill();
    let before = bench.executor.record().head().unwrap().head.seq;
    let read = allod_proto::executor::Observation::Read {
        delegate: None,
        request: "r".to_owned(),
        key: None,
        name: "eve".to_owned(),
        role: allod_proto::Role::Viewer,
        door: "rpc".to_owned(),
        source: None,
        command: "app.status".to_owned(),
        app: None,
        code: None,
        took_ms: 0,
    };
    for _ in 0..100 {
        bench.executor.observe(&vec![read.clone(); 512]).unwrap();
    }
    assert_eq!(bench.executor.record().head().unwrap().head.seq, before);
    assert!(!Reserve::new(&bench.executor.layout().executor()).is_spent().unwrap());
    disk.free();
    bench.executor.close(false).await;
    let lines = bench.executor.record().read(before + 1, 100).unwrap();
    // One line a minute: a minute may have ended meanwhile.
    assert!(lines.len() == 1 || lines.len() == 2, "{lines:?}");
    let counted = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["entry"], "counted", "{line}");
        line["count"].as_u64().unwrap()
    };
    assert_eq!(lines.iter().map(counted).sum::<u64>(), 51_200, "{lines:?}");
}
