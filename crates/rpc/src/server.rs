//! The server side of the two doors: HTTP on the mesh address, JSON lines on the local socket. Both end in the same
//! [`Service`], with the same [`Presented`] proof of who is calling.

mod authenticate;
mod http;
mod listener;
mod peer;
mod service;
mod socket;
mod strangers;
mod stream;

pub use authenticate::{Authenticated, Rejected, authenticate};
pub use listener::{Doorway, ListenerLimits};
pub use peer::PeerCredentials;
pub use service::{Answer, Chunk, Incoming, Keys, Presented, Service};
pub use socket::serve_socket;
pub use strangers::Strangers;
