#![doc = include_str!("../README.md")]

pub mod control;
pub mod identity;
pub mod relay;

pub use identity::{Identity, IdentityError};
