//! How a connection to a server comes about. By itself the client opens a TCP connection; who is on a mesh of their own dials
//! through it. What is dialled is an address that was checked before: who answers there is proved by their signature alone.

use std::{future::Future, io, net::SocketAddr, pin::Pin};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A stream of bytes, both ways.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection on its way.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'a>>;

/// Opens connections.
pub trait Dialer: Send + Sync {
    /// Connects to this address.
    ///
    /// # Errors
    /// As connecting fails anywhere; it is given up from outside when it takes too long.
    fn dial(&self, to: SocketAddr) -> Dialing<'_>;
}

/// By TCP, on whatever network the machine has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dialer for Tcp {
    fn dial(&self, to: SocketAddr) -> Dialing<'_> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            // Without it, a small request may wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}
