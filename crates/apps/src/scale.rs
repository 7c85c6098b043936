//! More or fewer copies of one unit: more are started and healthy before they serve; fewer are out of the routes before
//! they are drained and stopped, the newest first.

use crate::{
    deploy::Served,
    rollout::Place,
    routes,
    site::Site,
    work::{self, Halt},
};
use allod_proto::{
    AppRef, Fault, FaultCode, UnitName,
    executor::{Instance, Release},
    limits,
    operation::{Failure, Step},
};

/// How many copies of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePlan {
    /// The app.
    pub app: AppRef,
    /// The release that serves.
    pub release: Release,
    /// The unit.
    pub unit: UnitName,
    /// How many copies are wanted.
    pub instances: u32,
    /// The app's instances that run, of all units.
    pub running: Vec<Instance>,
}

/// Brings a unit to the wanted number of copies.
///
/// # Errors
/// What failed; the copies that served before serve on, and new ones are gone.
pub async fn scale(site: &impl Site, plan: &ScalePlan) -> Result<Served, Box<Failure>> {
    if plan.instances > limits::INSTANCES || plan.release.spec.process(&plan.unit).is_none() {
        let message = format!("{} can't have {} copies", plan.unit, plan.instances);
        return Err(work::failure(Step::Start, Fault::new(FaultCode::Invalid, message)));
    }
    let mut of_unit: Vec<&Instance> = plan
        .running
        .iter()
        .filter(|instance| instance.unit == plan.unit && instance.release == plan.release.id)
        .filter(|instance| instance.exit.is_none())
        .collect();
    // Oldest first, so that the newest are at the end and go first.
    of_unit.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
    let have = u32::try_from(of_unit.len()).unwrap_or(u32::MAX);
    let keep = usize::try_from(plan.instances).unwrap_or(usize::MAX);
    let victims: Vec<Instance> = of_unit.into_iter().skip(keep).cloned().collect();
    let staying = plan.running.iter().filter(|instance| !victims.contains(instance)).cloned().collect();
    if victims.is_empty() {
        up(site, plan, have, staying).await
    } else {
        down(site, plan, staying, &victims).await
    }
}

async fn up(
    site: &impl Site,
    plan: &ScalePlan,
    have: u32,
    staying: Vec<Instance>,
) -> Result<Served, Box<Failure>> {
    let of = plan.instances;
    let places: Vec<Place> =
        (have.saturating_add(1)..=of).map(|copy| Place { unit: plan.unit.clone(), copy, of }).collect();
    let (new, started) = match places.as_slice() {
        [] => (Vec::new(), Ok(())),
        places => work::start_all(site, &plan.app, &plan.release, places).await,
    };
    let healthy = match started {
        Ok(()) if new.is_empty() => Ok(()),
        Ok(()) => work::unless_cancelled(site, work::await_all(site, &plan.release, &new)).await,
        Err(halt) => Err(halt),
    };
    if let Err(halt) = healthy {
        work::stop_all(site, Some(&plan.release), &new).await;
        return Err(match halt {
            Halt::Cancelled => work::cancelled(Step::Start),
            Halt::Failed(failure) => failure,
        });
    }
    let all = [staying.clone(), new.clone()].concat();
    if let Err(failure) = switch_and_promote(site, plan, &all).await {
        if switch(site, plan, &staying).await.is_ok() {
            work::drain_all(site, Some(&plan.release), &new).await;
            work::stop_all(site, Some(&plan.release), &new).await;
        } else {
            work::note(site, "the routes could not be set back; new copies are left running");
        }
        return Err(failure);
    }
    Ok(Served { release: plan.release.id.clone(), instances: all })
}

async fn down(
    site: &impl Site,
    plan: &ScalePlan,
    staying: Vec<Instance>,
    victims: &[Instance],
) -> Result<Served, Box<Failure>> {
    if let Err(failure) = switch_and_promote(site, plan, &staying).await {
        if switch(site, plan, &plan.running).await.is_err() {
            work::note(site, "the routes could not be set back; every copy runs on");
        }
        return Err(failure);
    }
    work::drain_all(site, Some(&plan.release), victims).await;
    work::stop_all(site, Some(&plan.release), victims).await;
    Ok(Served { release: plan.release.id.clone(), instances: staying })
}

async fn switch_and_promote(
    site: &impl Site,
    plan: &ScalePlan,
    serving: &[Instance],
) -> Result<(), Box<Failure>> {
    if work::is_cancelled(site) {
        return Err(work::cancelled(Step::Switch));
    }
    let begun = work::begin(site, Step::Switch, None);
    switch(site, plan, serving).await.map_err(|fault| work::failure(Step::Switch, fault))?;
    work::promote(site).await.map_err(|fault| work::failure(Step::Switch, fault))?;
    begun.end(None);
    Ok(())
}

async fn switch(site: &impl Site, plan: &ScalePlan, serving: &[Instance]) -> Result<(), Fault> {
    let routes = routes::routes_of(&plan.app, &plan.release, serving, false);
    site.switch(&plan.app, routes).await
}

#[cfg(test)]
mod tests;
