//! A listening port on the mesh.

use super::{MeshStream, Netstack};
use std::{fmt, io, sync::Arc};

/// A port that is listened on, on every address of the node. Dropping it resets what was not accepted.
pub struct MeshListener {
    net: Arc<Netstack>,
    port: u16,
}

impl MeshListener {
    pub(super) fn new(net: Arc<Netstack>, port: u16) -> Self {
        Self { net, port }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next connection. May be dropped and called again: nothing is lost by it.
    ///
    /// # Errors
    /// When the port is no longer listened on.
    pub async fn accept(&self) -> io::Result<MeshStream> {
        loop {
            let notify = {
                let mut stack = self.net.lock();
                if let Some((handle, local, peer)) = stack.accept(self.port) {
                    return Ok(MeshStream::new(Arc::clone(&self.net), handle, local, peer));
                }
                stack.notify(self.port).ok_or(io::ErrorKind::NotConnected)?
            };
            notify.notified().await;
        }
    }
}

impl Drop for MeshListener {
    fn drop(&mut self) {
        self.net.lock().stop_listening(self.port);
        self.net.kick();
    }
}

impl fmt::Debug for MeshListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshListener({})", self.port)
    }
}
