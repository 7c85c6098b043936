//! Who is in the network: nodes, join keys, machines that wait, the policy. Pure: each change takes `now`, changes this value and
//! notes the rows that must be stored; who calls keeps the result only once they are.

mod addresses;
mod join_key;
mod names;
mod record;
mod register;

pub use join_key::{JoinKeyRecord, JoinKeySpec};
pub use names::{is_label, is_tag};
pub use record::NodeRecord;
pub use register::{APPROVAL_WAIT, Asked, LOGIN_LIFETIME, Registered};

use crate::policy::{Policy, PolicyError};
use allod_meshproto::{
    MachineKey, NodeKey,
    control::{Hostinfo, MapRequest, NodeId},
};
use allod_proto::Timestamp;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// How long an ephemeral node may be away.
pub const EPHEMERAL_GRACE: Duration = Duration::from_secs(300);
/// Nodes of one network: what one map can hold.
const NODES: usize = allod_meshproto::limits::PEERS;
/// Tags of one node.
const TAGS: usize = 16;
/// Join keys that are kept.
const JOIN_KEYS: usize = 10_000;

/// Why something is refused. Where the asker has proven nothing, the words don't tell which check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A key of zeros.
    #[error("a node needs a key")]
    NoKey,
    /// The node key is bound to another machine.
    #[error("this node key belongs to another machine")]
    ForeignKey,
    /// A join key that does not let in.
    #[error("this join key is unknown, used up, expired or revoked")]
    JoinKey,
    /// Too many machines wait for a person.
    #[error("too many machines wait for approval; try again later")]
    TooManyWait,
    /// Nobody waits under this id.
    #[error("no machine waits under this id")]
    NotWaiting,
    /// There is no such node, or not of this machine.
    #[error("no such node")]
    NoNode,
    /// There is no such join key.
    #[error("no such join key")]
    NoJoinKey,
    /// A name that is no DNS label.
    #[error("a name has 1 to 63 lower-case letters, digits and inner hyphens")]
    Name,
    /// Another node has the name.
    #[error("another node has this name")]
    NameTaken,
    /// A tag that is none, or too many.
    #[error("a tag is `tag:` and a name; a node has at most 16")]
    Tag,
    /// Nodes, addresses or join keys are used up.
    #[error("the network is full")]
    Full,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
    /// A policy that is not taken.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// A machine that waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The id on its page.
    pub id: String,
    /// The machine.
    pub machine: MachineKey,
    /// The node key that it wants.
    pub key: NodeKey,
    /// Where it asked from.
    pub source: IpAddr,
    /// What it says of its host.
    pub host: Hostinfo,
    /// The capability version it speaks.
    pub version: u32,
    /// Whether it wants to be forgotten when it is away.
    pub ephemeral: bool,
    /// Since when it waits.
    pub since: Timestamp,
}

/// What is counted off and never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The number of the next node.
    pub next_node: i64,
    /// The count of the next addresses.
    pub next_address: u32,
}

impl Default for Counters {
    fn default() -> Self {
        Self { next_node: 1, next_address: 1 }
    }
}

/// A row that must be stored for a change to hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A node, new or changed.
    Node(Arc<NodeRecord>),
    /// A node that is gone.
    NoNode(NodeId),
    /// A join key, new or changed.
    JoinKey(Arc<JoinKeyRecord>),
    /// A join key that is forgotten.
    NoJoinKey(String),
    /// The counters.
    Counters(Counters),
    /// The policy.
    Policy(Arc<Policy>),
}

/// The network. Copies are cheap: what did not change is shared.
#[derive(Debug, Clone, Default)]
pub struct State {
    nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    by_key: Arc<BTreeMap<NodeKey, NodeId>>,
    by_machine: Arc<BTreeMap<MachineKey, NodeId>>,
    join_keys: Arc<BTreeMap<String, Arc<JoinKeyRecord>>>,
    pending: BTreeMap<String, Arc<Pending>>,
    policy: Arc<Policy>,
    counters: Counters,
    rows: Vec<Row>,
}

impl State {
    /// The network that was stored.
    #[must_use]
    pub fn stored(
        nodes: Vec<NodeRecord>,
        join_keys: Vec<JoinKeyRecord>,
        policy: Policy,
        counters: Counters,
    ) -> Self {
        let mut state = Self { policy: Arc::new(policy), counters, ..Self::default() };
        nodes.into_iter().for_each(|node| state.put_node(node));
        join_keys.into_iter().for_each(|key| state.put_join_key(key));
        state.rows.clear();
        state
    }

    /// All nodes, by their number.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeId, Arc<NodeRecord>> {
        &self.nodes
    }

    /// The node with this key.
    #[must_use]
    pub fn node_by_key(&self, key: NodeKey) -> Option<&Arc<NodeRecord>> {
        self.by_key.get(&key).and_then(|id| self.nodes.get(id))
    }

    /// The node of this machine.
    #[must_use]
    pub fn node_of_machine(&self, machine: MachineKey) -> Option<&Arc<NodeRecord>> {
        self.by_machine.get(&machine).and_then(|id| self.nodes.get(id))
    }

    /// All join keys.
    pub fn join_keys(&self) -> impl Iterator<Item = &Arc<JoinKeyRecord>> {
        self.join_keys.values()
    }

    /// All machines that wait for a person.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Pending>> {
        self.pending.values()
    }

    /// The machine that waits under this id.
    #[must_use]
    pub fn waiting(&self, id: &str) -> Option<&Arc<Pending>> {
        self.pending.get(id)
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// What is counted off.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What must be stored for the changes since the last call.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }

    /// Hears what a node says of itself in a map request. Who asks is checked: machine and node key must be one node's.
    ///
    /// # Errors
    /// [`Refusal::NoNode`].
    pub fn hear(
        &mut self,
        machine: MachineKey,
        request: &MapRequest,
        region: u32,
    ) -> Result<NodeId, Refusal> {
        let own = self.own(machine, request.node_key)?.clone();
        if request.read_only {
            return Ok(own.id);
        }
        let mut node = own.as_ref().clone();
        node.version = request.version;
        if !request.disco_key.is_zero() {
            node.disco = request.disco_key;
        }
        if !request.stream || !request.endpoints.is_empty() {
            node.endpoints = request.endpoints.iter().take(record::ENDPOINTS).copied().collect();
        }
        if let Some(host) = &request.hostinfo {
            node.host = record::cut(host);
            if let Some(net) = &host.net_info {
                node.home = if net.preferred_derp == region { region } else { 0 };
            }
        }
        let id = node.id;
        if node != *own {
            self.put_node(node);
        }
        Ok(id)
    }

    /// The node of this machine with this key.
    ///
    /// # Errors
    /// [`Refusal::NoNode`], also when the key is another machine's.
    pub fn own(&self, machine: MachineKey, key: NodeKey) -> Result<&Arc<NodeRecord>, Refusal> {
        self.node_by_key(key).filter(|node| node.machine == machine).ok_or(Refusal::NoNode)
    }

    /// Notes that a node was there until `now`.
    pub fn saw(&mut self, id: NodeId, now: Timestamp) {
        if let Some(node) = self.nodes.get(&id).cloned() {
            self.put_node(NodeRecord { last_seen: Some(now), ..node.as_ref().clone() });
        }
    }

    /// Removes ephemeral nodes that are away for too long, and forgets who waited too long.
    pub fn tidy(&mut self, is_online: impl Fn(NodeId) -> bool, started: Timestamp, now: Timestamp) {
        self.forget_waiting(now);
        let gone = self.overdue(is_online, started, now);
        gone.into_iter().for_each(|id| self.remove_node(id));
    }

    /// The ephemeral nodes that are away for too long. While the coordinator was away itself, nobody could be seen: no absence
    /// counts from before it `started`.
    #[must_use]
    pub fn overdue(
        &self,
        is_online: impl Fn(NodeId) -> bool,
        started: Timestamp,
        now: Timestamp,
    ) -> Vec<NodeId> {
        let is_gone = |node: &&Arc<NodeRecord>| {
            let since = node.last_seen.unwrap_or(node.created).max(started);
            node.ephemeral && !is_online(node.id) && now.since(since) >= EPHEMERAL_GRACE
        };
        self.nodes.values().filter(is_gone).map(|node| node.id).collect()
    }

    /// Makes a join key; its text is shown once.
    ///
    /// # Errors
    /// When a tag is none, or there are too many keys.
    pub fn create_join_key(
        &mut self,
        spec: JoinKeySpec,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<(Arc<JoinKeyRecord>, Zeroizing<String>), Refusal> {
        let spent: Vec<String> =
            self.join_keys.values().filter(|key| !key.is_good(now)).map(|key| key.id.clone()).collect();
        if self.join_keys.len() >= JOIN_KEYS {
            for id in spent {
                Arc::make_mut(&mut self.join_keys).remove(&id);
                self.rows.push(Row::NoJoinKey(id));
            }
        }
        if self.join_keys.len() >= JOIN_KEYS {
            return Err(Refusal::Full);
        }
        let (record, text) = JoinKeyRecord::generate(spec, now, random)?;
        self.put_join_key(record.clone());
        Ok((Arc::new(record), text))
    }

    /// Revokes a join key. Nodes that it let in stay.
    ///
    /// # Errors
    /// [`Refusal::NoJoinKey`].
    pub fn revoke_join_key(&mut self, id: &str) -> Result<(), Refusal> {
        let key = self.join_keys.get(id).cloned().ok_or(Refusal::NoJoinKey)?;
        self.put_join_key(JoinKeyRecord { revoked: true, ..key.as_ref().clone() });
        Ok(())
    }

    /// Gives a node a name.
    ///
    /// # Errors
    /// When it is no name, or another node's, or there is no such node.
    pub fn rename(&mut self, id: NodeId, name: &str) -> Result<(), Refusal> {
        let node = self.nodes.get(&id).cloned().ok_or(Refusal::NoNode)?;
        self.check_name(name, Some(id))?;
        self.put_node(NodeRecord { name: name.to_owned(), ..node.as_ref().clone() });
        Ok(())
    }

    /// Gives a node tags.
    ///
    /// # Errors
    /// When one is no tag, or there is no such node.
    pub fn set_tags(&mut self, id: NodeId, tags: Vec<String>) -> Result<(), Refusal> {
        let node = self.nodes.get(&id).cloned().ok_or(Refusal::NoNode)?;
        if tags.len() > TAGS || tags.iter().any(|tag| !is_tag(tag)) {
            return Err(Refusal::Tag);
        }
        self.put_node(NodeRecord { tags, ..node.as_ref().clone() });
        Ok(())
    }

    /// Sets when a node's key expires; a time that has passed shuts it out until it is let in anew.
    ///
    /// # Errors
    /// [`Refusal::NoNode`].
    pub fn set_expiry(&mut self, id: NodeId, expiry: Option<Timestamp>) -> Result<(), Refusal> {
        let node = self.nodes.get(&id).cloned().ok_or(Refusal::NoNode)?;
        self.put_node(NodeRecord { expiry, ..node.as_ref().clone() });
        Ok(())
    }

    /// Deletes a node. Its number and addresses are never given again.
    ///
    /// # Errors
    /// [`Refusal::NoNode`].
    pub fn delete(&mut self, id: NodeId) -> Result<(), Refusal> {
        if !self.nodes.contains_key(&id) {
            return Err(Refusal::NoNode);
        }
        self.remove_node(id);
        Ok(())
    }

    /// Replaces the policy, if its own test cases hold in it.
    ///
    /// # Errors
    /// What is wrong with it; the former one stays.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), Refusal> {
        policy.check(&self.nodes)?;
        self.policy = Arc::new(policy);
        self.rows.push(Row::Policy(Arc::clone(&self.policy)));
        Ok(())
    }

    fn check_name(&self, name: &str, own: Option<NodeId>) -> Result<(), Refusal> {
        if !is_label(name) {
            return Err(Refusal::Name);
        }
        if self.nodes.values().any(|node| node.name == name && Some(node.id) != own) {
            return Err(Refusal::NameTaken);
        }
        Ok(())
    }

    fn put_node(&mut self, node: NodeRecord) {
        let node = Arc::new(node);
        let former = self.nodes.insert(node.id, Arc::clone(&node));
        if former.as_ref().is_none_or(|former| former.key != node.key) {
            let by_key = Arc::make_mut(&mut self.by_key);
            if let Some(former) = former.as_ref() {
                by_key.remove(&former.key);
            }
            by_key.insert(node.key, node.id);
        }
        if former.is_none() {
            Arc::make_mut(&mut self.by_machine).insert(node.machine, node.id);
        }
        self.rows.push(Row::Node(node));
    }

    fn remove_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            Arc::make_mut(&mut self.by_key).remove(&node.key);
            Arc::make_mut(&mut self.by_machine).remove(&node.machine);
            self.rows.push(Row::NoNode(id));
        }
    }

    fn put_join_key(&mut self, key: JoinKeyRecord) {
        let key = Arc::new(key);
        Arc::make_mut(&mut self.join_keys).insert(key.id.clone(), Arc::clone(&key));
        self.rows.push(Row::JoinKey(key));
    }

    fn put_counters(&mut self, counters: Counters) {
        self.counters = counters;
        self.rows.push(Row::Counters(counters));
    }
}

#[cfg(test)]
mod tests;
