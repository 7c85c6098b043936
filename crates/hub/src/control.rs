//! What only a person on the hub's own machine may do, through a socket in the hub's own folder: its user and root may use it, by
//! the word of the kernel. Whatever changes something is in the log, with the user id that asked.

use crate::{coordination::Coordination, registry::Registry};
use allod_daemon::Clock;
use allod_proto::{
    Fault, FaultCode,
    hub::{ANSWER, ASK, HubAnswer, HubAsk, PATIENCE, SOCKET},
};
use serde_json::Value;
use std::{
    fs::File,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Conversations at a time.
const CONVERSATIONS: usize = 16;
/// How long one may take from its ask to the last byte of its answer.
const ANSWERING: Duration = Duration::from_secs(120);

/// What is asked here is done by these.
#[derive(Debug)]
pub struct Desk {
    /// The servers that are watched.
    pub registry: Arc<Registry>,
    /// The coordinator, where this hub runs one.
    pub coordination: Option<Arc<Coordination>>,
    /// The clock.
    pub clock: Clock,
}

/// The socket of the hub whose folder is `folder`.
#[must_use]
pub fn socket_path(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Binds the socket, for the hub's user alone. The caller holds the folder's lock, so a socket that is there is a dead one.
///
/// # Errors
/// When it can't be bound.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = socket_path(folder);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers on the socket. Never ends.
pub async fn run(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let _place = place;
                    if !matches!(tokio::time::timeout(ANSWERING, serve(stream, &desk)).await, Ok(Ok(()))) {
                        tracing::debug!("a conversation on the control socket ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed on the control socket; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut stream = BufReader::new(stream);
    let heard = tokio::time::timeout(PATIENCE, line(&mut stream, ASK)).await?;
    let outcome = match heard {
        _ if !may_ask(uid) => Err(Fault::new(FaultCode::NotAllowed, "the hub's own user and root may ask")),
        Ok(line) => match serde_json::from_str(&line) {
            Ok(ask) => hear(ask, desk, uid).await,
            Err(error) => Err(Fault::new(FaultCode::Malformed, error.to_string())),
        },
        Err(error) => Err(Fault::new(FaultCode::Malformed, error.to_string())),
    };
    let (answer, file) = outcome.unwrap_or_else(|fault| (HubAnswer::Failed(fault), None));
    let mut text = zeroize::Zeroizing::new(serde_json::to_vec(&answer)?);
    text.push(b'\n');
    stream.write_all(&text).await?;
    if let Some(file) = file {
        tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut stream).await?;
    }
    stream.shutdown().await
}

fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// One line, of at most so many bytes.
async fn line(stream: &mut BufReader<UnixStream>, most: usize) -> io::Result<String> {
    let mut line = String::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    stream.take(most).read_line(&mut line).await?;
    if !line.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that does not end, or is too long"));
    }
    Ok(line)
}

async fn hear(ask: HubAsk, desk: &Desk, uid: u32) -> Result<(HubAnswer, Option<File>), Fault> {
    let noted = ask.is_change().then(|| in_short(&ask));
    let outcome = obey(ask, desk).await;
    if let Some(asked) = noted {
        let outcome = outcome.as_ref().map_or_else(|fault| fault.code.as_str(), |_| "done");
        tracing::info!(uid, asked, outcome, "asked on the control socket");
    }
    outcome
}

/// The ask without what is long; nothing in it is secret.
fn in_short(ask: &HubAsk) -> String {
    let mut value = serde_json::to_value(ask).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| name != "text" && name != "signed");
    }
    value.to_string()
}

async fn obey(ask: HubAsk, desk: &Desk) -> Result<(HubAnswer, Option<File>), Fault> {
    let (registry, now) = (Arc::clone(&desk.registry), desk.clock.now());
    let work: Box<dyn FnOnce() -> Result<String, Fault> + Send> = match ask {
        HubAsk::Acknowledge { identity } => Box::new(move || {
            let was = registry.acknowledge(&identity, now)?;
            Ok(format!("acknowledged that {}; what it says now counts", was.in_words()))
        }),
        HubAsk::Forget { identity } => {
            Box::new(move || registry.forget(&identity).map(|()| "forgotten".to_owned()))
        }
        other => {
            let Some(coordination) = &desk.coordination else {
                return Err(Fault::new(FaultCode::NotFound, "this hub runs no coordinator")
                    .hint("begin it with --coordinator ADDRESS:PORT"));
            };
            return coordination.obey(other, now).await;
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done
        .unwrap_or_else(|_| Err(Fault::new(FaultCode::Internal, "the hub failed; its log has the cause")))?;
    Ok((HubAnswer::Done { message: done }, None))
}

/// Asks the hub whose folder is `folder`.
///
/// # Errors
/// The hub's fault, or `Unreachable` when no hub answers there.
pub async fn ask(folder: &Path, ask: &HubAsk) -> Result<HubAnswer, Fault> {
    ask_for_more(folder, ask).await.map(|(answer, _)| answer)
}

/// The same, with the connection that more may follow on.
///
/// # Errors
/// As [`ask`].
pub async fn ask_for_more(folder: &Path, ask: &HubAsk) -> Result<(HubAnswer, BufReader<UnixStream>), Fault> {
    let path = socket_path(folder);
    let unreachable = |error: io::Error| {
        Fault::new(FaultCode::Unreachable, format!("no hub answers at {}: {error}", path.display()))
            .hint("is it running, and are you its user or root? --state says which folder is meant")
    };
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(&path).await?);
        let mut asked = serde_json::to_vec(ask)?;
        asked.push(b'\n');
        // A hub that refuses early hangs up before all is written, and its answer says why.
        let _ = stream.write_all(&asked).await;
        let answer = zeroize::Zeroizing::new(line(&mut stream, ANSWER).await?);
        Ok((serde_json::from_str::<HubAnswer>(&answer)?, stream))
    };
    let told = tokio::time::timeout(ANSWERING, talk).await;
    match told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)? {
        (HubAnswer::Failed(fault), _) => Err(fault),
        told => Ok(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_not_logged() {
        let ask = HubAsk::SetPolicy { text: "x".repeat(10_000) };
        assert_eq!(in_short(&ask), r#"{"ask":"set_policy"}"#);
        let ask = HubAsk::Reject { id: "a\nb".to_owned() };
        assert_eq!(in_short(&ask), r#"{"ask":"reject","id":"a\nb"}"#);
    }

    #[test]
    fn nobody_but_root_and_our_own_user_may_ask() {
        let own = rustix::process::geteuid().as_raw();
        assert!(!may_ask(own.wrapping_add(1)) && !may_ask(u32::MAX));
        assert!(may_ask(own) && may_ask(0));
    }
}
