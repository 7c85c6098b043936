//! The failure matrix, step by step, against the fake site; then any faults at all.

use super::*;
use crate::fake::{Behaviour, Fake, Wrong, app, http, instance, process, release, spec, unit};
use allod_proto::{operation::Step, routes::RouteTarget, spec::HealthSpec};
use std::{collections::BTreeSet, time::Duration};

fn plan() -> RolloutPlan {
    let from = release('a', spec());
    let old = vec![instance("web", 1, &from), instance("web", 2, &from), instance("worker", 3, &from)];
    RolloutPlan {
        app: app(),
        release: release('b', spec()),
        from: Some(from),
        old,
        was_stopped: false,
        scale: BTreeMap::new(),
        run_release_command: true,
    }
}

fn fake(plan: &RolloutPlan) -> Fake {
    Fake::new(plan.from.as_ref(), &plan.old)
}

/// Calls in the order of a good rollout: release, 3 starts, switch, promote, 2 drains, 3 stops.
const SWITCH: usize = 4;
const PROMOTE: usize = 5;

/// The old ones run and serve, nothing new does.
fn assert_old_serves(fake: &Fake, plan: &RolloutPlan) {
    let old: BTreeSet<_> = plan.old.iter().map(|instance| instance.id.clone()).collect();
    assert_eq!(fake.running(), old);
    assert_eq!(fake.routes(), routes_before(plan));
    assert_eq!(fake.violations(), Vec::<String>::new());
}

async fn fails(fake: &Fake, plan: &RolloutPlan) -> Failure {
    let failure = roll_out(fake, plan).await.unwrap_err();
    assert_old_serves(fake, plan);
    assert!(!fake.promoted());
    *failure
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_command_starts_nothing_and_shows_what_it_printed() {
    let plan = plan();
    let mut fake = fake(&plan);
    fake.release_exit = "exit status 3".to_owned();
    let failure = fails(&fake, &plan).await;
    assert_eq!(fake.calls(), ["release"]);
    assert_eq!((failure.step, failure.exit.as_deref()), (Step::ReleaseCommand, Some("exit status 3")));
    assert_eq!(failure.log_tail.len(), 20);
    assert_eq!(failure.log_tail.last().unwrap(), "migrate 29");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cant_be_started_takes_those_before_it_along() {
    let plan = plan();
    let fake = fake(&plan).wrong(2, Wrong::NotDone);
    let failure = fails(&fake, &plan).await;
    assert_eq!(failure.step, Step::Start);
    assert_eq!(failure.fault.message, "web 2 of 2 could not be started: no answer from the fake");
    assert_eq!(fake.calls().last().unwrap(), "stop web-00000065 2");
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_never_gets_healthy_leaves_the_old_and_shows_its_log() {
    let plan = plan();
    let fake = fake(&plan).behave(1, Behaviour { well_after: None, ..Behaviour::default() });
    let failure = fails(&fake, &plan).await;
    assert_eq!((failure.step, failure.fault.code), (Step::Health, FaultCode::Unhealthy));
    let probe = failure.probe.unwrap();
    assert_eq!(probe.target, "GET http://127.0.0.1:20102/health");
    assert_eq!(probe.error.as_deref(), Some("connection refused"));
    assert!(probe.tries > 20, "{}", probe.tries);
    assert_eq!(failure.log_tail.first().unwrap(), "web-00000066 line 0");
}

#[tokio::test(start_paused = true)]
async fn the_wrong_port_is_named() {
    let plan = plan();
    let fake = fake(&plan).behave(0, Behaviour { listens_on: Some(3000), ..Behaviour::default() });
    let failure = fails(&fake, &plan).await;
    let hint = failure.fault.hint.unwrap();
    assert_eq!(hint, "your app listens on 3000, PORT said 20101; let it listen on the port in PORT");
    assert_eq!(failure.probe.unwrap().listens_on, ["127.0.0.1:3000"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_program_on_the_port_does_not_count() {
    let plan = plan();
    let fake =
        fake(&plan).behave(0, Behaviour { listens_on: Some(3000), impostor: true, ..Behaviour::default() });
    let failure = fails(&fake, &plan).await;
    assert!(
        failure.fault.message.ends_with("another program answered on this port"),
        "{}",
        failure.fault.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_no_health_and_is_shown() {
    let plan = plan();
    let location = Some("https://shop.example.com/login".to_owned());
    let fake =
        fake(&plan).behave(0, Behaviour { status: 301, location: location.clone(), ..Behaviour::default() });
    let failure = fails(&fake, &plan).await;
    assert!(
        failure.fault.message.ends_with("301 to https://shop.example.com/login"),
        "{}",
        failure.fault.message
    );
    let probe = failure.probe.unwrap();
    assert_eq!((probe.status, probe.location), (Some(301), location));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_fails_at_once_and_not_after_the_timeout() {
    let plan = plan();
    let ends =
        Behaviour { well_after: None, ends_after: Some(Duration::from_secs(1)), ..Behaviour::default() };
    let fake = fake(&plan).behave(1, ends);
    let begun = tokio::time::Instant::now();
    let failure = fails(&fake, &plan).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(failure.exit.as_deref(), Some("exit status 1"));
    assert_eq!(failure.log_tail.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_while_another_is_waited_for_is_noticed() {
    let plan = plan();
    // Well at once and dead a second later; the worker takes two seconds.
    let fake =
        fake(&plan).behave(0, Behaviour { ends_after: Some(Duration::from_secs(1)), ..Behaviour::default() });
    let failure = fails(&fake, &plan).await;
    assert_eq!(failure.instance.unwrap().as_str(), "web-00000065");
    assert_eq!(failure.exit.as_deref(), Some("exit status 1"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_lost_switch_is_set_back() {
    for wrong in [Wrong::NotDone, Wrong::AnswerLost] {
        let plan = plan();
        let fake = fake(&plan).wrong(SWITCH, wrong);
        let failure = fails(&fake, &plan).await;
        assert_eq!(failure.step, Step::Switch, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_promotion_is_set_back() {
    let plan = plan();
    let fake = (PROMOTE..PROMOTE + 4).fold(fake(&plan), |fake, nth| fake.wrong(nth, Wrong::NotDone));
    let failure = fails(&fake, &plan).await;
    assert!(failure.fault.message.starts_with("the release could not be promoted"));
}

#[tokio::test(start_paused = true)]
async fn a_promotion_whose_answer_is_lost_is_asked_for_again() {
    let plan = plan();
    let fake = fake(&plan).wrong(PROMOTE, Wrong::AnswerLost);
    assert_eq!(roll_out(&fake, &plan).await.unwrap().release, plan.release.id);
    assert_eq!(fake.calls().iter().filter(|call| *call == "promote").count(), 2);
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn routes_that_cant_be_set_back_leave_everything_running() {
    let plan = plan();
    let fake = fake(&plan).wrong(SWITCH, Wrong::AnswerLost).wrong(SWITCH + 1, Wrong::NotDone);
    roll_out(&fake, &plan).await.unwrap_err();
    assert_eq!(fake.running().len(), 6);
    assert_eq!(fake.violations(), Vec::<String>::new());
    assert!(fake.notes().iter().any(|note| note.starts_with("left running")), "{:?}", fake.notes());
}

#[tokio::test(start_paused = true)]
async fn cancelling_at_any_call_before_the_promotion_leaves_the_old() {
    for nth in 0..=SWITCH {
        let plan = plan();
        let fake = fake(&plan).cancel_at(nth);
        let failure = fails(&fake, &plan).await;
        assert_eq!(failure.fault.code, FaultCode::Cancelled, "at call {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_after_the_promotion_is_too_late() {
    for nth in PROMOTE..PROMOTE + 3 {
        let plan = plan();
        let fake = fake(&plan).cancel_at(nth);
        assert_eq!(roll_out(&fake, &plan).await.unwrap().instances.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cant_be_drained_or_stopped_is_noted_and_the_rest_goes_on() {
    let plan = plan();
    let fake = fake(&plan).wrong(PROMOTE + 1, Wrong::NotDone).wrong(PROMOTE + 3, Wrong::NotDone);
    roll_out(&fake, &plan).await.unwrap();
    assert_eq!(fake.notes().len(), 2);
    assert_eq!(fake.running().len(), 4, "three new ones and the one that would not stop");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_step_by_step() {
    let plan = plan();
    let fake = fake(&plan);
    let served = roll_out(&fake, &plan).await.unwrap();
    assert_eq!(served.release, plan.release.id);
    let expected = [
        "release",
        "start web",
        "start web",
        "start worker",
        "switch 20101 20102",
        "promote",
        "drain 20001 5",
        "drain 20002 5",
        "stop web-00000001 2",
        "stop web-00000002 2",
        "stop worker-00000003 2",
    ];
    assert_eq!(fake.calls(), expected);
    assert_eq!(fake.violations(), Vec::<String>::new());
    let steps = fake.ended_steps();
    let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["release_command", "start", "health", "switch", "drain", "stop"]);
    let health = steps[2].1.as_deref().unwrap();
    assert_eq!(
        health,
        "web-00000065: 200 in 3 ms, web-00000066: 200 in 3 ms, worker-00000067: running for 2 s"
    );
    let files = fake.routes().into_iter().find_map(|route| match route.target {
        RouteTarget::Static { root, .. } => Some(root),
        _ => None,
    });
    assert_eq!(files.unwrap(), plan.release.files.join("public"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_runs_no_release_command_and_keeps_the_scale() {
    let mut plan = plan();
    plan.release = plan.from.clone().unwrap();
    plan.run_release_command = false;
    plan.scale.insert(unit("web"), 1);
    let fake = fake(&plan);
    let served = roll_out(&fake, &plan).await.unwrap();
    assert_eq!(served.instances.len(), 2);
    assert!(!fake.calls().contains(&"release".to_owned()));
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_deploy_leaves_nothing() {
    let mut plan = plan();
    plan.from = None;
    plan.old.clear();
    let fake = fake(&plan).wrong(SWITCH, Wrong::AnswerLost);
    fails(&fake, &plan).await;
    assert!(fake.routes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_of_a_stopped_app_leaves_it_stopped() {
    let mut plan = plan();
    plan.old.clear();
    plan.was_stopped = true;
    let fake = fake(&plan).wrong(SWITCH, Wrong::AnswerLost);
    roll_out(&fake, &plan).await.unwrap_err();
    assert!(fake.routes().iter().all(|route| matches!(route.target, RouteTarget::Stopped { .. })));
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_health_is_waited_for() {
    let kinds = [
        (HealthSpec::Tcp, "connected in 3 ms"),
        (HealthSpec::Ready, "ready after 300 ms"),
        (HealthSpec::Command { run: vec!["./check".to_owned()] }, "command ended well"),
        (HealthSpec::Running { for_ms: 40_000 }, "running for 40 s"),
        (http(), "200 in 3 ms"),
    ];
    for (health, found) in kinds {
        let mut plan = plan();
        plan.release.spec.units.remove(&unit("worker"));
        plan.release.spec.units.get_mut(&unit("web")).unwrap().kind = process(1, health.clone());
        let fake = fake(&plan);
        roll_out(&fake, &plan).await.unwrap();
        assert_eq!(
            fake.ended_steps()[2].1.as_deref().unwrap(),
            format!("web-00000065: {found}"),
            "{health:?}"
        );
        assert_eq!(fake.violations(), Vec::<String>::new());
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    /// Whatever goes wrong, however often, and whenever somebody asks to end: nothing is drained or stopped while
    /// requests may go there, and what serves in the end runs.
    #[test]
    fn no_fault_drops_a_request(
        wrongs in proptest::collection::btree_map(0_usize..14, proptest::bool::ANY, 0..5),
        cancel in proptest::option::of(0_usize..14),
        ends in proptest::option::of((0_usize..3, 0_u64..4_000)),
        first in proptest::bool::weighted(0.2),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut plan = plan();
            if first {
                plan.from = None;
                plan.old.clear();
            }
            let mut fake = fake(&plan);
            for (nth, done) in wrongs {
                fake = fake.wrong(nth, if done { Wrong::AnswerLost } else { Wrong::NotDone });
            }
            if let Some(nth) = cancel {
                fake = fake.cancel_at(nth);
            }
            if let Some((nth, after)) = ends {
                let ends_after = Some(Duration::from_millis(after));
                fake = fake.behave(nth, Behaviour { ends_after, ..Behaviour::default() });
            }
            let outcome = roll_out(&fake, &plan).await;
            assert_eq!(fake.violations(), Vec::<String>::new());
            let running = fake.running();
            match outcome {
                Ok(served) => {
                    assert!(fake.promoted());
                    let served = &served.instances;
                    assert_eq!(fake.routes(), routes::routes_of(&plan.app, &plan.release, served, false));
                    // One may end by itself after it was found alive.
                    assert!(ends.is_some() || served.iter().all(|instance| running.contains(&instance.id)));
                }
                Err(_) => assert!(plan.old.iter().all(|instance| running.contains(&instance.id))),
            }
        });
    }
}
