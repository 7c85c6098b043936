//! Connections that are passed on, between this machine and the mesh: looked up, checked, connected, and copied until both are done.

use crate::{failure::Failure, session::Session};
use allod_mesh::MeshKind;
use allod_proto::FaultCode;
use allod_rpc::client::Transport;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Connections at a time.
const AT_ONCE: usize = 512;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);
/// After an accept that failed.
const REST: Duration = Duration::from_millis(200);

/// Where somebody on the mesh listens: looked up by name there first, and refused if it is no address of the mesh.
///
/// # Errors
/// [`Failure`] when there is no such name, the address is none of the mesh, or nobody on the mesh has it.
pub async fn place(session: &Session, host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let at = match bare.parse() {
        Ok(address) => SocketAddr::new(address, port),
        Err(_) => session.resolve(&format!("{host}:{port}")).await?,
    };
    let is_development = session.settings.mesh == MeshKind::Loopback && at.ip().is_loopback();
    if !allod_mesh::is_mesh_address(at.ip()) && !is_development {
        let message = format!("{} is not an address of the mesh", at.ip());
        return Err(Failure::new(FaultCode::Invalid, message).hint("only the mesh is reached this way"));
    }
    session.check_peer(at).await?;
    Ok(at)
}

/// Connects there.
///
/// # Errors
/// [`Failure`] as connecting fails, and after a while without an answer.
pub async fn dial(session: &Session, to: SocketAddr) -> Result<Box<dyn Transport>, Failure> {
    let dialer = session.dialer(to).await?;
    let why = match timeout(CONNECT, dialer.dial(to)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT.as_secs()),
    };
    Err(Failure::new(FaultCode::Unreachable, format!("{to}: {why}")))
}

/// Copies both ways until both sides are done. A side that ends early ends the other one's reading only.
pub async fn pass(mut near: impl Transport, mut far: impl Transport) {
    // Whoever broke it off has been told by their own side.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

/// The next connection; failures are told and waited out.
pub async fn next(session: &Session, listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                session.output.warn(&format!("a connection can't be accepted: {error}"));
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Seats for connections that are passed on at the same time.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Seats {
    /// Waits for a seat, held until it is dropped.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}
