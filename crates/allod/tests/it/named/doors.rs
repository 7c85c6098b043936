//! The doors other than the command line's, and the record as an operator reads it.

use super::Named;
use crate::{cli::BINARY, processes::eventually};
use allod_proto::messages::audit::AuditShow;
use allod_rpc::client::{Client, Forgetful};
use allod_signing::KeySigner;
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt as _, process::Stdio, sync::Arc};
use tokio::process::Command;

impl Named {
    fn gate(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("gate").args(words).arg("--run").arg(self.world.ready["run"].as_str().unwrap());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// The gate's program in the environment of a login with the caller's key.
    pub(super) fn as_sshd_begins_it(&self, request: &str) -> Command {
        let proof = self.builder.home.join("proof");
        if !proof.exists() {
            std::fs::write(&proof, format!("publickey {}\n", self.key.public_openssh())).unwrap();
            std::fs::set_permissions(&proof, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = self.gate(&["--caller", "builder"]);
        command.env("SSH_ORIGINAL_COMMAND", request).env("SSH_USER_AUTH", proof);
        command.env("SSH_CONNECTION", "192.0.2.7 50022 192.0.2.1 22");
        command
    }

    /// The local door, as whoever the server belongs to on its machine.
    pub(super) fn on_the_machine(&self, words: &[&str]) -> Command {
        let mut command = self.gate(&["run"]);
        command.args(words);
        command
    }

    /// Somebody who only looks, so that what others do too often is not counted with it; `None` while nobody answers.
    pub(super) async fn auditor(&self) -> Option<Client> {
        let key = Arc::new(KeySigner::from_openssh(&self.auditor.to_openssh(), None).unwrap());
        Client::connect(self.world.peer(), key, Box::new(Forgetful::default())).await.ok()
    }

    /// The lines of the record after this one, which is the newest of them then.
    pub(super) async fn lines_after(&self, seq: &mut u64) -> Vec<Value> {
        let mut lines: Vec<Value> = Vec::new();
        loop {
            let shown = eventually("the record is read", async || {
                let from = i64::try_from(*seq + 1).unwrap();
                self.auditor().await?.call(AuditShow { from, limit: 1000 }).await.ok()
            })
            .await;
            lines.extend(shown.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            match lines.last() {
                Some(last) if !shown.lines.is_empty() => *seq = last["seq"].as_u64().unwrap(),
                Some(_) | None => return lines,
            }
        }
    }
}
