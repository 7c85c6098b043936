//! Calls of named commands as their callers make them: by the signed door with an id until there is an answer, by the
//! gate's program as sshd begins it, and by the local door.

use super::{Named, eventually};
use allod_proto::{
    CommandId, FaultCode,
    messages::named::{CommandRun, CommandRunReply},
    named::{RunEnd, RunState},
};
use allod_rpc::client::{Client, ClientError, Forgetful, OneKey};
use allod_signing::KeySigner;
use std::sync::Arc;
use tokio::process::Child;

/// Where somebody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Signed,
    Gate,
    Local,
}

/// One call; its token is nobody else's.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) token: String,
    pub(super) ms: u64,
    pub(super) door: Door,
    pub(super) name: &'static str,
}

/// What a caller at the signed door was told in the end.
#[derive(Debug)]
pub(super) enum Told {
    Ended(RunEnd),
    Unknown,
}

/// A gate's program.
pub(super) struct Program {
    pub(super) door: Door,
    pub(super) pid: u32,
    child: Child,
}

impl Call {
    fn params(&self) -> std::collections::BTreeMap<String, String> {
        [("token".to_owned(), self.token.clone()), ("ms".to_owned(), format!("{}", self.ms))].into()
    }

    /// Asks under one id until there is an answer that stays, and then once more.
    pub(super) async fn ask(&self, named: &Named) -> Told {
        let id = CommandId::new(format!("campaign-calls-{:0>12}", self.token)).unwrap();
        let told = self.until_known(named, &id).await;
        let again = self.until_known(named, &id).await;
        match (&told, &again) {
            (Told::Ended(first), Told::Ended(second)) => assert_eq!(first, second, "{self:?}"),
            (Told::Unknown, Told::Unknown) => {}
            _ => panic!("{self:?} was answered {told:?} and then {again:?}"),
        }
        told
    }

    async fn until_known(&self, named: &Named, id: &CommandId) -> Told {
        eventually(&format!("{self:?} is answered"), async || match self.once(named, id).await {
            Ok(CommandRunReply { run, .. }) => match run.state {
                RunState::Ended(end) => Some(Told::Ended(end)),
                RunState::Waiting {} | RunState::Running {} => None,
            },
            Err(error) => match error.code() {
                FaultCode::UnknownOutcome => Some(Told::Unknown),
                FaultCode::Unreachable
                | FaultCode::Timeout
                | FaultCode::Busy
                | FaultCode::StaleEpoch
                | FaultCode::RecordUnavailable => None,
                _ => panic!("{self:?}: {error}"),
            },
        })
        .await
    }

    async fn once(&self, named: &Named, id: &CommandId) -> Result<CommandRunReply, ClientError> {
        let key = KeySigner::from_openssh(&named.key.to_openssh(), None).unwrap();
        let mut client = Client::connect_with_keys(
            named.world.peer(),
            Box::new(OneKey::new(Arc::new(key))),
            Box::new(Forgetful::default()),
        )
        .await?;
        let ask =
            CommandRun { name: self.name.to_owned(), params: self.params(), stdin: None, detach: false };
        client.call_with_id(id, ask).await
    }

    /// Begins a program of the gate for it.
    pub(super) fn spawn(&self, named: &Named) -> Program {
        let words = format!("{} token={} ms={}", self.name, self.token, self.ms);
        let mut command = match self.door {
            Door::Gate => named.as_sshd_begins_it(&words),
            Door::Signed | Door::Local => named.on_the_machine(&words.split(' ').collect::<Vec<_>>()),
        };
        let child = command.spawn().unwrap();
        Program { door: self.door, pid: child.id().unwrap(), child }
    }
}

impl Program {
    /// Its exit code; `None` when it was killed.
    pub(super) async fn end(self) -> Option<i32> {
        let ended = tokio::time::timeout(crate::processes::PATIENCE * 3, self.child.wait_with_output()).await;
        ended.expect("the gate's program does not end").unwrap().status.code()
    }
}
