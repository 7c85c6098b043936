#![doc = include_str!("../README.md")]

mod backoff;
pub mod control;
mod dial;
pub mod engine;
mod filter;
pub mod identity;
pub mod member;
mod netstack;
pub mod node;
mod noise_stream;
mod packet;
pub mod relay;
mod tsmp;
mod upgrade;

pub use dial::DialError;
pub use engine::{PeerPath, Random, Route, Standing};
pub use identity::{Identity, IdentityError};
pub use member::{Member, MemberError, MemberSettings};
pub use netstack::{MeshListener, MeshStream};
pub use node::{Clock, Interfaces, Node, NodeSettings, NodeStatus, RelayPacket, Wires};
pub use noise_stream::NoiseStream;
pub use upgrade::UpgradeError;
