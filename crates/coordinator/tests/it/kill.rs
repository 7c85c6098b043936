//! kill -9 at any moment: a child process makes changes and says which were acknowledged; none of those may be missing afterwards.

use crate::world::{NOW, settings};
use allod_coordinator::{Coordinator, state::JoinKeySpec};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

const FOLDER: &str = "ALLOD_TEST_COORDINATOR_FOLDER";

#[test]
fn nothing_that_was_acknowledged_is_lost_to_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8_usize {
        #[expect(clippy::disallowed_methods, reason = "a test that kills a program must start it")]
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ids = lines.map(Result::unwrap).filter_map(|line| line.strip_prefix("key ").map(str::to_owned));
        // Somewhere between the first change and the fortieth, another place each round.
        acknowledged.extend(ids.take(1 + (round * 17) % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let coordinator = Coordinator::open(settings(folder.path()), Arc::new(|| NOW)).unwrap();
        let there: Vec<String> = coordinator.join_keys().iter().map(|key| key.id.clone()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !there.contains(id)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        // The database is closed by a thread of its own, and the folder is let go after it.
        drop(coordinator);
        while allod_store::Lock::take(folder.path()).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    assert!(acknowledged.len() > 50);
}

#[tokio::test]
#[ignore = "the child of the test above"]
async fn child() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let coordinator = Coordinator::open(settings(&folder), Arc::new(|| NOW)).unwrap();
    loop {
        let (key, _) = coordinator.create_join_key(JoinKeySpec::default()).await.unwrap();
        writeln!(std::io::stdout(), "key {}", key.id).unwrap();
        std::io::stdout().flush().unwrap();
    }
}
