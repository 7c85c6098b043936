//! The routes go first, and a failure before that stops nothing.

use super::*;
use crate::fake::{Fake, Wrong, app, instance, release, spec};
use allod_proto::routes::RouteTarget;

fn plan(remove: bool) -> StopPlan {
    let release = release('a', spec());
    let running = vec![instance("web", 1, &release), instance("worker", 3, &release)];
    StopPlan { app: app(), release: Some(release), running, remove }
}

#[tokio::test(start_paused = true)]
async fn a_failed_switch_or_promotion_stops_nothing() {
    for wrong in [0..1, 1..5] {
        let plan = plan(false);
        let fake = Fake::new(plan.release.as_ref(), &plan.running);
        let fake = wrong.fold(fake, |fake, nth| fake.wrong(nth, Wrong::NotDone));
        stop(&fake, &plan).await.unwrap_err();
        assert_eq!(fake.running().len(), 2);
        assert_eq!(fake.routes(), routes_of(&plan, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_app_says_so_and_nothing_of_it_runs() {
    let plan = plan(false);
    let fake = Fake::new(plan.release.as_ref(), &plan.running);
    stop(&fake, &plan).await.unwrap();
    let expected = ["switch ", "promote", "drain 20001 5", "stop web-00000001 2", "stop worker-00000003 2"];
    assert_eq!(fake.calls(), expected);
    assert!(fake.routes().iter().all(|route| matches!(route.target, RouteTarget::Stopped { .. })));
    assert_eq!(fake.routes().len(), 2);
    assert!(fake.running().is_empty() && fake.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_removed_app_has_no_routes() {
    let plan = plan(true);
    let fake = Fake::new(plan.release.as_ref(), &plan.running);
    stop(&fake, &plan).await.unwrap();
    assert!(fake.routes().is_empty() && fake.running().is_empty());
}
