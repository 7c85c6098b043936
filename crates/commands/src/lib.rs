#![doc = include_str!("../README.md")]

pub mod authorize;
pub mod caller;
pub mod dispatch;
pub mod recover;

pub use allod_rpc::server::PeerCredentials;
pub use authorize::{Denied, Permit, allowed, authorize};
pub use caller::{Caller, Door, SystemReason};
pub use dispatch::{Entry, Recorder, dispatch};
pub use recover::{RecoveryPermit, recover};
