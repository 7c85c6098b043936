//! The recovery door: what works when the agent does not, or when every key is lost. A local peer's credentials say who
//! asks, the closed list is `allod_proto::recovery`, and the record has every ask. What is looked at is in [`doctor`].

mod doctor;

use crate::{
    Executor,
    rate::Reader,
    record::{ChangeEntry, record_fault, who},
    server::{self, Lines},
};
use allod_audit::{Ending, Intent, Read};
use allod_commands::{Caller, Entry as _, PeerCredentials, RecoveryPermit, recover};
use allod_proto::{
    Fault, FaultCode,
    messages::{keys::KeysListReply, server::ServerDoctorReply},
    recovery::{ASK, RecoveryAction, RecoveryAnswer, RecoveryAsk, RecoveryDone, ServerIdentity},
};
use allod_signing::{EnrolledKey, PublicKey};
use serde_json::Value;
use std::{os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

/// How many may ask at once.
const SEATS: usize = 8;
/// How long an ask may take to come, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// A life that is younger than this does not begin anew: whoever asks in a loop must not keep the server from starting.
const SETTLED: Duration = Duration::from_secs(10);

/// Opens the door for root, for the executor's own user, and for this one.
///
/// # Errors
/// A sentence when it can't be made where nobody else can put another one.
pub(crate) fn open(executor: &Executor, user: Option<u32>) -> Result<UnixListener, String> {
    let folder = executor.layout().recovery_folder();
    let facts =
        std::fs::symlink_metadata(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if !facts.is_dir() || !server::is_own(facts.uid()) {
        return Err(format!("{} is not the executor's own folder", folder.display()));
    }
    server::bind(&executor.layout().recovery_socket(), user)
}

/// Serves the door until the future is dropped, or one of those who may has asked for a new beginning.
pub(crate) async fn serve(executor: Arc<Executor>, listener: UnixListener, user: Option<u32>) {
    let users: Arc<[u32]> = [0, rustix::process::geteuid().as_raw()].into_iter().chain(user).collect();
    let (seats, anew) = (Arc::new(Semaphore::new(SEATS)), Arc::new(Semaphore::new(0)));
    let accepting = async {
        loop {
            let stream = server::accept(&listener, |uid| users.contains(&uid)).await;
            let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
            let (executor, users, anew) = (Arc::clone(&executor), Arc::clone(&users), Arc::clone(&anew));
            tokio::spawn(async move {
                match connection(&executor, stream, &users).await {
                    Ok(Next::Anew) => anew.add_permits(1),
                    Ok(Next::Same) => {}
                    Err(error) => tracing::warn!(%error, "a connection to the recovery door ended early"),
                }
                drop(seat);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = anew.acquire() => {}
    }
}

/// What follows from an ask.
#[derive(Debug, PartialEq)]
enum Next {
    Same,
    Anew,
}

/// One ask, one answer.
async fn connection(executor: &Arc<Executor>, stream: UnixStream, users: &[u32]) -> std::io::Result<Next> {
    let peer = PeerCredentials::of(&stream)?;
    let (read, mut write) = stream.into_split();
    let mut lines = Lines::new(read);
    let line = timeout(PATIENCE, lines.next(ASK, PATIENCE)).await.map_err(std::io::Error::from)?;
    let answer: RecoveryAnswer = match line {
        Ok(None) => return Ok(Next::Same),
        Ok(Some(line)) => answer(executor, &peer, users, &line).await,
        Err(cut) => Err(cut.to_fault()),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let written = timeout(PATIENCE, write.write_all(&text)).await;
    if matches!(answer, Ok(RecoveryDone::Restarting {})) {
        // It is recorded as done: whether the asker heard of it makes no difference.
        return Ok(Next::Anew);
    }
    written.map_err(std::io::Error::from)?.map(|()| Next::Same)
}

async fn answer(
    executor: &Arc<Executor>,
    peer: &PeerCredentials,
    users: &[u32],
    line: &[u8],
) -> RecoveryAnswer {
    let ask: RecoveryAsk = serde_json::from_slice(line).map_err(|error| {
        Fault::new(FaultCode::Malformed, format!("not an ask of the recovery door: {error}"))
    })?;
    let caller = Caller::recovery(peer, users)
        .ok_or_else(|| Fault::new(FaultCode::Refused, "this door is for the recovery user"))?
        .told(&ask.login);
    if matches!(ask.action, RecoveryAction::EnrolCaller { .. }) && !server::is_own(peer.uid()) {
        return Err(Fault::new(
            FaultCode::NotAllowed,
            "only root on the machine enrols callers by this door",
        )
        .hint("an owner does it from elsewhere: `allod keys add KEY.pub --role caller`"));
    }
    let permit = recover(&caller, ask.action)?;
    let id = ask.id.to_string();
    let changes = permit.action().changes();
    let outcome = if changes { change(executor, permit, id).await } else { look(executor, permit, id).await };
    outcome.map_err(|fault| fault.request(ask.id.as_str()))
}

/// Looks, and leaves a line in the record, as every read does.
async fn look(executor: &Arc<Executor>, permit: RecoveryPermit, request: String) -> RecoveryAnswer {
    let began = executor.now();
    let outcome = match permit.action() {
        RecoveryAction::Doctor {} => {
            let findings = doctor::look(executor).await;
            Ok(RecoveryDone::Doctor(ServerDoctorReply { findings }))
        }
        RecoveryAction::Identity {} => identity(executor).map(RecoveryDone::Identity),
        RecoveryAction::Keys {} => Ok(RecoveryDone::Keys(keys(executor))),
        RecoveryAction::Enrol { .. } | RecoveryAction::EnrolCaller { .. } | RecoveryAction::Restart {} => {
            Err(Fault::new(FaultCode::Internal, "a change is no look"))
        }
    };
    let code = outcome.as_ref().err().map(|fault| fault.code);
    let read = Read {
        request,
        who: who(permit.caller()),
        command: permit.action().command(),
        app: None,
        asked: None,
        said: None,
        registry: None,
        result: if code.is_none() { Ending::Ok } else { Ending::Failed },
        code,
        took_ms: executor.took_since(began),
    };
    let caller = permit.caller();
    let reader =
        Reader { key: None, name: caller.name().to_owned(), source: caller.source().map(str::to_owned) };
    if let Err(fault) = executor.record_at_a_rate(reader, 1, allod_audit::Entry::Read(Box::new(read))) {
        // A record that can't be written is one of the things to be recovered from.
        tracing::error!(%fault, "a look through the recovery door could not be recorded");
    }
    outcome
}

/// Intent durable, then done, then the outcome durable: what can't be recorded does not happen.
async fn change(executor: &Arc<Executor>, permit: RecoveryPermit, request: String) -> RecoveryAnswer {
    let line = match permit.action() {
        RecoveryAction::Enrol { key, name } => Some(owner_line(key, name.as_deref())?),
        RecoveryAction::EnrolCaller { key, name, from, expires } => {
            Some(caller_line(key, name, from.as_deref(), expires.as_deref())?)
        }
        RecoveryAction::Restart {} => None,
        RecoveryAction::Doctor {} | RecoveryAction::Identity {} | RecoveryAction::Keys {} => {
            return Err(Fault::new(FaultCode::Internal, "a look is no change"));
        }
    };
    // Recovery is for when nothing else works: it may use the room that is set aside.
    executor.room().spend();
    let entry = ChangeEntry::open(executor, intent(&permit, request, line.as_deref())).await?;
    let done = match &line {
        Some(line) => enrol(executor, line),
        None => settled(executor).map(|()| RecoveryDone::Restarting {}),
    };
    let outcome = done.as_ref().map(|_| Value::Null).map_err(Clone::clone);
    entry.close(&outcome.map(crate::perform::Performed::Replied)).await?;
    done
}

fn intent(permit: &RecoveryPermit, request: String, line: Option<&str>) -> Intent {
    Intent {
        request,
        who: who(permit.caller()),
        command: permit.action().command(),
        app: None,
        target: None,
        params: line.map_or(Value::Null, |line| serde_json::json!({"line": line})),
        nonce: None,
        signed_at: None,
        signature: None,
        signed: None,
        delegation: None,
    }
}

/// An owner without conditions and with a name that says where it comes from: the asker chooses neither role nor options.
fn owner_line(key: &str, name: Option<&str>) -> Result<String, Fault> {
    plain_key(key)?;
    let name = match name {
        None => String::new(),
        Some(name) if RecoveryAction::name_is_sound(name) => format!("-{name}"),
        Some(_) => return Err(invalid("the name is not one word of letters, digits and @._-".to_owned())),
    };
    Ok(format!("role=owner {key} recovered{name}"))
}

/// A caller with what narrows it: what is in `from` and `expires` can't end its quotes, and is read as any line is.
fn caller_line(key: &str, name: &str, from: Option<&str>, expires: Option<&str>) -> Result<String, Fault> {
    plain_key(key)?;
    if !RecoveryAction::name_is_sound(name) {
        return Err(invalid("the name is not one word of letters, digits and @._-".to_owned()));
    }
    let mut options = "role=caller".to_owned();
    for (option, value) in [("from", from), ("expiry-time", expires)] {
        let Some(value) = value else { continue };
        if value.contains(['"', '\\']) || value.chars().any(char::is_control) {
            return Err(invalid(format!("a value of {option} has no quotes in it")));
        }
        options.push_str(&format!(",{option}=\"{value}\""));
    }
    let line = format!("{options} {key} {name}");
    let entry = EnrolledKey::parse(&line).map_err(|error| invalid(error.to_string()))?;
    Ok(entry.to_line())
}

/// One text, one meaning: nothing may stand before, after or between.
fn plain_key(key: &str) -> Result<(), Fault> {
    let public =
        PublicKey::from_openssh(key).map_err(|error| invalid(format!("the key can't be read: {error}")))?;
    if public.to_openssh() == key {
        return Ok(());
    }
    Err(invalid("the key is not a type, a space and base64".to_owned()))
}

fn invalid(why: String) -> Fault {
    Fault::new(FaultCode::Invalid, why)
        .hint("give the first two words of a .pub file, and a name if you like")
}

fn enrol(executor: &Executor, line: &str) -> RecoveryAnswer {
    let now = executor.now();
    let mut keys = executor.keys();
    keys.refresh();
    keys.add(line, now).map(RecoveryDone::Keys)
}

fn settled(executor: &Executor) -> Result<(), Fault> {
    let age = executor.age();
    if age >= SETTLED {
        return Ok(());
    }
    let message = format!("the executor began only {} s ago", age.as_secs());
    Err(Fault::new(FaultCode::Busy, message)
        .hint(format!("it begins anew at most every {} s", SETTLED.as_secs())))
}

fn keys(executor: &Executor) -> KeysListReply {
    let mut keys = executor.keys();
    keys.refresh();
    keys.list()
}

fn identity(executor: &Executor) -> Result<ServerIdentity, Fault> {
    let (identity, succession) = {
        let who = executor.who();
        (who.fingerprint().clone(), who.succession())
    };
    Ok(ServerIdentity {
        identity,
        record_key: executor.record_public_key().fingerprint().clone(),
        recipient: crate::secrets::recipient(executor.layout())?,
        record: executor.record().head().map_err(|error| record_fault(&error))?.head,
        succession,
    })
}

#[cfg(test)]
mod tests;
