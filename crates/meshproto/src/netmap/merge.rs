//! How a response changes a map (the order is that of tailcfg.MapResponse): whole peers, then changed ones, then removed ones, then
//! patches.

use super::{ALL, BASE_FILTER, NetMap, Outcome, Place, Refusal};
use crate::control::{MapResponse, Node, NodeId, PeerChange};
use allod_proto::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A difference of clocks that is not worth heeding.
const CLOCKS_AGREE: i64 = 60_000;

impl NetMap {
    /// What `former` and `response` add up to at `now`. `former` stays as it is: on a [`Refusal`] it is the map to keep.
    pub fn merge(
        former: Option<&Self>,
        response: &MapResponse,
        place: Place,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        if response.keep_alive {
            return Ok(Outcome::Alive);
        }
        let mut map = match (place, former) {
            (Place::First, former) => Self::begin(former, response)?,
            (Place::Later, Some(former)) => former.clone(),
            (Place::Later, None) => return Err(Refusal::NoSelf),
        };
        map.merge_self(response, now);
        map.merge_peers(response, now)?;
        map.merge_filters(response);
        map.merge_people(response);
        map.check()?;
        Ok(Outcome::Map(Box::new(map)))
    }

    fn begin(former: Option<&Self>, response: &MapResponse) -> Result<Self, Refusal> {
        let me = response.node.as_deref().ok_or(Refusal::NoSelf)?;
        Ok(Self {
            me: Arc::new(me.clone()),
            peers: BTreeMap::new(),
            derp_map: former.map(|former| Arc::clone(&former.derp_map)).unwrap_or_default(),
            dns: Arc::default(),
            domain: String::new(),
            filters: BTreeMap::new(),
            profiles: BTreeMap::new(),
            health: Vec::new(),
            messages: BTreeMap::new(),
            clock_ahead: former.map_or(0, |former| former.clock_ahead),
        })
    }

    fn merge_self(&mut self, response: &MapResponse, now: Timestamp) {
        if let Some(me) = &response.node {
            self.me = Arc::new(me.as_ref().clone());
        }
        if let Some(relays) = response.derp_map.as_ref().filter(|relays| !relays.regions.is_empty()) {
            self.derp_map = Arc::new(relays.clone());
        }
        if let Some(dns) = &response.dns_config {
            self.dns = Arc::new(dns.clone());
        }
        if !response.domain.is_empty() {
            self.domain.clone_from(&response.domain);
        }
        if let Some(there) = response.control_time {
            let ahead = i64::try_from(there.distance(now).as_millis()).unwrap_or(i64::MAX);
            let ahead = if there < now { ahead.saturating_neg() } else { ahead };
            self.clock_ahead = if ahead.abs() < CLOCKS_AGREE { 0 } else { ahead };
        }
    }

    fn merge_peers(&mut self, response: &MapResponse, now: Timestamp) -> Result<(), Refusal> {
        if response.peers.is_empty() {
            once(&response.peers_changed)?;
            for peer in &response.peers_changed {
                self.peers.insert(peer.id, Arc::new(peer.clone()));
            }
            for gone in &response.peers_removed {
                self.peers.remove(gone);
            }
        } else {
            once(&response.peers)?;
            self.peers = response.peers.iter().map(|peer| (peer.id, Arc::new(peer.clone()))).collect();
        }
        for change in &response.peers_changed_patch {
            self.change(change.node_id, |peer| patch(peer, change));
        }
        for (id, is_seen) in &response.peer_seen_change {
            self.change(*id, |peer| peer.last_seen = is_seen.then_some(now).or(peer.last_seen));
        }
        for (id, is_online) in &response.online_change {
            self.change(*id, |peer| peer.online = Some(*is_online));
        }
        Ok(())
    }

    /// Changes a peer; one that is not there is left alone, as stock clients do.
    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(peer) = self.peers.get_mut(&id) {
            change(Arc::make_mut(peer));
        }
    }

    fn merge_filters(&mut self, response: &MapResponse) {
        if let Some(rules) = &response.packet_filter {
            self.filters.insert(BASE_FILTER.to_owned(), Arc::new(rules.clone()));
        }
        if response.packet_filters.get(ALL).is_some_and(Option::is_none) {
            self.filters.clear();
        }
        for (name, rules) in &response.packet_filters {
            match rules {
                Some(rules) => {
                    self.filters.insert(name.clone(), Arc::new(rules.clone()));
                }
                None => {
                    self.filters.remove(name);
                }
            }
        }
    }

    fn merge_people(&mut self, response: &MapResponse) {
        self.profiles.extend(response.user_profiles.iter().map(|profile| (profile.id, profile.clone())));
        if let Some(health) = &response.health {
            self.health.clone_from(health);
        }
        if response.display_messages.get(ALL).is_some_and(Option::is_none) {
            self.messages.clear();
        }
        for (name, message) in &response.display_messages {
            match message {
                Some(message) => {
                    self.messages.insert(name.clone(), message.clone());
                }
                None => {
                    self.messages.remove(name);
                }
            }
        }
    }
}

/// Refuses a list that names one peer twice.
fn once(peers: &[Node]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    peers.iter().find(|peer| !seen.insert(peer.id)).map_or(Ok(()), |twice| Err(Refusal::SameId(twice.id)))
}

fn patch(peer: &mut Node, change: &PeerChange) {
    if change.derp_region != 0 {
        peer.set_home(change.derp_region);
    }
    if change.cap != 0 {
        peer.cap = change.cap;
    }
    if let Some(capabilities) = &change.cap_map {
        peer.cap_map.clone_from(capabilities);
    }
    if let Some(endpoints) = &change.endpoints {
        peer.endpoints.clone_from(endpoints);
    }
    peer.key = change.key.unwrap_or(peer.key);
    peer.disco_key = change.disco_key.unwrap_or(peer.disco_key);
    peer.online = change.online.or(peer.online);
    peer.last_seen = change.last_seen.or(peer.last_seen);
    peer.key_expiry = change.key_expiry.or(peer.key_expiry);
}
