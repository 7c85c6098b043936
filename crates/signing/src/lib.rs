#![doc = include_str!("../README.md")]

mod canonical;
mod certificate;
mod delegation;
mod enrolled;
mod enrolled_line;
#[cfg(test)]
mod fixtures;
mod frames;
mod grant;
mod key_signer;
mod private_file;
mod public_key;
mod replay;
mod request_head;
mod revoked;
mod rsa_parts;
mod signature;
mod signer;
pub mod sshsig;
mod succession;
mod verify;
mod wire;

pub use canonical::{FrameFields, ReplyFields, RequestFields, Route, RouteError};
pub use certificate::Certificate;
pub use delegation::{DelegatedSigner, Delegation, DelegationError, Terms};
pub use enrolled::{Complaint, EnrolledKey, EnrolledKeys, LineError};
pub use frames::{FrameError, FrameSigner, FrameVerifier, SignedFrame};
pub use grant::{AddressRange, AppPattern, Grant, GrantError};
pub use key_signer::{KeyError, KeySigner};
pub use public_key::{PublicKey, PublicKeyError};
pub use replay::{ReplayError, Window};
pub use request_head::{HeadError, RequestHead};
pub use revoked::Revoked;
pub use signer::{SignError, Signer, sign_request};
pub use sshsig::signer_key;
pub use succession::{follow, sign_succession};
pub use verify::{Authority, Delegate, Refusal, Trust, Verified, still_holds, verify, verify_signature};
