//! Up and down, and what stays when it fails.

use super::*;
use crate::fake::{Behaviour, Fake, Wrong, app, instance, release, spec, unit};

fn plan(instances: u32) -> ScalePlan {
    let release = release('a', spec());
    let running =
        vec![instance("web", 1, &release), instance("web", 2, &release), instance("worker", 3, &release)];
    ScalePlan { app: app(), release, unit: unit("web"), instances, running }
}

fn fake(plan: &ScalePlan) -> Fake {
    Fake::new(Some(&plan.release), &plan.running)
}

fn assert_unchanged(fake: &Fake, plan: &ScalePlan) {
    assert_eq!(fake.running().len(), 3);
    assert_eq!(fake.routes(), routes::routes_of(&plan.app, &plan.release, &plan.running, false));
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn more_than_there_may_be_and_what_has_no_copies_is_refused() {
    for plan in
        [plan(65), ScalePlan { unit: unit("site"), ..plan(2) }, ScalePlan { unit: unit("none"), ..plan(2) }]
    {
        let fake = fake(&plan);
        assert_eq!(scale(&fake, &plan).await.unwrap_err().fault.code, FaultCode::Invalid);
        assert!(fake.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_copy_that_is_not_healthy_changes_nothing() {
    let plan = plan(4);
    let fake = fake(&plan).behave(1, Behaviour { well_after: None, ..Behaviour::default() });
    let failure = scale(&fake, &plan).await.unwrap_err();
    assert_eq!((failure.step, failure.log_tail.len()), (Step::Health, 20));
    assert_unchanged(&fake, &plan);
}

#[tokio::test(start_paused = true)]
async fn a_failed_switch_changes_nothing_either_way() {
    for (instances, switch) in [(3, 1), (1, 0)] {
        for wrong in [Wrong::NotDone, Wrong::AnswerLost] {
            let plan = plan(instances);
            let fake = fake(&plan).wrong(switch, wrong);
            scale(&fake, &plan).await.unwrap_err();
            assert_unchanged(&fake, &plan);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_before_the_switch_changes_nothing() {
    for (instances, nth) in [(4, 0), (4, 1)] {
        let plan = plan(instances);
        let fake = fake(&plan).cancel_at(nth);
        assert_eq!(scale(&fake, &plan).await.unwrap_err().fault.code, FaultCode::Cancelled);
        assert_unchanged(&fake, &plan);
    }
}

#[tokio::test(start_paused = true)]
async fn more_copies_serve_once_they_are_healthy() {
    let plan = plan(3);
    let fake = fake(&plan);
    let served = scale(&fake, &plan).await.unwrap();
    assert_eq!(served.instances.len(), 4);
    assert_eq!(fake.calls(), ["start web", "switch 20001 20002 20100", "promote"]);
}

#[tokio::test(start_paused = true)]
async fn fewer_copies_leave_the_routes_before_they_go_and_the_newest_go_first() {
    let plan = plan(1);
    let fake = fake(&plan);
    scale(&fake, &plan).await.unwrap();
    assert_eq!(fake.calls(), ["switch 20001", "promote", "drain 20002 5", "stop web-00000002 2"]);
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn none_and_the_same_are_numbers_too() {
    let none = plan(0);
    let fake_none = fake(&none);
    assert_eq!(scale(&fake_none, &none).await.unwrap().instances.len(), 1);
    assert_eq!(fake_none.violations(), Vec::<String>::new());
    let same = plan(2);
    let fake_same = fake(&same);
    scale(&fake_same, &same).await.unwrap();
    assert_eq!(fake_same.calls(), ["switch 20001 20002", "promote"]);
}
