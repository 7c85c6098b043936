#![doc = include_str!("../README.md")]

mod activity;
mod carry;
mod door;
mod forward;
mod line;
pub mod network;
mod place;
mod ports;
mod program;
mod run;
mod secret;
pub mod settings;
mod stream;
mod talk;

pub use network::{NetworkError, NetworkRecord};
pub use program::main;
pub use run::{NodeError, run};
pub use settings::{Settings, Way};
