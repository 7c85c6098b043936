//! A policy with its nodes: who sees whom, and each node's packet filter. What did not change since the one before is the same
//! value, so that comparing two is comparing pointers.

use super::{Policy, Rule, Selector, Subject, matches_any};
use crate::state::NodeRecord;
use allod_meshproto::control::{FilterRule, NodeId, PortRange, RuleTarget};
use allod_proto::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A policy with the nodes that are members at a time: those whose keys have not expired.
#[derive(Debug, Default)]
pub struct Compiled {
    policy: Arc<Policy>,
    members: BTreeMap<NodeId, Arc<NodeRecord>>,
    rules: Vec<CompiledRule>,
}

#[derive(Debug, Clone)]
struct CompiledRule {
    from: Members,
    to: Members,
    /// What the packet filter says of `from`.
    sources: Arc<Vec<String>>,
    ports: Vec<PortRange>,
    protocols: Vec<i32>,
}

#[derive(Debug, Clone)]
enum Members {
    All,
    Some(Arc<BTreeSet<NodeId>>),
}

impl Members {
    fn holds(&self, id: NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Some(ids) => ids.contains(&id),
        }
    }

    /// Adds those that are meant in one of both only; `false` when that can't be told one by one.
    fn differences(&self, other: &Self, nodes: &mut BTreeSet<NodeId>) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Some(one), Self::Some(other)) => {
                if !Arc::ptr_eq(one, other) {
                    nodes.extend(one.symmetric_difference(other));
                }
                true
            }
            (Self::All, Self::Some(_)) | (Self::Some(_), Self::All) => false,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Some(one), Self::Some(other)) => Arc::ptr_eq(one, other),
            (Self::All, Self::Some(_)) | (Self::Some(_), Self::All) => false,
        }
    }
}

impl Compiled {
    /// These nodes under this policy at `now`; `former` lends what is the same still.
    #[must_use]
    pub fn new(
        policy: &Arc<Policy>,
        nodes: &BTreeMap<NodeId, Arc<NodeRecord>>,
        former: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        let is_member = |node: &&Arc<NodeRecord>| !node.is_expired(now);
        let members: BTreeMap<_, _> =
            nodes.values().filter(is_member).map(|node| (node.id, Arc::clone(node))).collect();
        let former = former.filter(|former| Arc::ptr_eq(&former.policy, policy));
        let rules = policy.allow.iter().enumerate().map(|(at, rule)| {
            let former = former.and_then(|former| former.rules.get(at));
            compile(rule, &members, former)
        });
        let rules = rules.collect();
        Self { policy: Arc::clone(policy), members, rules }
    }

    /// The nodes whose keys have not expired.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeId, Arc<NodeRecord>> {
        &self.members
    }

    /// Whether two nodes know of each other: one of them may reach the other.
    #[must_use]
    pub fn see_each_other(&self, one: NodeId, other: NodeId) -> bool {
        one != other
            && self.members.contains_key(&one)
            && self.members.contains_key(&other)
            && self.rules.iter().any(|rule| {
                (rule.from.holds(one) && rule.to.holds(other))
                    || (rule.from.holds(other) && rule.to.holds(one))
            })
    }

    /// Adds the nodes that a rule speaks of in one of both and not in the other; `false` when the policies are different ones.
    /// Two nodes that are none of these, and are members in both, see each other in both or in neither.
    #[must_use]
    pub fn other_sights(&self, other: &Self, nodes: &mut BTreeSet<NodeId>) -> bool {
        if !Arc::ptr_eq(&self.policy, &other.policy) || self.rules.len() != other.rules.len() {
            return false;
        }
        self.rules.iter().zip(&other.rules).all(|(one, other)| {
            one.from.differences(&other.from, nodes) && one.to.differences(&other.to, nodes)
        })
    }

    /// Whether a node's packet filter is the same in both.
    #[must_use]
    pub fn has_same_filter(&self, other: &Self, id: NodeId) -> bool {
        let own = |one: &Self| one.members.get(&id).map(|node| node.addresses());
        Arc::ptr_eq(&self.policy, &other.policy)
            && own(self) == own(other)
            && self.rules.iter().zip(&other.rules).all(|(one, other)| {
                let is_meant = one.to.holds(id);
                is_meant == other.to.holds(id) && (!is_meant || Arc::ptr_eq(&one.sources, &other.sources))
            })
    }

    /// A node's packet filter: what others may begin with it.
    #[must_use]
    pub fn filter(&self, id: NodeId) -> Vec<FilterRule> {
        let Some(node) = self.members.get(&id) else { return Vec::new() };
        let targets = |ports: &[PortRange]| {
            let mut targets = Vec::new();
            for address in node.addresses() {
                targets
                    .extend(ports.iter().map(|ports| RuleTarget { ip: address.to_string(), ports: *ports }));
            }
            targets
        };
        let rules = self.rules.iter().filter(|rule| rule.to.holds(id) && !rule.sources.is_empty());
        rules
            .map(|rule| FilterRule {
                src_ips: rule.sources.as_ref().clone(),
                dst_ports: targets(&rule.ports),
                ip_proto: rule.protocols.clone(),
                cap_grant: Vec::new(),
            })
            .collect()
    }
}

fn compile(
    rule: &Rule,
    members: &BTreeMap<NodeId, Arc<NodeRecord>>,
    former: Option<&CompiledRule>,
) -> CompiledRule {
    let from = select(&rule.from, members, former.map(|former| &former.from));
    let to = select(&rule.to, members, former.map(|former| &former.to));
    // Addresses never change, so the same nodes are the same sources.
    let sources = match former {
        Some(former) if former.from.is_same(&from) => Arc::clone(&former.sources),
        _ => Arc::new(sources(&from, members)),
    };
    let protocols = rule.protocols.iter().flat_map(|protocol| protocol.numbers());
    CompiledRule {
        from,
        to,
        sources,
        ports: rule.ports.iter().map(|ports| ports.range()).collect(),
        protocols: protocols.map(|number| i32::from(*number)).collect(),
    }
}

fn select(
    selectors: &[Selector],
    members: &BTreeMap<NodeId, Arc<NodeRecord>>,
    former: Option<&Members>,
) -> Members {
    if selectors.contains(&Selector::All) {
        return Members::All;
    }
    let is_meant = |node: &&Arc<NodeRecord>| matches_any(selectors, &Subject::node(node));
    let ids: BTreeSet<NodeId> = members.values().filter(is_meant).map(|node| node.id).collect();
    match former {
        Some(Members::Some(former)) if **former == ids => Members::Some(Arc::clone(former)),
        _ => Members::Some(Arc::new(ids)),
    }
}

fn sources(from: &Members, members: &BTreeMap<NodeId, Arc<NodeRecord>>) -> Vec<String> {
    match from {
        Members::All => vec!["*".to_owned()],
        Members::Some(ids) => ids
            .iter()
            .filter_map(|id| members.get(id))
            .flat_map(|node| node.addresses())
            .map(|address| address.to_string())
            .collect(),
    }
}
