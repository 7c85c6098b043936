//! Nodes as a person names them, and as they are told.

use super::Coordination;
use allod_coordinator::{NodeStatus, state::JoinKeyRecord, state::Pending};
use allod_meshproto::control::Hostinfo;
use allod_proto::{
    Fault, FaultCode, Timestamp,
    hub::{HubKey, HubNode, WaitingMachine},
};
use std::net::IpAddr;

impl Coordination {
    /// The node that a person means: by its number, an address or its name, with the domain or without.
    pub(super) fn find(&self, text: &str) -> Result<NodeStatus, Fault> {
        pick(self.coordinator.nodes(), text, &self.domain)
    }
}

/// A name may be made of digits, and another node's number: what could mean two nodes means none.
fn pick(nodes: Vec<NodeStatus>, text: &str, domain: &str) -> Result<NodeStatus, Fault> {
    let (number, address) = (text.parse::<i64>().ok(), text.parse::<IpAddr>().ok());
    let name = text.strip_suffix('.').unwrap_or(text);
    let name = name.strip_suffix(domain).and_then(|name| name.strip_suffix('.')).unwrap_or(name);
    let is_meant = |status: &NodeStatus| {
        let node = &status.node;
        Some(node.id.0) == number
            || address.is_some_and(|address| node.addresses().contains(&address))
            || node.name.eq_ignore_ascii_case(name)
    };
    let mut found = nodes.into_iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Fault::new(
            FaultCode::NotFound,
            format!("no node is called `{text}`, nor has that address or number"),
        )
        .hint("`allod hub nodes` lists them")),
        (Some(one), Some(other)) => {
            let message = format!(
                "`{text}` could be node {} ({}) or node {} ({})",
                one.node.id.0, one.node.name, other.node.id.0, other.node.name
            );
            Err(Fault::new(FaultCode::Conflict, message).hint("say its address"))
        }
    }
}

/// What is told of a node.
pub(super) fn tell(status: &NodeStatus, now: Timestamp) -> HubNode {
    let node = &status.node;
    HubNode {
        id: node.id.0,
        name: node.name.clone(),
        addresses: node.addresses().to_vec(),
        tags: node.tags.clone(),
        online: status.is_online,
        seen_at: node.last_seen,
        created_at: node.created,
        expires_at: node.expiry,
        expired: node.is_expired(now),
        ephemeral: node.ephemeral,
        join_key: node.join_key.clone(),
        hostname: node.host.hostname.clone(),
        os: system(&node.host),
        key: node.key.to_string(),
    }
}

/// What is told of a machine that waits.
pub(super) fn tell_waiting(waiting: &Pending) -> WaitingMachine {
    WaitingMachine {
        id: waiting.id.clone(),
        hostname: waiting.host.hostname.clone(),
        os: system(&waiting.host),
        source: waiting.source.to_canonical(),
        key: waiting.key.to_string(),
        since_at: waiting.since,
    }
}

/// What is told of a join key.
pub(super) fn tell_key(key: &JoinKeyRecord, now: Timestamp) -> HubKey {
    HubKey {
        id: key.id.clone(),
        uses_left: key.uses_left,
        expires_at: key.expiry,
        tags: key.tags.clone(),
        ephemeral: key.ephemeral,
        created_at: key.created,
        revoked: key.revoked,
        good: key.is_good(now) && key.uses_left != Some(0),
    }
}

fn system(host: &Hostinfo) -> String {
    let words = [host.os.as_str(), host.os_version.as_str()];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_coordinator::state::NodeRecord;
    use allod_meshproto::{DiscoKey, MachineKey, NodeKey, control::NodeId};
    use std::sync::Arc;

    fn node(number: u8, name: &str) -> NodeStatus {
        let node = NodeRecord {
            id: NodeId(number.into()),
            machine: MachineKey::new([number; 32]),
            key: NodeKey::new([number; 32]),
            disco: DiscoKey::default(),
            name: name.to_owned(),
            v4: [100, 64, 0, number].into(),
            v6: (0xfd7a_115c_a1e0_u128 << 80 | u128::from(number)).into(),
            tags: Vec::new(),
            join_key: None,
            ephemeral: false,
            created: Timestamp(1),
            expiry: None,
            last_seen: None,
            version: 130,
            host: Hostinfo::default(),
            endpoints: Vec::new(),
            home: 0,
        };
        NodeStatus { node: Arc::new(node), is_online: false }
    }

    fn meant(text: &str) -> Result<i64, FaultCode> {
        let nodes = vec![node(1, "web1"), node(2, "1"), node(3, "db"), node(4, "4")];
        pick(nodes, text, "mesh.internal").map(|status| status.node.id.0).map_err(|fault| fault.code)
    }

    #[test]
    fn what_is_nobody_or_could_be_two_is_nobody() {
        for nobody in
            ["", ".", "mesh.internal", "web", "5", "-1", "100.64.0.9", "db.other.internal", "\u{1b}"]
        {
            assert_eq!(meant(nobody), Err(FaultCode::NotFound), "{nobody:?}");
        }
        assert_eq!(meant("1"), Err(FaultCode::Conflict), "node 1, and a node that calls itself 1");
    }

    #[test]
    fn a_node_is_meant_by_its_number_address_or_name() {
        for web in
            ["web1", "WEB1", "web1.mesh.internal", "web1.mesh.internal.", "100.64.0.1", "fd7a:115c:a1e0::1"]
        {
            assert_eq!(meant(web), Ok(1), "{web}");
        }
        assert_eq!((meant("3"), meant("4")), (Ok(3), Ok(4)));
    }
}
