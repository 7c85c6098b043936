//! A shim from its start to the moment that it lives on by itself: put into its program's control group before it hears what to
//! start, taken out once that has been started.

use super::InstancesSettings;
use crate::{
    failure,
    groups::{Group, Groups},
    shim::{
        order::{Answer, Order, Running, let_out, put_inside, tell},
        tree,
    },
};
use allod_proto::Fault;
use std::{io, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// The largest answer of a shim.
const LARGEST_ANSWER: u64 = 1024 * 1024;

/// A shim on its way.
pub(super) struct Shim {
    child: Child,
    orders: ChildStdin,
    groups: Arc<Groups>,
    /// It runs as this program does, and may kill its program's group by itself.
    is_like_us: bool,
}

impl Shim {
    pub(super) fn spawn(
        settings: &InstancesSettings,
        uid: Option<u32>,
        control: Stdio,
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
        let orders = child.stdin.take().ok_or_else(|| failed(&io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { child, orders, groups: Arc::clone(&settings.groups), is_like_us: uid.is_none() })
    }

    /// Tells the order; nothing of it is left here then. Before that, the shim is in its program's group.
    pub(super) async fn order(&mut self, mut order: Order, group: Option<&Group>) -> Result<(), Fault> {
        put_inside(&self.groups, group, self.child.id(), &mut order)?;
        if !self.is_like_us {
            order.group.clear();
        }
        tell(order, &mut self.orders).await
    }

    /// What it says, once it is out of its program's group.
    pub(super) async fn answer(&mut self, patience: Duration) -> Result<Answer, Fault> {
        match self.hear(patience).await? {
            Answer::Inside {} => {
                let_out(&self.groups, self.child.id(), Some(&mut self.orders)).await?;
                self.hear(patience).await
            }
            answer => Ok(answer),
        }
    }

    async fn hear(&mut self, patience: Duration) -> Result<Answer, Fault> {
        let failed = |error: &io::Error| failure::of_io("hear the answer of a shim", error);
        let stdout = self.child.stdout.as_mut().ok_or_else(|| failed(&io::ErrorKind::BrokenPipe.into()))?;
        let mut line = Vec::new();
        let mut source = stdout.take(LARGEST_ANSWER);
        let reading = async {
            // Until the newline, or the end: a shim that dies has closed its pipe.
            let mut part = [0_u8; 4096];
            while line.last() != Some(&b'\n') {
                let size = source.read(&mut part).await?;
                if size == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                line.extend_from_slice(part.get(..size).unwrap_or_default());
            }
            Ok(())
        };
        let heard = timeout(patience, reading).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = heard {
            // It has nothing yet that would be lost with it.
            let _ = self.child.start_kill();
            return Err(failed(&error));
        }
        serde_json::from_slice(&line).map_err(|error| failed(&error.into()))
    }

    /// The shim lives on by itself. It is still collected by the runtime when it ends.
    pub(super) fn let_go(self) -> Option<Running> {
        let pid = self.child.id()?;
        tree::stat(pid).map(|stat| Running { pid, start: stat.start })
    }
}
