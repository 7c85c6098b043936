#![doc = include_str!("../README.md")]

pub mod fixed;
pub mod guard;
pub mod listener;
pub mod mesh;

pub use fixed::{StaticMesh, StaticSettings};
pub use guard::{Mode, Refusal, is_mesh_address, may_listen};
pub use listener::{Connection, Listener};
pub use mesh::{Answer, Mesh, MeshError, MeshStatus, Peer};
