#![doc = include_str!("../README.md")]

pub mod control;
pub mod engine;
mod filter;
pub mod identity;
mod netstack;
pub mod node;
mod packet;
pub mod relay;

pub use engine::{PeerPath, Random, Route, Standing};
pub use identity::{Identity, IdentityError};
pub use netstack::{MeshListener, MeshStream};
pub use node::{Clock, Interfaces, Node, NodeSettings, NodeStatus, RelayPacket, Wires};
