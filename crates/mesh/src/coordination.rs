//! Administering the private network, whoever coordinates it: keys to join with, machines, policy. A trait that every
//! driver keeps. A coordinator gives reachability; no decision of identity is made by what it says.

mod backup;
pub mod endpoint;
pub mod error;
pub mod headscale;
mod http;
pub mod secret;
pub mod tailscale;
pub mod words;

pub use endpoint::{Endpoint, EndpointError};
pub use error::CoordinationError;
pub use headscale::Headscale;
pub use secret::Secret;
pub use tailscale::{OAuthClient, Tailscale};
pub use words::{
    Administered, BackupManifest, Capabilities, JoinGrant, JoinKey, JoinOwner, JoinRequest, MeshNode,
    MeshUser, NodeId, NodeName, Policy, Tag,
};

use allod_proto::Timestamp;
use std::{future::Future, path::Path, pin::Pin};

/// What a coordinator answers, later.
pub type Told<'a, T> = Pin<Box<dyn Future<Output = Result<T, CoordinationError>> + Send + 'a>>;

/// A network's coordinator, as its administrator uses it.
pub trait Coordination: Send + Sync {
    /// What this one can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether it is there, is well, and accepts us.
    fn health(&self) -> Told<'_, Administered>;

    /// Makes a key to join with. It is shown this once.
    fn mint_join(&self, request: JoinRequest, now: Timestamp) -> Told<'_, JoinGrant>;

    /// Ends a key, so that nobody joins with it any more. Who has joined stays.
    fn revoke_join<'a>(&'a self, id: &'a str) -> Told<'a, ()>;

    /// The keys there are, without their secrets.
    fn list_join(&self) -> Told<'_, Vec<JoinKey>>;

    /// The machines that have joined.
    fn nodes(&self) -> Told<'_, Vec<MeshNode>>;

    /// Ends a machine's key: it has to log in again.
    fn expire_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()>;

    /// Removes a machine for good.
    fn delete_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()>;

    /// Gives a machine another name.
    fn rename_node<'a>(&'a self, id: &'a NodeId, name: &'a NodeName) -> Told<'a, ()>;

    /// The people there are.
    fn users(&self) -> Told<'_, Vec<MeshUser>>;

    /// Adds one.
    fn create_user<'a>(&'a self, name: &'a str) -> Told<'a, MeshUser>;

    /// Who may reach whom, in the coordinator's own words.
    fn policy(&self) -> Told<'_, Policy>;

    /// Changes it; with a version, only if that is still the present one.
    fn set_policy<'a>(&'a self, policy: &'a Policy) -> Told<'a, ()>;

    /// Writes down what can be read over this interface.
    fn backup<'a>(&'a self, into: &'a Path) -> Told<'a, BackupManifest>;
}
