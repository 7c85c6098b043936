//! Whole command lines against real doors on loopback: what a person types, what lands on stdout, which code it ends
//! with.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "what fails here fails a test, and helpers are no test functions to clippy"
)]

mod audit;
mod keys;
mod ops;
mod person;
mod server;
mod servers;
mod shape;
