//! The order of steps, and every way it can break.

use super::*;
use crate::fake::{instance, release, spec, unit};

fn rollout(release_command: bool) -> (Rollout, Vec<Instance>, Vec<Instance>) {
    let old_release = release('a', spec());
    let new_release = release('b', spec());
    let old = vec![instance("web", 1, &old_release), instance("web", 2, &old_release)];
    let new = vec![instance("web", 3, &new_release), instance("web", 4, &new_release)];
    let places = (1..=2).map(|copy| Place { unit: unit("web"), copy, of: 2 }).collect();
    (Rollout::new(places, old.clone(), release_command), old, new)
}

/// A word for each step.
fn word(next: &Next) -> &'static str {
    match next {
        Next::ReleaseCommand => "release",
        Next::Start(_) => "start",
        Next::Health(_) => "health",
        Next::Switch(_) => "switch",
        Next::Promote => "promote",
        Next::Drain(_) => "drain",
        Next::Stop(_) => "stop",
        Next::Restore => "restore",
        Next::DrainNew(_) => "drain new",
        Next::StopNew(_) => "stop new",
        Next::Served(_) => "served",
        Next::Undone { .. } => "undone",
    }
}

/// Runs to the end; the steps named in `failing` fail. `started` start.
fn run(failing: &[&str], started: usize) -> (Vec<&'static str>, Next) {
    let (mut rollout, _, new) = rollout(true);
    let mut steps = Vec::new();
    loop {
        let next = rollout.next();
        steps.push(word(&next));
        let fails = failing.contains(&word(&next));
        match next {
            Next::Served(_) | Next::Undone { .. } => return (steps, next),
            Next::Start(_) => {
                let instances = new.iter().take(started).cloned().collect();
                rollout.observe(Outcome::Started { instances, all: !fails });
            }
            _ if fails => rollout.observe(Outcome::Failed),
            _ => rollout.observe(Outcome::Done),
        }
        assert!(steps.len() < 20, "{steps:?}");
    }
}

#[test]
fn a_failure_before_anything_started_undoes_nothing() {
    let (steps, end) = run(&["release"], 2);
    assert_eq!(steps, ["release", "undone"]);
    assert_eq!(end, Next::Undone { left: Vec::new() });
    assert_eq!(run(&["start"], 0).0, ["release", "start", "undone"]);
}

#[test]
fn a_failure_before_the_switch_stops_what_was_started() {
    assert_eq!(run(&["start"], 1).0, ["release", "start", "stop new", "undone"]);
    let (steps, end) = run(&["health"], 2);
    assert_eq!(steps, ["release", "start", "health", "stop new", "undone"]);
    assert_eq!(end, Next::Undone { left: Vec::new() });
}

#[test]
fn a_failed_switch_or_promotion_is_set_back_before_anything_new_is_stopped() {
    let back = ["restore", "drain new", "stop new", "undone"];
    let (steps, _) = run(&["switch"], 2);
    assert_eq!(steps, [&["release", "start", "health", "switch"], &back[..]].concat());
    let (steps, _) = run(&["promote"], 2);
    assert_eq!(steps, [&["release", "start", "health", "switch", "promote"], &back[..]].concat());
}

#[test]
fn where_the_routes_cant_be_set_back_the_new_ones_stay() {
    let (steps, end) = run(&["switch", "restore"], 2);
    assert_eq!(steps, ["release", "start", "health", "switch", "restore", "undone"]);
    let Next::Undone { left } = end else { panic!("{end:?}") };
    assert_eq!(left.len(), 2);
}

#[test]
fn a_failure_after_the_promotion_does_not_stop_the_rest() {
    let (steps, end) = run(&["drain", "stop"], 2);
    assert_eq!(steps, ["release", "start", "health", "switch", "promote", "drain", "stop", "served"]);
    assert!(matches!(end, Next::Served(new) if new.len() == 2));
}

#[test]
fn what_has_nothing_to_do_is_passed_over() {
    let mut rollout = Rollout::new(Vec::new(), Vec::new(), false);
    for expected in ["switch", "promote", "served"] {
        assert_eq!(word(&rollout.next()), expected);
        rollout.observe(Outcome::Done);
    }
    assert_eq!(word(&rollout.next()), "served");
}

#[test]
fn nobody_can_end_it_after_the_promotion_or_on_the_way_back() {
    for failing in [&["switch"][..], &[]] {
        let (mut rollout, _, new) = rollout(true);
        loop {
            let next = rollout.next();
            let early = matches!(word(&next), "release" | "start" | "health" | "switch" | "promote");
            assert_eq!(rollout.may_be_cancelled(), early, "{next:?}");
            match next {
                Next::Served(_) | Next::Undone { .. } => break,
                Next::Start(_) => rollout.observe(Outcome::Started { instances: new.clone(), all: true }),
                next if failing.contains(&word(&next)) => rollout.observe(Outcome::Failed),
                _ => rollout.observe(Outcome::Done),
            }
        }
    }
}

proptest::proptest! {
    /// Whatever fails: old ones are drained and stopped only after a switch and a promotion that were both acknowledged,
    /// new ones only while no switch to them was tried that was not set back.
    #[test]
    fn nothing_is_stopped_that_requests_may_go_to(
        outcomes in proptest::collection::vec(proptest::bool::weighted(0.8), 16),
        started in 0_usize..=2,
        release_command in proptest::bool::ANY,
    ) {
        let (mut rollout, old, new) = rollout(release_command);
        let (mut switched, mut promoted, mut towards_new) = (false, false, false);
        for well in outcomes {
            match rollout.next() {
                Next::Drain(some) | Next::Stop(some) => {
                    assert_eq!(some, old);
                    assert!(switched && promoted);
                }
                Next::DrainNew(_) | Next::StopNew(_) => assert!(!towards_new),
                Next::Switch(_) => {
                    towards_new = true;
                    switched = well;
                }
                Next::Promote => promoted = well,
                Next::Restore if well => (switched, towards_new) = (false, false),
                Next::Served(_) => assert!(switched && promoted),
                Next::Undone { left } => {
                    assert!(!promoted);
                    assert_eq!(left.is_empty(), !towards_new);
                }
                Next::ReleaseCommand | Next::Start(_) | Next::Health(_) | Next::Restore => {}
            }
            let outcome = match (rollout.next(), well) {
                (Next::Start(_), true) => Outcome::Started { instances: new.clone(), all: true },
                (Next::Start(_), false) => {
                    Outcome::Started { instances: new.iter().take(started).cloned().collect(), all: false }
                }
                (_, true) => Outcome::Done,
                (_, false) => Outcome::Failed,
            };
            rollout.observe(outcome);
        }
    }
}
