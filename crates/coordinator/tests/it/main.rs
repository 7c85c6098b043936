//! The coordinator over real sockets on loopback, driven by a client of our own.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what fails in a helper fails its test"
)]
#![expect(clippy::print_stderr, reason = "what was skipped is said")]

mod door;
mod headscale;
mod hostile;
mod kill;
mod maps;
mod nodes;
mod pairs;
mod paths;
mod relay;
mod scale;
mod sleep;
mod stock;
mod talk;
mod world;

use allod_testkit::client;
