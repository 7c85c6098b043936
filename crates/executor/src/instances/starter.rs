//! A shim from its start to the moment that it lives on by itself.

use super::InstancesSettings;
use crate::{
    failure,
    groups::Group,
    shim::{
        order::{Answer, Order, Running, hear, settle, tell},
        tree,
    },
};
use allod_proto::Fault;
use std::{io, process::Stdio, sync::Arc, time::Duration};
use tokio::process::{Child, Command};

/// A shim on its way.
pub(super) struct Shim {
    child: Child,
    /// The folders of its program's control group, if it may kill that by itself.
    group: Vec<std::path::PathBuf>,
}

impl Shim {
    /// Starts one that waits for its order.
    pub(super) async fn spawn(
        settings: &InstancesSettings,
        uid: Option<u32>,
        control: Stdio,
        group: Option<&Arc<Group>>,
    ) -> Result<Self, Fault> {
        let failed = |error: &io::Error| failure::of_io("start a shim", error);
        let mut command = Command::new(&settings.program);
        command
            .args(&settings.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(control)
            .kill_on_drop(false);
        if let Some(uid) = uid {
            // With a uid, std also empties the list of other groups.
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        settle(&mut child, &settings.groups, group).await?;
        let runs_as_we_do = uid.is_none();
        let group = group.filter(|_| runs_as_we_do).map(|group| group.paths()).unwrap_or_default();
        Ok(Self { child, group })
    }

    /// Tells the order; nothing of it is left here then.
    pub(super) async fn order(&mut self, mut order: Order) -> Result<(), Fault> {
        order.group = std::mem::take(&mut self.group);
        let gone = || failure::of_io("tell a shim its order", &io::ErrorKind::BrokenPipe.into());
        tell(order, self.child.stdin.as_mut().ok_or_else(gone)?).await
    }

    /// What came of it.
    pub(super) async fn answer(&mut self, patience: Duration) -> Result<Answer, Fault> {
        let failed = |error: &io::Error| failure::of_io("hear the answer of a shim", error);
        let gone = || failed(&io::ErrorKind::BrokenPipe.into());
        let heard = hear(self.child.stdout.as_mut().ok_or_else(gone)?, patience).await;
        heard.map_err(|error| {
            // It has nothing yet that would be lost with it.
            let _ = self.child.start_kill();
            failed(&error)
        })
    }

    /// The shim lives on by itself. It is still collected by the runtime when it ends.
    pub(super) fn let_go(self) -> Option<Running> {
        let pid = self.child.id()?;
        tree::stat(pid).map(|stat| Running { pid, start: stat.start })
    }
}
