//! Nodes of one mesh, on a real coordinator, asked over their sockets.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what fails in a test's helper fails the test"
)]

mod contract;
mod formats;
mod hostile;
mod life;
mod meeting;
mod users;
mod world;
