#![doc = include_str!("../README.md")]

pub mod command;
pub mod executor;
pub mod fault;
pub mod gate;
pub mod headers;
pub mod hub;
pub mod limits;
pub mod manifest;
pub mod messages;
pub mod named;
pub mod names;
pub mod node;
pub mod operation;
pub mod record;
pub mod recovery;
pub mod role;
pub mod routes;
pub mod shown;
pub mod spec;
pub mod witness;
pub mod words;

pub use command::{Command, CommandName, Kind, Reply, Request};
pub use fault::{Fault, FaultCode};
pub use names::{
    AppName, AppRef, CommandId, EnvName, InstanceId, NameError, NamedCommandName, OperationId, ParamName,
    ReleaseId, RunId, SecretName, UnitName,
};
pub use role::Role;
pub use words::{Digest, Epoch, Fingerprint, Nonce, Timestamp};

/// The protocol version this program speaks. It also understands [`OLDEST_VERSION`].
pub const VERSION: u32 = 2;
/// The oldest protocol version this program still understands.
pub const OLDEST_VERSION: u32 = 1;
/// The protocol version that brought delegations.
pub const DELEGATION_VERSION: u32 = 2;
