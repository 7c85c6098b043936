//! A machine registers. Which machine it is, the Noise handshake proved; a node is acted on by its own machine only. Whoever is
//! known with the same two keys is in without showing anything.

use super::{JoinKeyRecord, NodeRecord, Pending, Refusal, State, addresses, join_key, names, record};
use allod_meshproto::{
    DiscoKey, MachineKey, NodeKey,
    control::{Hostinfo, NodeId, RegisterRequest},
};
use allod_proto::Timestamp;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// How long a node key is good that a person let in.
pub const LOGIN_LIFETIME: Duration = Duration::from_secs(180 * 24 * 3600);
/// How long a machine may wait for a person.
pub const APPROVAL_WAIT: Duration = Duration::from_secs(30 * 60);
/// How many machines may wait for a person, and how many of them from one address.
const WAITING: usize = 256;
const WAITING_FROM_ONE: usize = 16;

/// Who registers, and what they say.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The machine, proven.
    pub machine: MachineKey,
    /// Where it asks from.
    pub source: IpAddr,
    /// What it asks.
    pub request: &'a RegisterRequest,
    /// A fresh text that nobody can guess, should somebody have to approve.
    pub fresh_id: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// It is in.
    In(NodeId),
    /// Its node key has expired, or it has logged out.
    Expired,
    /// Somebody must approve, under this id.
    Approve(String),
}

impl State {
    /// Registers a node.
    ///
    /// # Errors
    /// Why it is refused. Then nothing has changed.
    pub fn register(&mut self, asked: &Asked<'_>, now: Timestamp) -> Result<Registered, Refusal> {
        let request = asked.request;
        if request.node_key.is_zero() || asked.machine.is_zero() {
            return Err(Refusal::NoKey);
        }
        let own = self.node_of_machine(asked.machine).cloned();
        let holder = self.node_by_key(request.node_key);
        if holder.is_some_and(|holder| holder.machine != asked.machine) {
            return Err(Refusal::ForeignKey);
        }
        if request.expiry.is_some_and(|expiry| expiry < now) {
            return Ok(self.log_out(own.as_deref(), request.node_key, now));
        }
        if let Some(own) = own.filter(|own| own.key == request.node_key) {
            return Ok(self.again(&own, request, now));
        }
        if let Some(text) = request.auth_key() {
            return self.with_join_key(asked, text, now).map(Registered::In);
        }
        if let Some(own) = self.node_of_machine(asked.machine).cloned()
            && own.key == request.old_node_key
            && !own.is_expired(now)
        {
            // The expiry stays as it was: a node can't lengthen its own stay.
            let id = own.id;
            self.put_node(NodeRecord { key: request.node_key, ..heard(&own, request) });
            return Ok(Registered::In(id));
        }
        self.wait_for_approval(asked, now).map(Registered::Approve)
    }

    fn log_out(&mut self, own: Option<&NodeRecord>, key: NodeKey, now: Timestamp) -> Registered {
        if let Some(own) = own.filter(|own| own.key == key) {
            if own.ephemeral {
                self.remove_node(own.id);
            } else if !own.is_expired(now) {
                self.put_node(NodeRecord { expiry: Some(now), ..own.clone() });
            }
        }
        Registered::Expired
    }

    fn again(&mut self, own: &NodeRecord, request: &RegisterRequest, now: Timestamp) -> Registered {
        if own.is_expired(now) {
            return Registered::Expired;
        }
        let heard = heard(own, request);
        if heard != *own {
            self.put_node(heard);
        }
        Registered::In(own.id)
    }

    fn with_join_key(&mut self, asked: &Asked<'_>, text: &str, now: Timestamp) -> Result<NodeId, Refusal> {
        let own = self.node_of_machine(asked.machine).cloned();
        let (id, secret) = join_key::halves(text).ok_or(Refusal::JoinKey)?;
        let key = self.join_keys.get(id).cloned().ok_or(Refusal::JoinKey)?;
        if !key.is_secret(secret) || !key.is_good(now) {
            return Err(Refusal::JoinKey);
        }
        let is_repeat =
            own.as_ref().is_some_and(|own| own.join_key.as_ref() == Some(&key.id) && !own.is_expired(now));
        if !is_repeat {
            let uses_left = match key.uses_left {
                Some(left) => Some(left.checked_sub(1).ok_or(Refusal::JoinKey)?),
                None => None,
            };
            self.put_join_key(JoinKeyRecord { uses_left, ..key.as_ref().clone() });
        }
        let admission = Admission {
            machine: asked.machine,
            key: asked.request.node_key,
            host: asked.request.hostinfo.clone().unwrap_or_default(),
            version: asked.request.version,
            tags: key.tags.clone(),
            ephemeral: key.ephemeral || asked.request.ephemeral,
            expiry: key.node_lifetime_ms.map(|ms| now.plus(Duration::from_millis(ms))),
            join_key: Some(key.id.clone()),
            name: None,
        };
        self.admit(admission, now)
    }

    fn wait_for_approval(&mut self, asked: &Asked<'_>, now: Timestamp) -> Result<String, Refusal> {
        self.forget_waiting(now);
        let is_same = |waiting: &&Arc<Pending>| {
            waiting.machine == asked.machine && waiting.key == asked.request.node_key
        };
        if let Some(same) = self.pending.values().find(is_same) {
            return Ok(same.id.clone());
        }
        self.pending.retain(|_, waiting| waiting.machine != asked.machine);
        let from_one = self.pending.values().filter(|waiting| waiting.source == asked.source).count();
        if self.pending.len() >= WAITING || from_one >= WAITING_FROM_ONE {
            return Err(Refusal::TooManyWait);
        }
        let pending = Pending {
            id: asked.fresh_id.clone(),
            machine: asked.machine,
            key: asked.request.node_key,
            source: asked.source,
            host: record::cut(&asked.request.hostinfo.clone().unwrap_or_default()),
            version: asked.request.version,
            ephemeral: asked.request.ephemeral,
            since: now,
        };
        self.pending.insert(pending.id.clone(), Arc::new(pending));
        Ok(asked.fresh_id.clone())
    }

    /// Lets a machine in that waits for it.
    ///
    /// # Errors
    /// When none waits under this id, or a tag or name is none.
    pub fn approve(
        &mut self,
        id: &str,
        tags: Vec<String>,
        name: Option<String>,
        now: Timestamp,
    ) -> Result<NodeId, Refusal> {
        self.forget_waiting(now);
        let waiting = self.pending.get(id).cloned().ok_or(Refusal::NotWaiting)?;
        if tags.len() > super::TAGS || tags.iter().any(|tag| !names::is_tag(tag)) {
            return Err(Refusal::Tag);
        }
        if self.node_by_key(waiting.key).is_some_and(|holder| holder.machine != waiting.machine) {
            return Err(Refusal::ForeignKey);
        }
        if let Some(name) = &name {
            self.check_name(name, self.node_of_machine(waiting.machine).map(|own| own.id))?;
        }
        let admission = Admission {
            machine: waiting.machine,
            key: waiting.key,
            host: waiting.host.clone(),
            version: waiting.version,
            tags,
            ephemeral: waiting.ephemeral,
            expiry: Some(now.plus(LOGIN_LIFETIME)),
            join_key: None,
            name,
        };
        let node = self.admit(admission, now)?;
        self.pending.remove(id);
        Ok(node)
    }

    /// Sends a machine away that waits.
    ///
    /// # Errors
    /// When none waits under this id.
    pub fn reject(&mut self, id: &str) -> Result<(), Refusal> {
        self.pending.remove(id).map(drop).ok_or(Refusal::NotWaiting)
    }

    /// Forgets who waited too long.
    pub fn forget_waiting(&mut self, now: Timestamp) {
        self.pending.retain(|_, waiting| now.since(waiting.since) < APPROVAL_WAIT);
    }

    fn admit(&mut self, admission: Admission, now: Timestamp) -> Result<NodeId, Refusal> {
        let host = record::cut(&admission.host);
        if let Some(own) = self.node_of_machine(admission.machine).cloned() {
            let node = NodeRecord {
                key: admission.key,
                name: admission.name.unwrap_or_else(|| own.name.clone()),
                tags: admission.tags,
                ephemeral: admission.ephemeral,
                expiry: admission.expiry,
                join_key: admission.join_key,
                version: admission.version,
                last_seen: Some(now),
                host,
                ..own.as_ref().clone()
            };
            let id = node.id;
            self.put_node(node);
            return Ok(id);
        }
        let (v4, v6, next_address) = addresses::next(self.counters.next_address).ok_or(Refusal::Full)?;
        let id = NodeId(self.counters.next_node);
        let next_node = self.counters.next_node.checked_add(1).ok_or(Refusal::Full)?;
        if self.nodes.len() >= super::NODES {
            return Err(Refusal::Full);
        }
        self.put_counters(super::Counters { next_node, next_address });
        let name = admission.name.unwrap_or_else(|| self.free_name(&host.hostname));
        self.put_node(NodeRecord {
            id,
            machine: admission.machine,
            key: admission.key,
            disco: DiscoKey::default(),
            name,
            v4,
            v6,
            tags: admission.tags,
            join_key: admission.join_key,
            ephemeral: admission.ephemeral,
            created: now,
            expiry: admission.expiry,
            last_seen: Some(now),
            version: admission.version,
            host,
            endpoints: Vec::new(),
            home: 0,
        });
        Ok(id)
    }

    /// A name that no node has and the policy does not speak of: what the policy says of a name is meant for whom an
    /// administrator gave it, not for whoever calls itself so.
    fn free_name(&self, host: &str) -> String {
        let is_taken =
            |name: &str| self.policy.names_node(name) || self.nodes.values().any(|node| node.name == name);
        names::free(&names::to_label(host), is_taken)
    }
}

/// Who is let in, as what.
struct Admission {
    machine: MachineKey,
    key: NodeKey,
    host: Hostinfo,
    version: u32,
    tags: Vec<String>,
    ephemeral: bool,
    expiry: Option<Timestamp>,
    join_key: Option<String>,
    name: Option<String>,
}

/// The node with what its request says of its host.
fn heard(own: &NodeRecord, request: &RegisterRequest) -> NodeRecord {
    let host = request.hostinfo.as_ref().map_or_else(|| own.host.clone(), record::cut);
    NodeRecord { host, version: request.version, ..own.clone() }
}
