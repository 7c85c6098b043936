#![doc = include_str!("../README.md")]

pub mod control;
mod engine;
pub mod identity;
mod packet;
pub mod relay;

pub use identity::{Identity, IdentityError};
