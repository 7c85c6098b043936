//! The real binary from end to end on loopback: every program as its own process, everything asked of it through the
//! command line or the signed door, attacks included. Nothing outlives its test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "what fails in a helper fails its test, and the tests start real programs"
)]

mod app;
mod campaign;
mod canary;
mod cli;
mod clock;
mod combinations;
mod crash;
mod crowd;
mod cuts;
mod delegation;
mod deploy;
mod door;
mod doors;
mod embedded;
mod executor;
mod failures;
mod floods;
mod full_disk;
mod guide;
mod hub_mesh;
mod isolation;
mod liar;
mod limits;
mod liveness;
mod load;
mod mesh;
mod named;
mod node;
mod operations;
mod processes;
mod record;
mod recover;
mod replace;
mod rotation;
mod running;
mod secrets;
mod socket;
mod steady;
mod streams;
mod versions;
mod visitor;
mod wire;
mod world;
mod wrong;
