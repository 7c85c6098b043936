//! Ordinary sockets on the mesh's addresses and on no other interface than the mesh's. A machine answers, unless told
//! otherwise, for each of its addresses on every interface it has; bound to the interface, it does not.

use crate::{Interface, MeshError};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BACKLOG: u32 = 1024;
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Listens on one port of each address; 0 picks a free one, the same on all. With an interface, only what arrives there
/// is heard, and what this machine sends to itself.
pub(crate) fn listen(
    addresses: &[IpAddr],
    port: u16,
    interface: Option<&Interface>,
) -> Result<Vec<TcpListener>, MeshError> {
    match listen_by(addresses, port, interface) {
        // Linux before 5.7 lets only the privileged bind to an interface. Who is let in is decided by `whois` all the
        // same, and answers leave by the mesh, so that a forged source from elsewhere never completes a connection.
        Err(MeshError::Listen { source, .. })
            if interface.is_some() && source.kind() == io::ErrorKind::PermissionDenied =>
        {
            tracing::warn!(
                "this system does not let us bind to the mesh's interface; its addresses are bound alone"
            );
            listen_by(addresses, port, None)
        }
        done => done,
    }
}

fn listen_by(
    addresses: &[IpAddr],
    port: u16,
    interface: Option<&Interface>,
) -> Result<Vec<TcpListener>, MeshError> {
    let mut port = port;
    let mut sockets = Vec::new();
    for address in addresses {
        for device in devices(interface) {
            let wanted = SocketAddr::new(*address, port);
            let failed = |source: io::Error| match source.kind() {
                io::ErrorKind::AddrNotAvailable => MeshError::NotHere { address: *address },
                _ => MeshError::Listen { address: wanted, source },
            };
            let socket = socket_for(*address).map_err(failed)?;
            socket.set_reuseaddr(true).map_err(failed)?;
            bind_device(&socket, device).map_err(failed)?;
            socket.bind(wanted).map_err(failed)?;
            let bound = socket.listen(BACKLOG).map_err(failed)?;
            port = bound.local_addr().map_err(failed)?.port();
            sockets.push(bound);
        }
    }
    if sockets.is_empty() { Err(MeshError::NoAddress) } else { Ok(sockets) }
}

/// Connects, by way of this interface only if there is one.
pub(crate) async fn connect(to: SocketAddr, interface: Option<&Interface>) -> Result<TcpStream, MeshError> {
    let failed = |source: io::Error| MeshError::Connect { address: to, source };
    let socket = socket_for(to.ip()).map_err(failed)?;
    bind_device(&socket, interface.map(|interface| interface.name.as_str())).map_err(failed)?;
    tokio::time::timeout(CONNECT_WAIT, socket.connect(to))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)
}

fn socket_for(address: IpAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// The name under which a machine's packets to itself arrive.
#[cfg(target_os = "linux")]
const LOOPBACK: &str = "lo";

/// The mesh's interface, and loopback beside it: a program here that asks for our mesh address comes by that way.
#[cfg(target_os = "linux")]
fn devices(interface: Option<&Interface>) -> Vec<Option<&str>> {
    match interface {
        None => vec![None],
        Some(interface) if interface.name == LOOPBACK => vec![Some(LOOPBACK)],
        Some(interface) => vec![Some(interface.name.as_str()), Some(LOOPBACK)],
    }
}

#[cfg(not(target_os = "linux"))]
fn devices(_interface: Option<&Interface>) -> Vec<Option<&str>> {
    vec![None]
}

#[cfg(target_os = "linux")]
fn bind_device(socket: &TcpSocket, device: Option<&str>) -> io::Result<()> {
    match device {
        None => Ok(()),
        Some(device) => socket.bind_device(Some(device.as_bytes())),
    }
}

#[cfg(not(target_os = "linux"))]
fn bind_device(_socket: &TcpSocket, _device: Option<&str>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
