//! Whole command lines against real doors on loopback: what a person types, what lands on stdout, which code it ends
//! with.

mod audit;
mod keys;
mod ops;
mod person;
mod server;
mod servers;
mod shape;
