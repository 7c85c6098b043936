//! The steps of a deploy: release command, start, health, switch, promote, drain, stop; and back, if one fails. The
//! order is [`Rollout`]'s; here each step is done. The caller tells of the failure and of the end.

use crate::{
    rollout::{Next, Outcome, Place, Rollout},
    routes,
    site::Site,
    work::{self, Halt},
};
use allod_proto::{
    AppRef, FaultCode, ReleaseId, UnitName,
    executor::{Instance, Release},
    operation::{Failure, Step},
    routes::Route,
    spec::AppSpec,
};
use futures_util::FutureExt as _;
use std::collections::BTreeMap;

/// What is to serve, and what serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPlan {
    /// The app.
    pub app: AppRef,
    /// The release that is to serve.
    pub release: Release,
    /// The release that serves; `None` if none ever did.
    pub from: Option<Release>,
    /// The app's instances that run.
    pub old: Vec<Instance>,
    /// Whether the app is stopped, so that its routes say so until the switch.
    pub was_stopped: bool,
    /// Wanted copies; a unit that is not named has what the release says.
    pub scale: BTreeMap<UnitName, u32>,
    /// Whether the release command is to run, if the release has one: not for a restart.
    pub run_release_command: bool,
}

/// What serves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The release.
    pub release: ReleaseId,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// Brings a release by rolling.
///
/// # Errors
/// What failed, with what a person needs to see. What served before serves on, and new instances are gone; the one
/// exception, that the proxy would not say that the routes are back, is noted.
pub async fn roll_out(site: &impl Site, plan: &RolloutPlan) -> Result<Served, Box<Failure>> {
    let release_command = plan.run_release_command && plan.release.spec.release_command.is_some();
    let mut rollout =
        Rollout::new(places(&plan.release.spec, &plan.scale), plan.old.clone(), release_command);
    let mut failure = None;
    loop {
        let next = rollout.next();
        if rollout.may_be_cancelled() && work::is_cancelled(site) {
            failure = Some(work::cancelled(step_of(&next)));
            rollout.observe(Outcome::Failed);
            continue;
        }
        let step = step_of(&next);
        let (outcome, halt) = match next {
            Next::ReleaseCommand => plain(release_command_step(site).await),
            Next::Start(places) => start(site, plan, &places).await,
            Next::Health(new) => {
                plain(work::unless_cancelled(site, work::await_all(site, &plan.release, &new)).await)
            }
            Next::Switch(new) => plain(switch(site, plan, &new).await),
            Next::Promote => plain(promote(site).await),
            Next::Drain(old) => plain(work::drain_all(site, plan.from.as_ref(), &old).map(Ok).await),
            Next::Stop(old) => plain(work::stop_all(site, plan.from.as_ref(), &old).map(Ok).await),
            Next::Restore => (restore(site, plan).await, None),
            Next::DrainNew(new) => plain(work::drain_all(site, Some(&plan.release), &new).map(Ok).await),
            Next::StopNew(new) => plain(work::stop_all(site, Some(&plan.release), &new).map(Ok).await),
            Next::Served(instances) => return Ok(Served { release: plan.release.id.clone(), instances }),
            Next::Undone { left } => return Err(undone(site, &left, failure)),
        };
        failure = failure.or_else(|| halt.map(|halt| reason(halt, step)));
        rollout.observe(outcome);
    }
}

/// The copies that are to be started, unit by unit.
pub(crate) fn places(spec: &AppSpec, scale: &BTreeMap<UnitName, u32>) -> Vec<Place> {
    let copies = |(unit, process): (&UnitName, &allod_proto::spec::ProcessSpec)| {
        let of = scale.get(unit).copied().unwrap_or(process.instances).min(allod_proto::limits::INSTANCES);
        let unit = unit.clone();
        (1..=of).map(move |copy| Place { unit: unit.clone(), copy, of })
    };
    spec.processes().flat_map(copies).collect()
}

fn step_of(next: &Next) -> Step {
    match next {
        Next::ReleaseCommand => Step::ReleaseCommand,
        Next::Start(_) => Step::Start,
        Next::Health(_) => Step::Health,
        // The promotion is the switch's second half: it makes it last.
        Next::Switch(_) | Next::Promote => Step::Switch,
        Next::Drain(_) => Step::Drain,
        Next::Stop(_) | Next::Served(_) => Step::Stop,
        Next::Restore | Next::DrainNew(_) | Next::StopNew(_) | Next::Undone { .. } => Step::Undo,
    }
}

fn plain(done: Result<(), Halt>) -> (Outcome, Option<Halt>) {
    match done {
        Ok(()) => (Outcome::Done, None),
        Err(halt) => (Outcome::Failed, Some(halt)),
    }
}

fn reason(halt: Halt, step: Step) -> Box<Failure> {
    match halt {
        Halt::Cancelled => work::cancelled(step),
        Halt::Failed(failure) => failure,
    }
}

async fn release_command_step(site: &impl Site) -> Result<(), Halt> {
    let begun = work::begin(site, Step::ReleaseCommand, None);
    let ran = work::unless_cancelled(site, async {
        site.release_command().await.map_err(|fault| work::failure(Step::ReleaseCommand, fault))
    });
    let (ok, exit, mut tail) = match ran.await {
        Ok(ran) => ran,
        Err(halt) => {
            if matches!(halt, Halt::Cancelled) {
                work::note(site, "the release command was under way; it is not undone");
            }
            return Err(halt);
        }
    };
    if ok {
        begun.end(Some(exit));
        return Ok(());
    }
    let fault = allod_proto::Fault::new(FaultCode::Unhealthy, format!("the release command failed: {exit}"))
        .hint("nothing new was started; the last lines of what it printed say why");
    let mut failure = work::failure(Step::ReleaseCommand, fault);
    failure.exit = Some(exit);
    failure.log_tail = tail.split_off(tail.len().saturating_sub(work::LOG_LINES));
    Err(Halt::Failed(failure))
}

async fn start(site: &impl Site, plan: &RolloutPlan, places: &[Place]) -> (Outcome, Option<Halt>) {
    let (instances, ended) = work::start_all(site, &plan.app, &plan.release, places).await;
    (Outcome::Started { instances, all: ended.is_ok() }, ended.err())
}

async fn switch(site: &impl Site, plan: &RolloutPlan, new: &[Instance]) -> Result<(), Halt> {
    let begun = work::begin(site, Step::Switch, None);
    let routes = routes::routes_of(&plan.app, &plan.release, new, false);
    let shown: Vec<String> = routes.iter().map(|route| route.pattern.to_string()).collect();
    site.switch(&plan.app, routes).await.map_err(|fault| Halt::Failed(work::failure(Step::Switch, fault)))?;
    begun.end((!shown.is_empty()).then(|| shown.join(", ")));
    Ok(())
}

async fn promote(site: &impl Site) -> Result<(), Halt> {
    work::promote(site).await.map_err(|mut fault| {
        fault.message = format!("the release could not be promoted: {}", fault.message);
        Halt::Failed(work::failure(Step::Switch, fault))
    })
}

async fn restore(site: &impl Site, plan: &RolloutPlan) -> Outcome {
    let begun = work::begin(site, Step::Undo, None);
    match site.switch(&plan.app, routes_before(plan)).await {
        Ok(()) => {
            begun.end(Some("the routes are as they were".to_owned()));
            Outcome::Done
        }
        Err(fault) => {
            work::note(site, format!("the routes could not be set back: {}", fault.message));
            Outcome::Failed
        }
    }
}

/// The app's routes as they were before the switch.
fn routes_before(plan: &RolloutPlan) -> Vec<Route> {
    let from = plan.from.as_ref();
    from.map_or_else(Vec::new, |from| routes::routes_of(&plan.app, from, &plan.old, plan.was_stopped))
}

fn undone(site: &impl Site, left: &[Instance], failure: Option<Box<Failure>>) -> Box<Failure> {
    if !left.is_empty() {
        let left: Vec<&str> = left.iter().map(|instance| instance.id.as_str()).collect();
        work::note(site, format!("left running, because requests may still go there: {}", left.join(", ")));
    }
    failure.unwrap_or_else(|| work::cancelled(Step::Undo))
}

#[cfg(test)]
mod tests;
