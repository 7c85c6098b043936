#![doc = include_str!("../README.md")]

pub mod choice;
pub mod coordination;
pub mod embedded;
pub mod findings;
pub mod fixed;
pub mod follow;
pub mod guard;
pub mod health;
pub mod interface;
pub mod listener;
pub mod mesh;
mod sockets;
pub mod tailscaled;
pub mod tls;

pub use choice::{ChoiceError, MeshKind, MeshSettings, Place};
pub use coordination::Coordination;
pub use embedded::{EmbeddedMesh, EmbeddedSettings, NODE_SOCKET, ResolveError};
pub use findings::findings;
pub use fixed::{StaticMesh, StaticSettings};
pub use follow::FollowingListener;
pub use guard::{Mode, Refusal, is_mesh_address, may_listen};
pub use health::{KEY_NOTICE, Trouble, ends_soon};
pub use interface::{Interface, Interfaces};
pub use listener::{Connection, Listener};
pub use mesh::{Answer, Mesh, MeshError, MeshStatus, Peer};
pub use tailscaled::{TailscaledMesh, TailscaledSettings};
