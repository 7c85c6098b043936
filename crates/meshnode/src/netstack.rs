//! TCP on the mesh: `smoltcp` between IP packets and streams. One lock, held while packets are worked on and never across an await.

mod device;
mod listener;
mod recovery;
mod stack;
mod stream;

pub use listener::MeshListener;
pub(crate) use stack::Stack;
pub use stream::MeshStream;

use allod_proto::Timestamp;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(60);

/// The stack, shared by its streams, its listeners and the loop that moves packets.
pub(crate) struct Netstack {
    stack: Mutex<Stack>,
    kick: Notify,
}

impl Netstack {
    /// One without addresses; `seed` is where ports and sequence numbers begin.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { stack: Mutex::new(Stack::new(seed)), kick: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream or a listener wants packets to go.
    pub(crate) async fn kicked(&self) {
        self.kick.notified().await;
    }

    fn kick(&self) {
        self.kick.notify_one();
    }

    /// These are the node's addresses from now on. Connections of others end.
    pub(crate) fn set_addresses(&self, addresses: &[IpAddr]) {
        self.lock().set_addresses(addresses);
    }

    /// An IP packet came in.
    pub(crate) fn inject(&self, packet: Vec<u8>) {
        self.lock().inject(packet);
    }

    /// Works through what came in and what streams want. Gives the packets to send, and when to come back.
    pub(crate) fn poll(&self, now: Timestamp) -> (Vec<Vec<u8>>, Option<Duration>) {
        self.lock().poll(now)
    }

    /// Nobody polls it any more.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// Listens on a port of every address; 0 is refused, and so is one that is listened on.
    pub(crate) fn listen(self: &Arc<Self>, port: u16) -> io::Result<MeshListener> {
        self.lock().listen(port)?;
        Ok(MeshListener::new(Arc::clone(self), port))
    }

    /// Connects to a port of a peer.
    pub(crate) async fn connect(self: &Arc<Self>, to: SocketAddr) -> io::Result<MeshStream> {
        let (handle, local) = self.lock().connect(to)?;
        let stream = MeshStream::new(Arc::clone(self), handle, local, to);
        self.kick();
        let timely = tokio::time::timeout(CONNECT, stream.connected()).await;
        timely.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests;
