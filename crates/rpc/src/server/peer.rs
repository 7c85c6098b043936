//! The kernel's word on who is at the other end of a local socket.

use tokio::net::UnixStream;

/// Credentials of a local peer. Made only from a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    uid: u32,
    pid: i32,
}

impl PeerCredentials {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) })
    }

    /// The peer's user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The peer's process when it connected; 0 if not known.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }
}
