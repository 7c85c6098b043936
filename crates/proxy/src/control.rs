//! The control socket: the agent asks in lines of JSON, each answered in turn. A connection that waits for a drain holds
//! up no other. Proxies that are retiring are asked too. Whoever has the socket's name answers; if a successor took the
//! name and died with it, it is taken back.

use crate::{predecessors::Predecessors, shared::Shared};
use allod_proto::{
    limits,
    routes::{ProxyAnswer, ProxyAsk, ProxyStatus},
};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// How often the socket's name is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What answers need.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) predecessors: Predecessors,
}

/// A bound socket, and which file it is.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    inode: u64,
}

/// Binds the socket so that it never exists with another mode than it is to have: under another name first. That is 0600,
/// or 0660 in a folder whose group its maker meant to pass on (setgid): there the agent has another user, and that group.
pub(crate) fn bind(path: &Path) -> io::Result<Socket> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(temporary)?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).map(fs::metadata).transpose()?;
    let is_shared = folder.is_some_and(|folder| folder.permissions().mode() & 0o2000 != 0);
    fs::set_permissions(temporary, fs::Permissions::from_mode(if is_shared { 0o660 } else { 0o600 }))?;
    let inode = fs::metadata(temporary)?.ino();
    fs::rename(temporary, path)?;
    Ok(Socket { listener, inode })
}

/// Answers until dropped.
pub(crate) async fn serve(mut socket: Socket, path: PathBuf, answering: Arc<Answering>) {
    let mut connections = JoinSet::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let answering = Arc::clone(&answering);
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, &answering).await {
                            tracing::warn!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket can't accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = look.tick() => if !answering.shared.is_retiring() && is_orphaned(&path, socket.inode).await {
                tracing::error!("nobody answers where the control socket was; it is bound anew");
                match bind(&path) {
                    Ok(anew) => socket = anew,
                    Err(error) => tracing::error!(%error, "the control socket can't be bound anew"),
                }
            },
        }
    }
}

/// Whether the name leads to another socket than ours, or nowhere, and nobody listens there.
async fn is_orphaned(path: &Path, inode: u64) -> bool {
    if fs::metadata(path).is_ok_and(|facts| facts.ino() == inode) {
        return false;
    }
    let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    UnixStream::connect(path).await.is_err_and(|error| gone.contains(&error.kind()))
}

async fn connection(stream: UnixStream, answering: &Answering) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut stream).take(limits::LINE as u64).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(ask) => answering.answer(ask).await.unwrap_or_else(|message| ProxyAnswer::Failed { message }),
            Err(error) => ProxyAnswer::Failed { message: format!("not an ask: {error}") },
        };
        let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        text.push(b'\n');
        stream.get_mut().write_all(&text).await?;
    }
}

impl Answering {
    async fn answer(&self, ask: ProxyAsk) -> Result<ProxyAnswer, String> {
        let shared = &self.shared;
        match &ask {
            ProxyAsk::Load => {
                let generation = load(shared).await?;
                self.pass_on(&ask, Duration::ZERO).await?;
                Ok(ProxyAnswer::Loaded { generation })
            }
            ProxyAsk::Drain { upstream, timeout_ms } => {
                let wait = Duration::from_millis(*timeout_ms);
                let (here, there) = tokio::join!(shared.drain(*upstream, wait), self.pass_on(&ask, wait));
                let cut_there = there?
                    .into_iter()
                    .map(|answer| if let ProxyAnswer::Drained { cut } = answer { cut } else { 0 });
                Ok(ProxyAnswer::Drained { cut: here?.saturating_add(cut_there.sum()) })
            }
            ProxyAsk::Pause { app, timeout_ms } => {
                shared.pauses.pause(app.clone(), Duration::from_millis(*timeout_ms));
                self.pass_on(&ask, Duration::ZERO).await?;
                Ok(ProxyAnswer::Done)
            }
            ProxyAsk::Resume { app } => {
                shared.pauses.resume(app);
                self.pass_on(&ask, Duration::ZERO).await?;
                Ok(ProxyAnswer::Done)
            }
            ProxyAsk::Certificates => certificates(shared).await,
            ProxyAsk::Status => Ok(ProxyAnswer::Status(self.status())),
        }
    }

    /// A proxy that is retiring itself leaves this to its successor, which knows all.
    async fn pass_on(&self, ask: &ProxyAsk, waits: Duration) -> Result<Vec<ProxyAnswer>, String> {
        if self.shared.is_retiring() { Ok(Vec::new()) } else { self.predecessors.ask(ask, waits).await }
    }

    fn status(&self) -> ProxyStatus {
        let shared = &self.shared;
        ProxyStatus {
            generation: shared.generation(),
            listen: self.listen.clone(),
            requests: shared.requests.load(Ordering::Relaxed),
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            own_errors: shared.own_errors.load(Ordering::Relaxed),
            pid: std::process::id(),
            paused: shared.pauses.all(),
        }
    }
}

async fn certificates(shared: &Arc<Shared>) -> Result<ProxyAnswer, String> {
    let shared = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || shared.tls.as_ref().map(|tls| tls.certificates.reload()));
    match read.await.map_err(|error| error.to_string())? {
        None => Err("this proxy has no certificates".to_owned()),
        Some(Ok(read)) => Ok(ProxyAnswer::Certificates { names: read.names, complaints: read.complaints }),
        Some(Err(error)) => Err(with_causes(&error)),
    }
}

async fn load(shared: &Arc<Shared>) -> Result<u64, String> {
    let shared = Arc::clone(shared);
    let loaded = tokio::task::spawn_blocking(move || shared.reload()).await;
    let message = match loaded {
        Ok(Ok(generation)) => return Ok(generation),
        Ok(Err(error)) => with_causes(&error),
        Err(error) => error.to_string(),
    };
    tracing::error!(message, "the routes were not loaded; those of before are served on");
    Err(message)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
