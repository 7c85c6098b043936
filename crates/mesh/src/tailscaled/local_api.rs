//! Asking tailscaled over its Unix socket: HTTP/1.1, one question a connection, each with a deadline and a bounded answer.
//! The socket is believed only if root or our own user listens there.

use crate::{MeshError, Trouble};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, sync::Semaphore, task::JoinHandle, time::timeout};

/// Where tailscaled listens unless told otherwise.
#[cfg(not(target_os = "macos"))]
pub const SOCKET: &str = "/run/tailscale/tailscaled.sock";
/// Where tailscaled listens unless told otherwise.
#[cfg(target_os = "macos")]
pub const SOCKET: &str = "/var/run/tailscaled.socket";

/// The name it wants to be asked for; an Origin or a Referer it refuses.
const HOST: &str = "local-tailscaled.sock";
/// How long one question and its answer may take together.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const ANSWER: usize = 1024 * 1024;
const HEAD: usize = 64 * 1024;
/// How many questions are asked at once: callers without number must not become connections without number.
const AT_ONCE: usize = 16;

/// A way to ask.
#[derive(Debug)]
pub(crate) struct LocalApi {
    socket: PathBuf,
    places: Semaphore,
}

impl LocalApi {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, places: Semaphore::new(AT_ONCE) }
    }

    /// How the daemon stands, without the peers.
    pub(crate) async fn status(&self) -> Result<Bytes, MeshError> {
        match self.ask("/localapi/v0/status?peers=false").await? {
            (StatusCode::OK, body) => Ok(body),
            (status, body) => Err(self.refused(status, &body)),
        }
    }

    /// Whose end of a connection that is; `None` where the daemon knows nobody.
    pub(crate) async fn whois(&self, peer: SocketAddr) -> Result<Option<Bytes>, MeshError> {
        // An IPv6 address in brackets; brackets are not allowed in a query.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
        let peer = peer.replace('[', "%5B").replace(']', "%5D");
        match self.ask(&format!("/localapi/v0/whois?addr={peer}")).await? {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => Err(self.refused(status, &body)),
        }
    }

    /// A bell that rings at each change.
    pub(crate) async fn bell(&self) -> Result<Bell, MeshError> {
        // NotifyInitialState and NotifyRateLimit of `ipn.NotifyWatchOpt`.
        let ringing = async {
            let (answer, driving) = self.send("/localapi/v0/watch-ipn-bus?mask=258").await?;
            match answer.status() {
                StatusCode::OK => Ok(Bell { body: answer.into_body(), driving }),
                status => {
                    driving.0.abort();
                    Err(self.refused(status, &[]))
                }
            }
        };
        timeout(PATIENCE, ringing).await.unwrap_or_else(|_| Err(self.silent("no answer in time")))
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), MeshError> {
        let asking = async {
            let _place = self.places.acquire().await.map_err(|error| self.silent(&error.to_string()))?;
            let (answer, _driving) = self.send(path).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await;
            let body = body.map_err(|error| unreadable(&error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(self.silent("no answer in time")))
    }

    async fn send(&self, path: &str) -> Result<(Response<Incoming>, Driving), MeshError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.silent(&error.to_string()))?;
        self.check_listener(&stream)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| self.silent(&error.to_string()))?;
        let driving = Driving(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = Request::get(path)
            .header(header::HOST, HOST)
            .body(Empty::new())
            .map_err(|error| unreadable(&error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| {
            if error.is_parse() { unreadable(&error.to_string()) } else { self.silent(&error.to_string()) }
        })?;
        Ok((answer, driving))
    }

    // Who can put a socket of their own at a path that somebody gave decides who is on the mesh.
    fn check_listener(&self, stream: &UnixStream) -> Result<(), MeshError> {
        let listener = stream.peer_cred().map_err(|error| self.silent(&error.to_string()))?.uid();
        let own = rustix::process::geteuid().as_raw();
        if listener == 0 || listener == own {
            return Ok(());
        }
        let why = format!("user {listener} listens there, who is neither root nor the one asking");
        Err(MeshError::Trouble(Trouble::Untrusted { socket: shown(&self.socket), why }))
    }

    fn silent(&self, why: &str) -> MeshError {
        MeshError::Trouble(Trouble::NoDaemon { socket: shown(&self.socket), why: why.to_owned() })
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> MeshError {
        let says = super::answer::plain(&String::from_utf8_lossy(body), 120);
        let why =
            if says.is_empty() { format!("status {status}") } else { format!("status {status}, {says}") };
        self.silent(&why)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(why: &str) -> MeshError {
    MeshError::Trouble(Trouble::Unreadable { why: why.to_owned() })
}

/// The task that moves a connection's bytes; ends with this.
#[derive(Debug)]
struct Driving(JoinHandle<()>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The daemon's stream of changes, of which only that there was one is heard: what it says is asked for anew. So no line
/// of it has to be kept, however long.
#[derive(Debug)]
pub(crate) struct Bell {
    body: Incoming,
    #[expect(dead_code, reason = "held for its end")]
    driving: Driving,
}

impl Bell {
    /// Waits for the next change; false once the stream has ended.
    pub(crate) async fn rung(&mut self) -> bool {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|part| part.contains(&b'\n')) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }
}
