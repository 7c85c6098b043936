//! What differs between two views, found once for all nodes that were told the one and are to be told the other. A node that joins
//! is so one step for each stream and not a look at every node.

use crate::view::View;
use allod_meshproto::control::NodeId;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Pairs of views that are kept: streams are a few views apart, since frames are 50 ms apart at least.
const KEPT: usize = 32;

/// The nodes that differ in two views.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// The policy is another one: anything may differ for anybody.
    everything: bool,
    /// Those that came, went, or are told of in another way.
    nodes: BTreeSet<NodeId>,
    /// Those that may see, and be seen by, others than before.
    sights: BTreeSet<NodeId>,
}

impl Differences {
    fn between(before: &View, after: &View) -> Self {
        let (former, current) = (before.compiled.members(), after.compiled.members());
        let mut nodes: BTreeSet<NodeId> =
            before.online.symmetric_difference(&after.online).copied().collect();
        for (id, node) in current {
            if !former.get(id).is_some_and(|told| Arc::ptr_eq(told, node)) {
                nodes.insert(*id);
            }
        }
        let mut sights: BTreeSet<NodeId> =
            current.keys().filter(|id| !former.contains_key(id)).copied().collect();
        sights.extend(former.keys().filter(|id| !current.contains_key(id)));
        let everything = !after.compiled.other_sights(&before.compiled, &mut sights);
        nodes.extend(&sights);
        Self { everything, nodes, sights }
    }

    /// The nodes of which this one may have to be told something; `None` when that may be any.
    pub(super) fn concerning(&self, id: NodeId) -> Option<&BTreeSet<NodeId>> {
        (!self.everything && !self.sights.contains(&id)).then_some(&self.nodes)
    }
}

/// Differences that were found lately. A view that is gone is known by no other's name: its place is kept while it is spoken of.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<VecDeque<Pair>>);

#[derive(Debug)]
struct Pair {
    before: Weak<View>,
    after: Weak<View>,
    differences: Arc<Differences>,
}

impl Found {
    /// What differs between these two, found now or before.
    pub(super) fn between(&self, before: &Arc<View>, after: &Arc<View>) -> Arc<Differences> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |pair: &&Pair| {
            pair.before.as_ptr() == Arc::as_ptr(before) && pair.after.as_ptr() == Arc::as_ptr(after)
        };
        if let Some(pair) = found.iter().find(is_it) {
            return Arc::clone(&pair.differences);
        }
        let differences = Arc::new(Differences::between(before, after));
        found.truncate(KEPT - 1);
        found.push_front(Pair {
            before: Arc::downgrade(before),
            after: Arc::downgrade(after),
            differences: Arc::clone(&differences),
        });
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::tests::{ALL, NOW, World};

    fn concerned(world: &World, before: &Arc<View>, id: i64) -> Option<Vec<i64>> {
        let differences = Differences::between(before, &world.view(NOW));
        differences.concerning(NodeId(id)).map(|nodes| nodes.iter().map(|id| id.0).collect())
    }

    #[test]
    fn with_another_policy_and_for_who_came_anything_may_differ() {
        let mut world = World::new();
        (1..=3).for_each(|number| world.join(number, ""));
        let before = world.view(NOW);
        world.join(4, "");
        assert_eq!(concerned(&world, &before, 4), None);
        world.policy(ALL);
        assert_eq!(concerned(&world, &before, 1), None);
    }

    #[test]
    fn who_joins_is_the_one_node_that_any_other_is_told_of() {
        let mut world = World::new();
        world.policy(ALL);
        (1..=60).for_each(|number| world.join(number, ""));
        let before = world.view(NOW);
        world.join(61, "");
        for id in 1..=60 {
            assert_eq!(concerned(&world, &before, id), Some(vec![61]));
        }
        assert_eq!(concerned(&world, &world.view(NOW), 1), Some(Vec::new()));
    }

    #[test]
    fn other_tags_of_one_node_are_a_look_at_all_for_this_node_alone() {
        let mut world = World::new();
        world.policy(r#"{"allow":[{"from":["tag:web"],"to":["*"],"ports":["*"]}]}"#);
        (1..=9).for_each(|number| world.join(number, ""));
        let before = world.view(NOW);
        world.draft.state.set_tags(NodeId(5), vec!["tag:web".to_owned()]).unwrap();
        assert_eq!(concerned(&world, &before, 1), Some(vec![5]));
        assert_eq!(concerned(&world, &before, 5), None);
    }

    #[test]
    fn what_many_streams_ask_is_found_once() {
        let mut world = World::new();
        let before = world.view(NOW);
        world.join(1, "");
        let after = world.view(NOW);
        let found = Found::default();
        let one = found.between(&before, &after);
        assert!(Arc::ptr_eq(&one, &found.between(&before, &after)));
        assert!(!Arc::ptr_eq(&one, &found.between(&after, &before)));
        for _ in 0..KEPT * 2 {
            found.between(&before, &world.view(NOW));
        }
        assert_eq!(found.0.lock().unwrap().len(), KEPT);
        assert_eq!(*one, *found.between(&before, &after));
    }
}
