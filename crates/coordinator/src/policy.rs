//! Who may reach whom: rules that allow, everything else is refused. A policy carries its own test cases, and is taken only while
//! they hold. What it says of a name holds for the node that has it, of a tag for all nodes that have it.

mod compiled;
mod words;

pub use compiled::Compiled;
pub use words::{Expect, Ports, Protocol, Selector, WordError};

use crate::state::NodeRecord;
use allod_meshproto::control::NodeId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Rules of one policy, selectors or ports of one rule, and cases.
const MOST_RULES: usize = 1_000;
const MOST_WORDS: usize = 1_000;
/// Bytes of a policy's text.
const MOST_BYTES: usize = 1 << 20;

/// What nodes may reach, and the cases that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What is allowed. Without a rule nothing is.
    #[serde(default)]
    pub allow: Vec<Rule>,
    /// What must hold, whatever else changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Case>,
}

/// Allows each of `from` to begin connections to each of `to`. Replies pass, connections the other way don't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Who.
    pub from: Vec<Selector>,
    /// Whom.
    pub to: Vec<Selector>,
    /// On which ports.
    pub ports: Vec<Ports>,
    /// By which protocols; empty for TCP, UDP and ICMP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
}

/// A case: whether one may reach another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A name, a tag, `autogroup:member` or an address; not `*`.
    pub from: Selector,
    /// Likewise.
    pub to: Selector,
    /// The port.
    pub port: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// What must come out.
    pub expect: Expect,
}

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It can't be read.
    #[error("not a policy: {problem}")]
    Unreadable {
        /// The line, from 1; 0 where it has none.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It is too large.
    #[error("a policy has at most {MOST_RULES} rules and cases, and {MOST_WORDS} entries in a list")]
    TooLarge,
    /// A rule with an empty list, which would allow nothing.
    #[error("rule {0}: `from`, `to` and `ports` must not be empty")]
    EmptyRule(usize),
    /// A case for `*` or a prefix of several addresses.
    #[error("case {0}: `from` and `to` must be a name, a tag, `autogroup:member` or one address")]
    CaseOfMany(usize),
    /// A case that does not hold.
    #[error("case {number} does not hold: {from} to {to} port {port} would be {outcome}")]
    Case {
        /// Which, from 1.
        number: usize,
        /// Who.
        from: String,
        /// Whom.
        to: String,
        /// The port.
        port: u16,
        /// What would come out.
        outcome: Expect,
    },
}

/// One end of a connection, as selectors see it.
#[derive(Debug, Clone, Default)]
struct Subject<'a> {
    name: Option<&'a str>,
    /// A person's own machine: a node without tags.
    is_own: bool,
    tags: &'a [String],
    addresses: Vec<IpAddr>,
}

impl<'a> Subject<'a> {
    fn node(node: &'a NodeRecord) -> Self {
        Self {
            name: Some(&node.name),
            is_own: node.tags.is_empty(),
            tags: &node.tags,
            addresses: node.addresses().to_vec(),
        }
    }
}

impl Policy {
    /// Reads a policy's JSON.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`] with the place, or [`PolicyError::TooLarge`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MOST_BYTES {
            return Err(PolicyError::TooLarge);
        }
        if !text.trim_start().starts_with('{') {
            return Err(PolicyError::Unreadable { line: 0, problem: "it is no JSON object".to_owned() });
        }
        serde_json::from_str(text)
            .map_err(|error| PolicyError::Unreadable { line: error.line(), problem: error.to_string() })
    }

    /// Whether it speaks of a node by this name.
    #[must_use]
    pub fn names_node(&self, name: &str) -> bool {
        let is_it = |selector: &Selector| matches!(selector, Selector::Name(other) if other == name);
        self.allow.iter().flat_map(|rule| rule.from.iter().chain(&rule.to)).any(is_it)
    }

    /// Checks its form, and every case against these nodes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, nodes: &BTreeMap<NodeId, Arc<NodeRecord>>) -> Result<(), PolicyError> {
        let is_large = |rule: &Rule| {
            rule.from.len().max(rule.to.len()).max(rule.ports.len()).max(rule.protocols.len()) > MOST_WORDS
        };
        if self.allow.len().max(self.tests.len()) > MOST_RULES || self.allow.iter().any(is_large) {
            return Err(PolicyError::TooLarge);
        }
        let is_empty = |rule: &Rule| rule.from.is_empty() || rule.to.is_empty() || rule.ports.is_empty();
        if let Some(at) = self.allow.iter().position(is_empty) {
            return Err(PolicyError::EmptyRule(at.saturating_add(1)));
        }
        for (at, case) in self.tests.iter().enumerate() {
            self.check_case(at.saturating_add(1), case, nodes)?;
        }
        Ok(())
    }

    fn check_case(
        &self,
        number: usize,
        case: &Case,
        nodes: &BTreeMap<NodeId, Arc<NodeRecord>>,
    ) -> Result<(), PolicyError> {
        let from = subject(&case.from, nodes).ok_or(PolicyError::CaseOfMany(number))?;
        let to = subject(&case.to, nodes).ok_or(PolicyError::CaseOfMany(number))?;
        let outcome = Expect::from_allowed(self.allows(&from, &to, case.protocol, case.port));
        if outcome == case.expect {
            return Ok(());
        }
        let (from, to) = (case.from.to_string(), case.to.to_string());
        Err(PolicyError::Case { number, from, to, port: case.port, outcome })
    }

    /// Whether one node may begin this with another.
    #[must_use]
    pub fn allows_nodes(&self, from: &NodeRecord, to: &NodeRecord, protocol: Protocol, port: u16) -> bool {
        self.allows(&Subject::node(from), &Subject::node(to), protocol, port)
    }

    fn allows(&self, from: &Subject<'_>, to: &Subject<'_>, protocol: Protocol, port: u16) -> bool {
        self.allow.iter().any(|rule| {
            // As all clients have it: whoever may reach any port of a node may ping it.
            let is_reached = protocol == Protocol::Icmp
                || (rule.protocols.is_empty() && protocol != Protocol::Sctp
                    || rule.protocols.contains(&protocol))
                    && rule.ports.iter().any(|ports| ports.range().contains(port));
            is_reached && matches_any(&rule.from, from) && matches_any(&rule.to, to)
        })
    }
}

fn matches_any(selectors: &[Selector], subject: &Subject<'_>) -> bool {
    selectors.iter().any(|selector| match selector {
        Selector::All => true,
        Selector::Member => subject.is_own,
        Selector::Name(name) => subject.name == Some(name),
        Selector::Tag(tag) => subject.tags.contains(tag),
        Selector::Prefix(prefix) => subject.addresses.iter().any(|address| prefix.contains(*address)),
    })
}

/// Whom a case means: the node of a name or address if there is one, otherwise one that has just that.
fn subject<'a>(selector: &'a Selector, nodes: &'a BTreeMap<NodeId, Arc<NodeRecord>>) -> Option<Subject<'a>> {
    let find = |is_it: &dyn Fn(&NodeRecord) -> bool| nodes.values().find(|node| is_it(node));
    Some(match selector {
        Selector::All => return None,
        Selector::Member => Subject { is_own: true, ..Subject::default() },
        Selector::Name(name) => find(&|node| node.name == *name)
            .map_or_else(|| Subject { name: Some(name), ..Subject::default() }, |node| Subject::node(node)),
        Selector::Tag(tag) => Subject { tags: std::slice::from_ref(tag), ..Subject::default() },
        Selector::Prefix(prefix) if prefix.is_host() => {
            let address = prefix.address();
            find(&|node| node.addresses().contains(&address)).map_or_else(
                || Subject { addresses: vec![address], ..Subject::default() },
                |node| Subject::node(node),
            )
        }
        Selector::Prefix(_) => return None,
    })
}

#[cfg(test)]
mod tests;
