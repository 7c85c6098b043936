//! What one node is told: the whole map, and what changed between two views. Both are made from the views alone, so a reader that
//! was slow misses nothing: it is told the difference between what it read last and what is now.

mod differences;
pub(crate) mod session;

use self::differences::Found;
use crate::{settings::Settings, state::NodeRecord, view::View};
use allod_meshproto::{
    Prefix,
    control::{Debug, DnsConfig, MapResponse, Node, NodeId, PeerChange, User, UserId, UserProfile},
};
use allod_proto::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// The one user that all nodes are of: rules are about names and tags.
pub(crate) const USER: UserId = UserId(1);
/// Lets stock clients keep the map on their disk, so that they reach their peers after a restart without the coordinator.
const KEEP_MAP: &str = "cache-network-maps";

/// Makes maps.
#[derive(Debug)]
pub(crate) struct Mapper {
    pub(crate) settings: Settings,
    found: Found,
}

impl Mapper {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, found: Found::default() }
    }

    /// The whole map of a node; `None` when there is no such node.
    pub(crate) fn full(&self, view: &View, id: NodeId, now: Timestamp) -> Option<MapResponse> {
        let own = view.state.nodes().get(&id)?;
        let peers = view.compiled.members().values();
        let peers = peers.filter(|peer| view.compiled.see_each_other(id, peer.id));
        Some(MapResponse {
            node: Some(Box::new(self.own(own, !view.compiled.members().contains_key(&id)))),
            derp_map: Some(self.settings.relays(own.is_ours())),
            peers: peers.map(|peer| self.peer(peer, view)).collect(),
            dns_config: Some(self.dns()),
            domain: self.settings.domain.clone(),
            collect_services: Some(false),
            packet_filters: BTreeMap::from([("base".to_owned(), Some(view.compiled.filter(id)))]),
            user_profiles: vec![self.profile()],
            control_time: Some(now),
            debug: Some(Debug { disable_log_tail: true, ..Debug::default() }),
            ..MapResponse::default()
        })
    }

    /// What changed for a node from one view to another; `None` when nothing did. That the node itself is gone is not told: its
    /// stream ends.
    pub(crate) fn delta(&self, before: &Arc<View>, after: &Arc<View>, id: NodeId) -> Option<MapResponse> {
        let mut delta = MapResponse::default();
        let (former, own) = (before.state.nodes().get(&id)?, after.state.nodes().get(&id)?);
        let is_member = |view: &View| view.compiled.members().contains_key(&id);
        if !Arc::ptr_eq(former, own) || is_member(before) != is_member(after) {
            let (told, tell) = (self.own(former, !is_member(before)), self.own(own, !is_member(after)));
            if told != tell {
                delta.node = Some(Box::new(tell));
            }
            if former.is_ours() != own.is_ours() {
                delta.derp_map = Some(self.settings.relays(own.is_ours()));
            }
        }
        self.peers_delta(before, after, id, &mut delta);
        if !after.compiled.has_same_filter(&before.compiled, id) {
            let filter = after.compiled.filter(id);
            if filter != before.compiled.filter(id) {
                delta.packet_filters.insert("base".to_owned(), Some(filter));
            }
        }
        (delta != MapResponse::default()).then_some(delta)
    }

    fn peers_delta(&self, before: &Arc<View>, after: &Arc<View>, id: NodeId, delta: &mut MapResponse) {
        let differences = self.found.between(before, after);
        if let Some(concerning) = differences.concerning(id) {
            concerning.iter().for_each(|peer| self.peer_delta(before, after, (id, *peer), delta));
            return;
        }
        let (former, current) = (before.compiled.members(), after.compiled.members());
        let gone = former.keys().filter(|peer| !current.contains_key(peer));
        current.keys().chain(gone).for_each(|peer| self.peer_delta(before, after, (id, *peer), delta));
    }

    fn peer_delta(
        &self,
        before: &View,
        after: &View,
        (id, peer_id): (NodeId, NodeId),
        delta: &mut MapResponse,
    ) {
        let seen = |view: &View| {
            let is_seen = view.compiled.see_each_other(id, peer_id);
            view.compiled.members().get(&peer_id).filter(|_| is_seen).cloned()
        };
        match (seen(before), seen(after)) {
            (None, None) => {}
            (Some(_), None) => delta.peers_removed.push(peer_id),
            (None, Some(peer)) => delta.peers_changed.push(self.peer(&peer, after)),
            (Some(told), Some(peer)) => {
                let (was_online, is_online) =
                    (before.online.contains(&peer_id), after.online.contains(&peer_id));
                if Arc::ptr_eq(&told, &peer) && was_online == is_online {
                    return;
                }
                match patch(&told, &peer, was_online, is_online) {
                    Change::None => {}
                    Change::Patch(patch) => delta.peers_changed_patch.push(*patch),
                    Change::Whole => delta.peers_changed.push(self.peer(&peer, after)),
                }
            }
        }
    }

    /// The node itself, as it is told.
    fn own(&self, node: &NodeRecord, is_expired: bool) -> Node {
        let mut own = self.node(node);
        own.expired = is_expired;
        own.cap_map = BTreeMap::from([(KEEP_MAP.to_owned(), Vec::new())]);
        own
    }

    fn peer(&self, node: &NodeRecord, view: &View) -> Node {
        let mut peer = self.node(node);
        let is_online = view.online.contains(&node.id);
        peer.online = Some(is_online);
        peer.last_seen = node.last_seen.filter(|_| !is_online);
        peer
    }

    fn node(&self, node: &NodeRecord) -> Node {
        let addresses = node.addresses().map(Prefix::host).to_vec();
        let mut told = Node {
            id: node.id,
            stable_id: format!("n{}", node.id.0),
            name: format!("{}.{}.", node.name, self.settings.domain),
            user: USER,
            key: node.key,
            key_expiry: node.expiry,
            machine: node.machine,
            disco_key: node.disco,
            allowed_ips: Some(addresses.clone()),
            addresses,
            endpoints: node.endpoints.clone(),
            hostinfo: node.host.clone(),
            created: Some(node.created),
            cap: node.version,
            tags: node.tags.clone(),
            machine_authorized: true,
            ..Node::default()
        };
        told.set_home(node.home);
        told
    }

    /// Names: all nodes' names resolve, others are left to the machine.
    fn dns(&self) -> DnsConfig {
        DnsConfig {
            routes: BTreeMap::from([(self.settings.domain.clone(), Vec::new())]),
            domains: vec![self.settings.domain.clone()],
            proxied: true,
            ..DnsConfig::default()
        }
    }

    pub(crate) fn user(&self) -> User {
        User { id: USER, display_name: self.settings.domain.clone(), ..User::default() }
    }

    pub(crate) fn login_name(&self) -> String {
        format!("mesh@{}", self.settings.domain)
    }

    fn profile(&self) -> UserProfile {
        UserProfile {
            id: USER,
            login_name: self.login_name(),
            display_name: self.settings.domain.clone(),
            ..UserProfile::default()
        }
    }
}

enum Change {
    None,
    Patch(Box<PeerChange>),
    Whole,
}

/// The difference in the fields that change often, or the whole node when others did.
fn patch(told: &NodeRecord, now: &NodeRecord, was_online: bool, is_online: bool) -> Change {
    let same_but_patched = NodeRecord {
        key: told.key,
        disco: told.disco,
        endpoints: told.endpoints.clone(),
        home: told.home,
        last_seen: told.last_seen,
        ephemeral: told.ephemeral,
        join_key: told.join_key.clone(),
        ..now.clone()
    };
    // A patch can't say that there is no home relay any more.
    if same_but_patched != *told || (now.home == 0 && told.home != 0) {
        return Change::Whole;
    }
    let change = PeerChange {
        node_id: now.id,
        derp_region: if now.home == told.home { 0 } else { now.home },
        endpoints: (now.endpoints != told.endpoints).then(|| now.endpoints.clone()),
        key: (now.key != told.key).then_some(now.key),
        disco_key: (now.disco != told.disco).then_some(now.disco),
        online: (was_online != is_online).then_some(is_online),
        last_seen: now.last_seen.filter(|_| was_online && !is_online),
        ..PeerChange::default()
    };
    if change == (PeerChange { node_id: now.id, ..PeerChange::default() }) {
        Change::None
    } else {
        Change::Patch(Box::new(change))
    }
}

#[cfg(test)]
mod tests;
