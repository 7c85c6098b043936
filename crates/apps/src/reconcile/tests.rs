//! What is kept running, and what is left alone.

use super::*;
use crate::fake::{app, instance, release, spec, unit};
use allod_proto::{
    OperationId,
    executor::{Goal, OpenOperation},
};

const NOW: Timestamp = Timestamp(1_000_000);

fn desired(current: &Release) -> DesiredApp {
    DesiredApp {
        app: app(),
        current: Some(current.clone()),
        previous: None,
        scale: BTreeMap::new(),
        stopped: false,
        operation: None,
        secrets: BTreeMap::new(),
        uid: Some(2_000),
    }
}

fn all(current: &Release) -> Vec<Instance> {
    vec![instance("web", 1, current), instance("web", 2, current), instance("worker", 3, current)]
}

fn ended(mut instance: Instance, started: u64, ended: u64) -> Instance {
    instance.started_at = Timestamp(started);
    instance.exit = Some("exit status 1".to_owned());
    instance.ended_at = Some(Timestamp(ended));
    instance
}

/// Acts as words.
fn words(acts: &[Act]) -> Vec<String> {
    let word = |act: &Act| match act {
        Act::Forget(id) => format!("forget {id}"),
        Act::Start { unit } => format!("start {unit}"),
        Act::Retire(instance) => format!("retire {}", instance.id),
        Act::Wait { until } => format!("wait {}", until.0 - NOW.0),
    };
    acts.iter().map(word).collect()
}

fn planned(
    now: Timestamp,
    desired: &DesiredApp,
    instances: &[Instance],
    memory: &mut Restarts,
) -> Vec<String> {
    words(&plan(now, desired, instances, memory))
}

#[test]
fn an_app_with_an_operation_at_work_is_left_alone() {
    let (old, new) = (release('a', spec()), release('b', spec()));
    let goal = Goal::Stop {};
    let operation = OpenOperation {
        id: OperationId::new("op-0123456789ab").unwrap(),
        app: app(),
        command: "app.deploy".to_owned(),
        by: "owner".to_owned(),
        at: NOW,
        goal,
        promoted: false,
    };
    let desired = DesiredApp { operation: Some(operation), ..desired(&old) };
    let instances = [ended(instance("web", 1, &old), 0, NOW.0), instance("web", 9, &new)];
    assert!(plan(NOW, &desired, &instances, &mut Restarts::default()).is_empty());
}

#[test]
fn nothing_is_done_where_all_is_as_wanted() {
    let current = release('a', spec());
    assert!(plan(NOW, &desired(&current), &all(&current), &mut Restarts::default()).is_empty());
}

#[test]
fn instances_of_other_apps_are_left_alone() {
    let current = release('a', spec());
    let mut other = all(&current);
    for instance in &mut other {
        instance.app = "blog".parse().unwrap();
    }
    let mut stopped = desired(&current);
    stopped.stopped = true;
    assert!(plan(NOW, &stopped, &other, &mut Restarts::default()).is_empty());
}

#[test]
fn after_a_reboot_everything_is_started() {
    let current = release('a', spec());
    let acts = planned(NOW, &desired(&current), &[], &mut Restarts::default());
    assert_eq!(acts, ["start web", "start web", "start worker"]);
}

#[test]
fn a_crash_is_followed_by_a_pause_that_doubles_to_a_minute() {
    let current = release('a', spec());
    let desired = desired(&current);
    let mut memory = Restarts::default();
    let mut now = NOW;
    let mut pauses = Vec::new();
    for crash in 0..9 {
        let mut instances = all(&current);
        instances[0] = ended(instance("web", 100 + crash, &current), now.0, now.0 + 500);
        now = now.plus(Duration::from_millis(500));
        let acts = plan(now, &desired, &instances, &mut memory);
        let Some(Act::Wait { until }) = acts.last() else { panic!("{acts:?}") };
        assert_eq!(acts.len(), 2, "forget and wait: {acts:?}");
        pauses.push(until.since(now).as_secs());
        instances.remove(0);
        assert_eq!(plan(*until, &desired, &instances, &mut memory), [Act::Start { unit: unit("web") }]);
        now = *until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(memory.count(&app(), &unit("web")), 9);
    assert_eq!(memory.count(&app(), &unit("worker")), 0);
}

#[test]
fn a_crash_after_a_long_life_begins_anew() {
    let current = release('a', spec());
    let mut memory = Restarts::default();
    let mut instances = all(&current);
    for (number, life) in [(10, 100), (11, 100), (12, 60_000)] {
        instances[0] = ended(instance("web", number, &current), NOW.0 + 200_000 - life, NOW.0 + 200_000);
        plan(NOW.plus(Duration::from_secs(200)), &desired(&current), &instances, &mut memory);
    }
    let acts = planned(NOW.plus(Duration::from_secs(200)), &desired(&current), &instances[1..], &mut memory);
    assert_eq!(acts, ["wait 201000"]);
}

#[test]
fn a_crash_is_counted_once_and_copies_that_end_together_are_one() {
    let current = release('a', spec());
    let mut memory = Restarts::default();
    let mut instances = all(&current);
    instances[0] = ended(instance("web", 10, &current), NOW.0 - 10, NOW.0);
    instances[1] = ended(instance("web", 11, &current), NOW.0 - 10, NOW.0);
    for _ in 0..3 {
        let acts = planned(NOW, &desired(&current), &instances, &mut memory);
        assert_eq!(acts, ["forget web-0000000a", "forget web-0000000b", "wait 1000"]);
    }
    assert_eq!(memory.count(&app(), &unit("web")), 2);
}

#[test]
fn a_new_release_begins_with_no_crashes() {
    let (old, new) = (release('a', spec()), release('b', spec()));
    let mut memory = Restarts::default();
    let mut instances = all(&old);
    instances[0] = ended(instance("web", 10, &old), NOW.0 - 10, NOW.0);
    plan(NOW, &desired(&old), &instances, &mut memory);
    let mut instances = all(&new);
    instances.remove(0);
    assert_eq!(planned(NOW, &desired(&new), &instances, &mut memory), ["start web"]);
    assert_eq!(memory.count(&app(), &unit("web")), 0);
}

#[test]
fn what_still_serves_stays_until_what_is_wanted_is_well() {
    let (old, new) = (release('a', spec()), release('b', spec()));
    let mut memory = Restarts::default();
    let stray = instance("web", 9, &old);
    let acts = planned(NOW, &desired(&new), std::slice::from_ref(&stray), &mut memory);
    assert_eq!(acts, ["start web", "start web", "start worker", "wait 1000"]);
    let mut instances = all(&new);
    for instance in &mut instances {
        instance.started_at = NOW;
    }
    instances.push(stray);
    assert_eq!(planned(NOW, &desired(&new), &instances, &mut memory), ["wait 1000"]);
    for instance in &instances[..3] {
        memory.is_healthy(&instance.id);
    }
    assert_eq!(planned(NOW, &desired(&new), &instances, &mut memory), ["retire web-00000009"]);
}

#[test]
fn too_many_go_newest_first_and_too_few_are_filled_up() {
    let current = release('a', spec());
    let mut scaled = desired(&current);
    scaled.scale.insert(unit("web"), 1);
    scaled.scale.insert(unit("worker"), 2);
    let acts = planned(NOW, &scaled, &all(&current), &mut Restarts::default());
    assert_eq!(acts, ["start worker", "retire web-00000002"]);
}

#[test]
fn of_a_stopped_or_never_deployed_app_nothing_stays() {
    let current = release('a', spec());
    for desired in
        [DesiredApp { stopped: true, ..desired(&current) }, DesiredApp { current: None, ..desired(&current) }]
    {
        let mut instances = all(&current);
        instances[1] = ended(instances[1].clone(), 0, 1);
        let mut memory = Restarts::default();
        let acts = planned(NOW, &desired, &instances, &mut memory);
        assert_eq!(acts, ["forget web-00000002", "retire web-00000001", "retire worker-00000003"]);
        assert_eq!(memory.count(&app(), &unit("web")), 0);
    }
}

proptest::proptest! {
    /// A unit whose copies crash whenever they are started is never started more often than the pauses allow.
    #[test]
    fn a_crash_loop_never_runs_hot(lives in proptest::collection::vec(0_u64..59_000, 1..40)) {
        let current = release('a', spec());
        let mut one = desired(&current);
        one.scale.insert(unit("web"), 1);
        let worker = instance("worker", 3, &current);
        let mut memory = Restarts::default();
        let mut now = NOW;
        for (row, life) in lives.into_iter().enumerate() {
            let number = 100 + u32::try_from(row).unwrap();
            let died = now.0 + life;
            let dead = ended(instance("web", number, &current), now.0, died);
            let acts = plan(Timestamp(died), &one, &[dead, worker.clone()], &mut memory);
            assert!(!acts.iter().any(|act| matches!(act, Act::Start { .. })), "{acts:?}");
            let Some(Act::Wait { until }) = acts.last() else { panic!("{acts:?}") };
            assert_eq!(until.0 - died, (1_000_u64 << row.min(6)).min(60_000));
            now = *until;
        }
    }

    /// One look's acts, all done, leave nothing to do.
    #[test]
    fn a_look_is_enough(running in proptest::collection::vec((0_u8..2, 0_u8..2, proptest::bool::ANY), 0..12), scale in 0_u32..5) {
        let releases = [release('a', spec()), release('b', spec())];
        let mut wanted = desired(&releases[0]);
        wanted.scale.insert(unit("web"), scale);
        let mut instances: Vec<Instance> = Vec::new();
        for (number, (of, which, alive)) in running.into_iter().enumerate() {
            let number = u32::try_from(number).unwrap();
            let name = if of == 0 { "web" } else { "worker" };
            let one = instance(name, number, &releases[usize::from(which)]);
            // Long ago: no pause is left.
            instances.push(if alive { one } else { ended(one, 0, 1) });
        }
        let mut memory = Restarts::default();
        let mut next = 1_000;
        for _ in 0..2 {
            for act in plan(NOW, &wanted, &instances, &mut memory) {
                match act {
                    Act::Forget(id) => instances.retain(|instance| instance.id != id),
                    Act::Retire(gone) => instances.retain(|instance| instance.id != gone.id),
                    Act::Start { unit } => {
                        next += 1;
                        let new = instance(unit.as_str(), next, &releases[0]);
                        memory.is_healthy(&new.id);
                        instances.push(new);
                    }
                    Act::Wait { .. } => {}
                }
            }
        }
        assert_eq!(plan(NOW, &wanted, &instances, &mut memory), []);
        let web = instances.iter().filter(|instance| instance.unit == unit("web")).count();
        assert_eq!(web, usize::try_from(scale).unwrap());
    }
}
