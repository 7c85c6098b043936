//! The proxy over real sockets on loopback, with small servers as instances.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails its test")]

mod draining;
mod files;
mod forwarding;
mod limits;
mod malformed;
mod raw_h2;
mod starting;
mod support;
mod tables;
mod taking_over;
mod tls;
