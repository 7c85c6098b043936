//! Stopping an app, or taking it away: its routes first, then what is in flight, then the instances.

use crate::{routes, site::Site, work};
use allod_proto::{
    AppRef,
    executor::{Instance, Release},
    operation::{Failure, Step},
    routes::Route,
};

/// What is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopPlan {
    /// The app.
    pub app: AppRef,
    /// The release that serves, if one does.
    pub release: Option<Release>,
    /// The app's instances that run.
    pub running: Vec<Instance>,
    /// Whether its routes go as well; otherwise they answer that the app is stopped.
    pub remove: bool,
}

/// Ends every instance of an app.
///
/// # Errors
/// What failed before anything was stopped: the instances serve on. What can't be drained or stopped is noted.
pub async fn stop(site: &impl Site, plan: &StopPlan) -> Result<(), Box<Failure>> {
    if work::is_cancelled(site) {
        return Err(work::cancelled(Step::Switch));
    }
    let begun = work::begin(site, Step::Switch, None);
    let stopped = if plan.remove { Vec::new() } else { routes_of(plan, true) };
    let mut done = site.switch(&plan.app, stopped).await;
    if done.is_ok() {
        done = work::promote(site).await;
    }
    if let Err(fault) = done {
        if let Err(fault) = site.switch(&plan.app, routes_of(plan, false)).await {
            work::note(site, format!("the routes could not be set back: {}", fault.message));
        }
        return Err(work::failure(Step::Switch, fault));
    }
    begun.end(None);
    work::drain_all(site, plan.release.as_ref(), &plan.running).await;
    work::stop_all(site, plan.release.as_ref(), &plan.running).await;
    Ok(())
}

fn routes_of(plan: &StopPlan, stopped: bool) -> Vec<Route> {
    let release = plan.release.as_ref();
    release.map_or_else(Vec::new, |release| routes::routes_of(&plan.app, release, &plan.running, stopped))
}

#[cfg(test)]
mod tests;
