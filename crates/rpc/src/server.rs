//! The server side of the two doors: HTTP on the mesh address, JSON lines on the local socket. Both end in the same
//! [`Service`], with the same [`Presented`] proof of who is calling.

mod authenticate;
mod body;
mod http;
mod listener;
mod patience;
mod peer;
mod rates;
mod reply;
mod seats;
mod service;
mod shares;
mod socket;
mod stream;

pub use authenticate::{Authenticated, Rejected, authenticate};
pub use listener::{Doorway, ListenerLimits, Room};
pub use peer::PeerCredentials;
pub use rates::Rate;
pub use service::{Answer, Chunk, Incoming, Keys, Presented, Service};
pub use socket::serve_socket;

#[cfg(test)]
mod tests;
