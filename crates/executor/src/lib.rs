#![doc = include_str!("../README.md")]

pub mod actions;
pub mod apps;
pub mod artefacts;
pub mod assemble;
pub mod authorize;
mod changes;
mod executor;
mod failure;
#[cfg(test)]
mod formats;
mod gate;
pub mod groups;
mod identity;
pub mod instances;
pub mod isolation;
pub mod keys;
#[cfg(test)]
mod lasting;
pub mod layout;
pub mod logs;
pub mod memory;
mod named;
mod operations;
pub mod perform;
pub mod program;
mod rate;
pub mod record;
mod recovery;
mod room;
pub mod secrets;
pub mod server;
pub mod shim;
mod statistics;

pub use executor::Executor;
pub use program::main;
