//! The door of named commands behind sshd, and for root on the machine: one request a connection, its output as it comes.
//! The kernel says that the gate's user is there, the gate says who logged in, and the decision is `crate::named`'s.

mod asked;
mod help;
pub(crate) mod keys_file;
mod seats;
mod talk;

pub(crate) use asked::Asked;

use crate::{
    Executor,
    named::{self, Following},
    rate::Reader,
    record::{ChangeRecorder, who},
    server,
};
use allod_audit::{Ending, Entry, Read, Who};
use allod_commands::{
    Caller, Door, GateLogin, GateRefused, PeerCredentials,
    line::{self, Line},
};
use allod_proto::{
    Command, Fault, FaultCode, Role, RunId,
    gate::{GateAsk, GateReply},
    messages::named::{CommandRun, GatePanic},
    named::{RunEvent, RunSummary},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use seats::{Seat, Seats};
use std::{os::unix::fs::MetadataExt as _, sync::Arc};
use talk::{Gone, Talk};
use tokio::net::{UnixListener, UnixStream};

/// Who asked, in the record, where nobody is known.
const NOBODY: &str = "nobody";
/// What was asked, in the record: to run something, or what there is.
const COMMAND: &str = "command.run";
const HELP: &str = "gate.help";
const RUNS: &str = "command.runs";
const OUTPUT: &str = "command.output";

/// Opens the door for root, for the executor's own user, and for the gate's.
///
/// # Errors
/// A sentence when it can't be made where nobody else can put another one.
pub(crate) fn open(executor: &Executor, user: Option<u32>) -> Result<UnixListener, String> {
    let folder = executor.layout().gate_folder();
    let facts =
        std::fs::symlink_metadata(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if !facts.is_dir() || !server::is_own(facts.uid()) {
        return Err(format!("{} is not the executor's own folder", folder.display()));
    }
    server::bind(&executor.layout().gate_socket(), user)
}

/// Serves the door until the future is dropped.
pub(crate) async fn serve(executor: Arc<Executor>, listener: UnixListener, user: Option<u32>) {
    let gate = Arc::new(Gate { executor, user, seats: Arc::default() });
    loop {
        let stream = server::accept(&listener, |uid| gate.may_connect(uid)).await;
        let Some(seat) = gate.seats.take() else {
            talk::turn_away(&stream);
            continue;
        };
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            if let Err(Gone(why)) = gate.connection(stream, seat).await {
                tracing::info!(why, "a connection of the gate ended early");
            }
        });
    }
}

/// The door.
struct Gate {
    executor: Arc<Executor>,
    /// The gate's uid.
    user: Option<u32>,
    seats: Arc<Seats>,
}

/// A request whose caller is known.
struct Request {
    caller: Caller,
    ask: GateAsk,
    bytes: Vec<u8>,
}

impl Gate {
    fn may_connect(&self, uid: u32) -> bool {
        server::is_own(uid) || Some(uid) == self.user
    }

    /// One request, to its end.
    async fn connection(&self, stream: UnixStream, mut seat: Seat) -> Result<(), Gone> {
        let peer = PeerCredentials::of(&stream).map_err(|error| Gone(error.to_string()))?;
        let mut talk = Talk::new(stream);
        let request = match talk.ask().await? {
            Ok(ask) => self.identify(&peer, ask),
            Err(fault) => Err(fault),
        };
        let request = match request {
            Ok(request) => request,
            Err(fault) => return talk.say(&GateReply::Fault(fault)).await,
        };
        if let Some(key) = request.caller.key()
            && !seat.belongs_to(key)
        {
            let fault = Fault::new(FaultCode::TooMany, "this key has as many requests open as one key may")
                .hint("try again when one of them has ended");
            self.refuse(&request, &fault);
            return talk.say(&GateReply::Fault(fault)).await;
        }
        match self.answer(&mut talk, request).await? {
            Ok(()) => Ok(()),
            Err(fault) => talk.say(&GateReply::Fault(fault)).await,
        }
    }

    /// Who asks. A login that is no caller stands in the record with what it asked for.
    fn identify(&self, peer: &PeerCredentials, ask: GateAsk) -> Result<Request, Fault> {
        let request = ask.request.as_deref().unwrap_or_default();
        let bytes = STANDARD.decode(request).map_err(|_| {
            Fault::new(FaultCode::Malformed, "not an ask of the gate: the request is no base64")
        })?;
        if let Some(from) = ask.login.from {
            self.executor.gate_asked().note(from, ask.port, self.executor.now());
        }
        match self.caller(peer, &ask) {
            Ok(caller) => Ok(Request { caller, ask, bytes }),
            Err((nobody, refused)) => {
                let fault = Fault::from(refused).request(ask.id.as_str());
                self.record(nobody, &ask, &bytes, Err(&fault));
                Err(fault)
            }
        }
    }

    fn caller(&self, peer: &PeerCredentials, ask: &GateAsk) -> Result<Caller, (Who, GateRefused)> {
        let own = rustix::process::geteuid().as_raw();
        let logged_in =
            ask.login.key.is_some() || ask.login.from.is_some() || ask.certificate || ask.caller.is_some();
        if !logged_in && let Some(caller) = Caller::on_the_machine(peer, own) {
            return Ok(caller);
        }
        // Root may play the gate: it is whoever it wants to be anyway.
        let users: Vec<u32> = [0, own].into_iter().chain(self.user).collect();
        let mut keys = self.executor.keys();
        keys.refresh();
        let told = GateLogin {
            login: &ask.login,
            port: ask.port,
            caller: ask.caller.as_deref(),
            certificate: ask.certificate,
            enrolled: keys.enrolled(),
            revoked: keys.revoked(),
        };
        Caller::gate(peer, &users, told, self.executor.now()).map_err(|refused| {
            let known = ask.login.key.as_ref().and_then(|key| keys.enrolled().find(key));
            let nobody = Who {
                key: ask.login.key.clone(),
                delegate: None,
                name: known.map_or(NOBODY, allod_signing::EnrolledKey::name).to_owned(),
                role: Role::Caller,
                door: Door::Gate,
                source: Some(told.source()),
            };
            (nobody, refused)
        })
    }

    async fn answer(&self, talk: &mut Talk, request: Request) -> Result<Result<(), Fault>, Gone> {
        if let Some(held) = held(&request) {
            return self.hold(talk, request, held).await;
        }
        let wish = match line::parse(&request.bytes) {
            Ok(Line::Run(wish)) => wish,
            Ok(Line::Nothing) => {
                let fault = Fault::new(FaultCode::Invalid, "a login without a command");
                self.refuse(&request, &fault);
                talk.say(&self.help(&request.caller)).await?;
                return Ok(Ok(()));
            }
            Ok(Line::Help) => {
                self.looked(&request, HELP);
                talk.say(&self.help(&request.caller)).await?;
                return Ok(Ok(()));
            }
            Ok(Line::Runs) => {
                self.looked(&request, RUNS);
                let text = help::runs(&self.runs(&request.caller));
                return talk.say(&GateReply::Text(text)).await.map(Ok);
            }
            Ok(Line::Watch(run)) => return self.watch(talk, &request, &run).await,
            Err(refused) => {
                let fault = Fault::from(refused).request(request.ask.id.as_str());
                self.refuse(&request, &fault);
                return Ok(Err(fault));
            }
        };
        let wish = match self.with_input(talk, &request, wish).await? {
            Ok(wish) => wish,
            Err(fault) => return Ok(Err(fault)),
        };
        let (id, detach) = (request.ask.id, wish.detach);
        match named::run(&self.executor, request.caller, id, wish).await {
            Ok(following) if detach => {
                talk.say(&GateReply::Text(format!("{}\n", following.summary().id))).await.map(Ok)
            }
            Ok(following) => follow(talk, following).await.map(Ok),
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// Newest first.
    fn runs(&self, caller: &Caller) -> Vec<RunSummary> {
        let runs = self.executor.named().summaries();
        runs.into_iter().filter(|run| caller.sees_run(run)).collect()
    }

    /// What a run prints, from its first byte on. Another caller's looks like one that never was.
    async fn watch(&self, talk: &mut Talk, request: &Request, id: &RunId) -> Result<Result<(), Fault>, Gone> {
        match self.executor.named().run_for(&request.caller, id) {
            Ok(run) => {
                self.looked(request, OUTPUT);
                follow(talk, Following::look(run)).await.map(Ok)
            }
            Err(fault) => {
                let fault = fault.hint("`runs` lists the last ones of this key");
                self.refuse(request, &fault);
                Ok(Err(fault))
            }
        }
    }

    /// Root on the machine stops all callers, or lets them in again.
    async fn hold(&self, talk: &mut Talk, request: Request, held: bool) -> Result<Result<(), Fault>, Gone> {
        let recorder = ChangeRecorder::unsigned(Arc::clone(&self.executor));
        let command = Command::GatePanic(GatePanic { held });
        let asked = allod_proto::Request { v: allod_proto::VERSION, id: request.ask.id, command };
        match named::allowed(&self.executor, &recorder, request.caller, asked).await {
            Ok(_) => {
                let text = if held { "All callers are stopped.\n" } else { "Callers are let in again.\n" };
                talk.say(&GateReply::Text(text.to_owned())).await.map(Ok)
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// The same with standard input, where this caller may run a command that takes any.
    async fn with_input(
        &self,
        talk: &mut Talk,
        request: &Request,
        wish: CommandRun,
    ) -> Result<Result<CommandRun, Fault>, Gone> {
        let limit = named::stdin_limit(&self.executor, &request.caller, &wish);
        if limit == 0 {
            return Ok(Ok(wish));
        }
        Ok(match talk.input(limit).await? {
            Ok(stdin) => Ok(CommandRun { stdin: Some(stdin), ..wish }),
            Err(fault) => {
                let fault = fault.request(request.ask.id.as_str());
                self.refuse(request, &fault);
                Err(fault)
            }
        })
    }

    fn refuse(&self, request: &Request, fault: &Fault) {
        let Request { caller, ask, bytes } = request;
        self.record(who(caller), ask, bytes, Err(fault));
    }

    fn looked(&self, request: &Request, command: &'static str) {
        self.record(who(&request.caller), &request.ask, &request.bytes, Ok(command));
    }

    fn help(&self, caller: &Caller) -> GateReply {
        let commands = named::runnable(&self.executor, caller);
        GateReply::Help { text: help::text(caller.name(), &commands), commands }
    }

    /// A look, or a request that was refused before it was a command's: one line of the record, or counted.
    fn record(&self, who: Who, ask: &GateAsk, bytes: &[u8], came_of_it: Result<&'static str, &Fault>) {
        let fault = came_of_it.err();
        // Without the port: each login has another one, and they are one reader.
        let source = ask.login.from.map(|from| from.to_canonical().to_string());
        let reader = Reader { key: who.key.clone(), name: who.name.clone(), source };
        let read = Box::new(Read {
            request: ask.id.to_string(),
            who,
            command: came_of_it.unwrap_or(COMMAND).to_owned(),
            app: None,
            asked: Some(line::escape(bytes)),
            said: fault.map(|fault| fault.message.clone()),
            registry: fault.map(|_| self.executor.named().counter()),
            result: if fault.is_some() { Ending::Failed } else { Ending::Ok },
            code: fault.map(|fault| fault.code),
            took_ms: 0,
        });
        let entry = if fault.is_some() { Entry::Denied(read) } else { Entry::Read(read) };
        if let Err(fault) = self.executor.record_at_a_rate(reader, 1, entry) {
            tracing::error!(%fault, "what came to the gate could not be recorded");
        }
    }
}

/// Whether root on the machine asks for what is no request line: no caller's name has a full stop.
fn held(request: &Request) -> Option<bool> {
    match (request.caller.door(), request.bytes.as_slice()) {
        (Door::Socket, b"gate.panic") => Some(true),
        (Door::Socket, b"gate.resume") => Some(false),
        _ => None,
    }
}

/// Passes a run on to its end. When the other end goes first, so does `following`, which says it to the run.
async fn follow(talk: &mut Talk, mut following: Following) -> Result<(), Gone> {
    loop {
        let event = tokio::select! {
            event = following.next() => event,
            gone = talk.gone() => return Err(gone),
        };
        match event {
            Some(RunEvent::Began {}) => {}
            Some(RunEvent::Output { stream, bytes }) => {
                talk.say(&GateReply::Output { stream, bytes }).await?
            }
            Some(RunEvent::Ended(end)) => return talk.say(&GateReply::Ended(end)).await,
            None => {
                let run = following.summary().id;
                let fault = Fault::new(FaultCode::Internal, format!("nobody knows how {run} ended"))
                    .hint("`allod runs` shows what is known of it");
                return talk.say(&GateReply::Fault(fault)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
