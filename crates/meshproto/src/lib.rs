#![doc = include_str!("../README.md")]

pub mod control;
pub mod derp;
pub mod disco;
pub mod filter;
pub mod json;
pub mod key;
pub mod limits;
pub mod map_frame;
pub mod netmap;
pub mod noise;
pub mod prefix;
mod salsa;
pub mod stun;
pub mod token;

pub use key::{
    ChallengeKey, DiscoKey, DiscoPrivate, KeyError, MachineKey, MachinePrivate, NodeKey, NodePrivate,
};
pub use prefix::Prefix;

/// The capability version this crate speaks: what a node says in `Version`, and in the Noise prologue.
/// A number of tailscale.com/tailcfg; stock clients of 1.90 to 1.98 and Headscale 0.29 and 0.30 accept it.
pub const CAPABILITY_VERSION: u16 = 130;
