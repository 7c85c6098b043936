//! Whether a map contradicts itself. A coordinator (or whoever took one) that gives a peer another's key or address would have this
//! node send to one what is meant for the other.

use super::{NetMap, Refusal};
use crate::{
    control::{Node, NodeId},
    limits,
    prefix::Prefix,
};
use std::collections::HashMap;

impl NetMap {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.check_sizes()?;
        let (mut keys, mut owners) = (HashMap::new(), HashMap::new());
        for node in self.nodes() {
            if node.id.0 == 0 || node.key.is_zero() {
                return Err(Refusal::Nameless(node.id));
            }
            if let Some(other) = keys.insert(node.key, node.id) {
                return Err(Refusal::SameKey(other, node.id));
            }
            own(node, &mut owners)?;
        }
        if self.peers.contains_key(&self.me.id) {
            return Err(Refusal::SameId(self.me.id));
        }
        self.nodes().try_for_each(|node| sends_as_itself(node, &owners))
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.peers.values().chain([&self.me]).map(AsRef::as_ref)
    }

    fn check_sizes(&self) -> Result<(), Refusal> {
        let rules: usize = self.filters.values().map(|rules| rules.len()).sum();
        let sizes = [
            (self.peers.len(), limits::PEERS, "peers"),
            (self.filters.len(), limits::FILTERS, "packet filters"),
            (rules, limits::FILTER_RULES, "filter rules"),
            (self.profiles.len(), limits::PROFILES, "user profiles"),
            (self.messages.len(), limits::FILTERS, "messages"),
        ];
        let over = sizes.iter().find(|(size, most, _)| size > most);
        over.map_or(Ok(()), |(_, _, what)| Err(Refusal::TooMany(what)))
    }
}

/// Notes a node's addresses as its own.
fn own(node: &Node, owners: &mut HashMap<Prefix, NodeId>) -> Result<(), Refusal> {
    for address in &node.addresses {
        if !address.is_host() {
            return Err(Refusal::NotOneAddress(node.id, *address));
        }
        if let Some(other) = owners.insert(*address, node.id).filter(|other| *other != node.id) {
            return Err(Refusal::SameAddress(other, node.id, *address));
        }
    }
    Ok(())
}

/// A route may hold another's address (an exit node's does): the longest prefix counts. It may not be just that address.
fn sends_as_itself(node: &Node, owners: &HashMap<Prefix, NodeId>) -> Result<(), Refusal> {
    let others = |prefix: &&Prefix| owners.get(*prefix).is_some_and(|owner| *owner != node.id);
    match node.may_send_from().iter().find(others) {
        None => Ok(()),
        Some(prefix) => {
            let owner = owners.get(prefix).copied().unwrap_or_default();
            Err(Refusal::SameAddress(owner, node.id, *prefix))
        }
    }
}
