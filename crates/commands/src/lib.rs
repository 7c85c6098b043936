#![doc = include_str!("../README.md")]

pub mod authorize;
pub mod caller;
pub mod dispatch;
pub mod line;
pub mod recover;
pub mod registry;

pub use allod_rpc::server::PeerCredentials;
pub use authorize::{Denied, Permit, Rules, allowed, authorize, authorize_by};
pub use caller::{Caller, Door, GateLogin, GateRefused, SystemReason, no_run};
pub use dispatch::{Entry, Recorder, dispatch};
pub use recover::{RecoveryPermit, recover};
pub use registry::{NamedCall, NoCall, Registry};
