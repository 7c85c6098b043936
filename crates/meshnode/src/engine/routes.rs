//! Which peer an address belongs to. What two peers claim belongs to neither; the longest prefix counts.

use allod_meshproto::{NodeKey, Prefix, control::Node};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// Addresses to peers.
#[derive(Debug, Default)]
pub(super) struct Routes {
    own: Vec<IpAddr>,
    hosts: HashMap<IpAddr, Option<NodeKey>>,
    /// The longest first; of two as long, at most one holds an address.
    networks: Vec<(Prefix, NodeKey)>,
}

impl Routes {
    /// Those of a map: this node's own addresses, and its peers.
    pub(super) fn new<'a>(
        own: impl IntoIterator<Item = IpAddr>,
        peers: impl IntoIterator<Item = &'a Arc<Node>>,
    ) -> Self {
        let own: Vec<_> = own.into_iter().collect();
        let mut hosts: HashMap<IpAddr, Option<NodeKey>> = own.iter().map(|ip| (*ip, None)).collect();
        let mut networks: BTreeMap<Prefix, Option<NodeKey>> = BTreeMap::new();
        for peer in peers {
            for prefix in peer.may_send_from() {
                let entry = if prefix.is_host() {
                    hosts.entry(prefix.address()).or_insert(Some(peer.key))
                } else {
                    networks.entry(prefix.masked()).or_insert(Some(peer.key))
                };
                if *entry != Some(peer.key) {
                    *entry = None;
                }
            }
        }
        // Everything there is: only a person chooses to send that through a peer.
        let chosen =
            |(prefix, key): (Prefix, Option<NodeKey>)| Some((prefix, key.filter(|_| prefix.length() > 0)?));
        let mut networks: Vec<_> = networks.into_iter().filter_map(chosen).collect();
        networks.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length()));
        Self { own, hosts, networks }
    }

    /// This node's own addresses.
    pub(super) fn own(&self) -> &[IpAddr] {
        &self.own
    }

    /// Whose an address is.
    pub(super) fn peer(&self, address: IpAddr) -> Option<NodeKey> {
        match self.hosts.get(&address) {
            Some(owner) => *owner,
            None => self.networks.iter().find(|(prefix, _)| prefix.contains(address)).map(|(_, key)| *key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8, allowed: &[&str]) -> Arc<Node> {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Node { key: NodeKey::new([byte; 32]), allowed_ips: Some(allowed), ..Node::default() })
    }

    fn routes(peers: &[Arc<Node>]) -> Routes {
        Routes::new([[100, 64, 0, 1].into()], peers)
    }

    fn owner(routes: &Routes, address: &str) -> Option<u8> {
        routes.peer(address.parse().unwrap()).map(|key| key.as_bytes()[0])
    }

    #[test]
    fn what_two_peers_claim_belongs_to_neither() {
        let routes =
            routes(&[peer(2, &["100.64.0.9/32", "10.0.0.0/8"]), peer(3, &["100.64.0.9/32", "10.0.0.0/8"])]);
        assert_eq!((owner(&routes, "100.64.0.9"), owner(&routes, "10.1.1.1")), (None, None));
    }

    #[test]
    fn nobody_else_has_this_nodes_own_address() {
        let routes = routes(&[peer(2, &["100.64.0.1/32", "100.64.0.0/10"])]);
        assert_eq!((owner(&routes, "100.64.0.1"), owner(&routes, "100.64.0.2")), (None, Some(2)));
    }

    #[test]
    fn a_peer_that_offers_everything_gets_nothing_of_it() {
        assert_eq!(owner(&routes(&[peer(2, &["0.0.0.0/0", "::/0"])]), "203.0.113.1"), None);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let routes =
            routes(&[peer(2, &["10.0.0.0/8"]), peer(3, &["10.1.0.0/16"]), peer(4, &["10.1.1.1/32"])]);
        let owners = ["10.2.0.1", "10.1.0.1", "10.1.1.1", "11.0.0.1"].map(|address| owner(&routes, address));
        assert_eq!(owners, [Some(2), Some(3), Some(4), None]);
    }
}
