//! From the request to the end of a run: what the reply has not, the stream has. A stream that is cut is taken up again
//! where it was.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{
    CommandId, Fault, FaultCode, RunId,
    command::StreamItem,
    messages::named::{CommandCancel, CommandOutput, CommandRun, CommandRuns},
    named::{RunEnd, RunEvent, RunState, RunSummary, Stream},
};
use allod_rpc::client::{Client, ClientError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::time::Duration;

/// How often a stream that was cut is taken up again without anything new coming from it.
const AGAIN: u32 = 15;

/// What became of a run.
pub(crate) struct Followed {
    pub(crate) run: RunSummary,
    /// `None` where it was not waited for.
    pub(crate) end: Option<RunEnd>,
}

/// Where what a run prints goes.
pub(crate) type Take<'a> = dyn FnMut(Stream, &[u8]) -> Result<(), Failure> + Send + 'a;

/// Follows runs on one server.
pub(crate) struct Follower<'a> {
    pub(crate) session: &'a Session,
    pub(crate) server: &'a Server,
}

impl Follower<'_> {
    /// Asks for a run, and follows it.
    pub(crate) async fn run(
        &self,
        ask: CommandRun,
        id: Option<&CommandId>,
        take: &mut Take<'_>,
    ) -> Result<Followed, Failure> {
        let mut client = self.session.connect(self.server).await?;
        let detach = ask.detach;
        let reply = match id {
            Some(id) => client.call_with_id(id, ask).await,
            None => client.call(ask).await,
        };
        let reply = reply.map_err(|error| Failure::from(error).on(&self.server.name))?;
        let mut follow = Follow { after: 0, end: None };
        follow.show(&reply.events, take)?;
        if follow.end.is_none() && !detach {
            self.to_its_end(&mut client, &reply.run.id, &mut follow, take).await?;
        }
        self.told(reply.run, follow)
    }

    /// Follows a run that there is.
    pub(crate) async fn attach(&self, id: &RunId, take: &mut Take<'_>) -> Result<Followed, Failure> {
        let mut client = self.session.connect(self.server).await?;
        let runs = client.call(CommandRuns {}).await?.runs;
        let run = runs.into_iter().find(|run| run.id == *id).ok_or_else(|| {
            Failure::new(FaultCode::NotFound, format!("{} knows no run {id}", self.server.name))
                .hint("`allod runs list` shows the last ones")
        })?;
        let mut follow = Follow { after: 0, end: None };
        self.to_its_end(&mut client, id, &mut follow, take).await?;
        self.told(run, follow)
    }

    fn told(&self, run: RunSummary, follow: Follow) -> Result<Followed, Failure> {
        let state = follow.end.clone().map_or(run.state.clone(), RunState::Ended);
        Ok(Followed { run: RunSummary { state, ..run }, end: follow.end })
    }

    async fn to_its_end(
        &self,
        client: &mut Client,
        id: &RunId,
        follow: &mut Follow,
        take: &mut Take<'_>,
    ) -> Result<(), Failure> {
        let mut cuts = 0;
        while follow.end.is_none() {
            let before = follow.after;
            match self.once(client, id, follow, take).await {
                Ok(()) if follow.end.is_some() => {}
                Ok(()) => {
                    let why = format!("what {id} printed is no longer kept");
                    return Err(
                        Failure::new(FaultCode::NotFound, why).hint("`allod audit show` has how it ended")
                    );
                }
                Err(Stopped::Cut(error)) if cuts < AGAIN => {
                    cuts = if follow.after == before { cuts + 1 } else { 1 };
                    self.session.output.note(&format!("{error}; taking it up again"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(Stopped::Cut(error)) => return Err(Failure::from(*error).on(&self.server.name)),
                Err(Stopped::Failure(failure)) => return Err(*failure),
            }
        }
        Ok(())
    }

    async fn once(
        &self,
        client: &mut Client,
        id: &RunId,
        follow: &mut Follow,
        take: &mut Take<'_>,
    ) -> Result<(), Stopped> {
        let ask = CommandOutput { run: id.clone(), after: follow.after };
        let mut stream = tokio::select! {
            stream = client.stream(ask) => stream.map_err(Stopped::of)?,
            () = self.session.interrupted() => return Err(self.interrupted(client, id).await),
        };
        loop {
            let item = tokio::select! {
                item = stream.next() => item.map_err(Stopped::of)?,
                () = self.session.interrupted() => return Err(self.interrupted(client, id).await),
            };
            match item {
                Some(StreamItem::Run(events)) => {
                    follow.show(&events, take).map_err(|failure| Stopped::Failure(Box::new(failure)))?;
                    if follow.end.is_some() {
                        return Ok(());
                    }
                }
                Some(
                    StreamItem::Operation(_)
                    | StreamItem::Log(_)
                    | StreamItem::Record(_)
                    | StreamItem::Idle {}
                    | StreamItem::Fault(_)
                    | StreamItem::End {},
                ) => {}
                None => return Ok(()),
            }
        }
    }

    /// Ctrl-C ends what it started, as it does at a shell.
    async fn interrupted(&self, client: &mut Client, id: &RunId) -> Stopped {
        let cancelled = client.call(CommandCancel { run: id.clone() }).await;
        let message = match cancelled {
            Ok(_) => format!("{id} on {} is asked to end", self.server.name),
            Err(error) => {
                format!("{id} on {} goes on: it could not be asked to end: {error}", self.server.name)
            }
        };
        self.session.output.say("\n");
        self.session.output.note(&message);
        Stopped::Failure(Box::new(Failure::interrupted(message).with("run", id.as_str()).already_said()))
    }
}

enum Stopped {
    Cut(Box<ClientError>),
    Failure(Box<Failure>),
}

impl Stopped {
    fn of(error: ClientError) -> Self {
        match error {
            ClientError::CutOff { .. } | ClientError::Lost { .. } | ClientError::Unreachable { .. } => {
                Self::Cut(Box::new(error))
            }
            error => Self::Failure(Box::new(error.into())),
        }
    }
}

/// How far a run was followed.
struct Follow {
    after: u64,
    end: Option<RunEnd>,
}

impl Follow {
    fn show(&mut self, events: &[RunEvent], take: &mut Take<'_>) -> Result<(), Failure> {
        for event in events {
            self.after = self.after.saturating_add(1);
            match event {
                RunEvent::Began {} => {}
                RunEvent::Output { stream, bytes } => {
                    let bytes = STANDARD.decode(bytes).map_err(|_| {
                        Failure::from(Fault::new(FaultCode::Untrusted, "the output can't be read"))
                    })?;
                    take(*stream, &bytes)?;
                }
                RunEvent::Ended(end) => self.end = Some(end.clone()),
            }
        }
        Ok(())
    }
}
