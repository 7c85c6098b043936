//! The policy of a network that is made here, and what another policy would change.

use allod_coordinator::policy::{Policy, PolicyError};
use allod_proto::hub::PolicyChange;
use std::collections::BTreeMap;

/// The policy that a network begins with: a person's own machines reach everything, servers reach the hub's reports and nothing
/// else, the hub asks servers whether they are there. The rest is refused.
pub const FIRST: &str = include_str!("first_policy.json");

/// The same, read.
///
/// # Errors
/// What is wrong with it; a test holds that nothing is.
pub fn first() -> Result<Policy, PolicyError> {
    Policy::parse(FIRST)
}

/// What `new` changes in `old`, as lines that read as rules.
pub(super) fn change(old: &Policy, new: &Policy, is_set: bool) -> PolicyChange {
    let (old_rules, new_rules) = (rules(old), rules(new));
    PolicyChange {
        removed: without(&old_rules, &new_rules),
        added: without(&new_rules, &old_rules),
        cases: new.tests.len(),
        is_set,
    }
}

fn rules(policy: &Policy) -> Vec<String> {
    policy.allow.iter().map(|rule| serde_json::to_string(rule).unwrap_or_default()).collect()
}

/// Those of `these` that `others` lack, as often as they lack them.
fn without(these: &[String], others: &[String]) -> Vec<String> {
    let mut there: BTreeMap<&String, usize> = BTreeMap::new();
    for other in others {
        let count = there.entry(other).or_default();
        *count = count.saturating_add(1);
    }
    let is_new = |rule: &&String| match there.get_mut(*rule) {
        Some(count) if *count > 0 => {
            *count = count.saturating_sub(1);
            false
        }
        _ => true,
    };
    these.iter().filter(is_new).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_policy_keeps_what_its_cases_say() {
        let policy = first().unwrap();
        assert_eq!(policy.check(&BTreeMap::new()), Ok(()));
        assert!(policy.tests.len() > 8, "and it has cases");
    }

    #[test]
    fn a_change_names_the_rules_that_come_and_go() {
        let rule = |port: u16| format!(r#"{{"from":["*"],"to":["*"],"ports":["{port}"]}}"#);
        let policy = |ports: &[u16]| {
            let rules: Vec<String> = ports.iter().map(|port| rule(*port)).collect();
            Policy::parse(&format!(r#"{{"allow":[{}]}}"#, rules.join(","))).unwrap()
        };
        let change = change(&policy(&[1, 2, 2]), &policy(&[2, 3]), false);
        assert_eq!(change.removed, [rule(1), rule(2)]);
        assert_eq!(change.added, [rule(3)]);
    }
}
