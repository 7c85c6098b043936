#![doc = include_str!("../README.md")]

mod coordinator;
mod door;
pub mod keys;
mod map;
pub mod policy;
mod relay;
mod server;
mod settings;
pub mod state;
pub mod store;
mod stun;
mod view;

pub use coordinator::{
    Coordinator, CoordinatorError, NodeStatus, has_root_key, read_root_key, remove_root_key,
};
pub use server::Now;
pub use settings::{RelaySettings, Settings, Tls};
