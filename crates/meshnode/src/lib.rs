#![doc = include_str!("../README.md")]

pub mod control;
mod engine;
mod filter;
pub mod identity;
mod netstack;
mod packet;
pub mod relay;

pub use identity::{Identity, IdentityError};
