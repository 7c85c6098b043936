//! Keeps what is wanted running, apart from operations: a crashed copy is started again after a growing pause, copies
//! nobody wants go. Pure: the agent looks, asks [`plan`], does what it says, and looks again.

use allod_proto::{
    AppRef, InstanceId, ReleaseId, Timestamp, UnitName,
    executor::{DesiredApp, Instance, Release},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A copy that lived this long was well; its end is a new story.
const WELL: Duration = Duration::from_secs(60);

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// An instance has ended: forget it. Its log stays.
    Forget(InstanceId),
    /// Start a copy of the current release, wait until it is healthy, tell [`Restarts::is_healthy`], then put it into
    /// the routes.
    Start {
        /// The unit.
        unit: UnitName,
    },
    /// Take an instance out of the routes, wait for the proxy's word, drain it, stop it.
    Retire(Box<Instance>),
    /// Nothing yet; look again at this time.
    Wait {
        /// When.
        until: Timestamp,
    },
}

/// What is remembered between looks: crashes, and which instances were seen healthy. It may be lost; then a crashed copy
/// is started sooner than it would have been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restarts {
    units: BTreeMap<(AppRef, UnitName), Crashes>,
    /// Ended instances that were counted, until they are forgotten.
    counted: BTreeSet<InstanceId>,
    healthy: BTreeSet<InstanceId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Crashes {
    release: ReleaseId,
    /// In a row, without a long life in between.
    row: u32,
    /// Since the release began to serve.
    restarts: u32,
    not_before: Timestamp,
}

impl Restarts {
    /// An instance was found healthy.
    pub fn is_healthy(&mut self, instance: &InstanceId) {
        self.healthy.insert(instance.clone());
    }

    /// How often a unit's copies ended and were started again, since its release began to serve.
    #[must_use]
    pub fn count(&self, app: &AppRef, unit: &UnitName) -> u32 {
        self.units.get(&(app.clone(), unit.clone())).map_or(0, |crashes| crashes.restarts)
    }

    /// An app is gone.
    pub fn forget(&mut self, app: &AppRef) {
        self.units.retain(|(of, _), _| of != app);
    }

    fn crashed(&mut self, instance: &Instance, now: Timestamp) {
        if !self.counted.insert(instance.id.clone()) {
            return;
        }
        let ended = instance.ended_at.unwrap_or(now);
        let crashes = self.units.entry((instance.app.clone(), instance.unit.clone())).or_insert_with(|| {
            Crashes { release: instance.release.clone(), row: 0, restarts: 0, not_before: Timestamp(0) }
        });
        crashes.restarts = crashes.restarts.saturating_add(1);
        if ended.since(instance.started_at) >= WELL {
            crashes.row = 0;
        } else if ended < crashes.not_before {
            // Copies that end together are one crash.
            return;
        }
        crashes.not_before = ended.plus(pause(crashes.row));
        crashes.row = crashes.row.saturating_add(1);
    }

    fn not_before(&self, app: &AppRef, unit: &UnitName) -> Timestamp {
        self.units.get(&(app.clone(), unit.clone())).map_or(Timestamp(0), |crashes| crashes.not_before)
    }

    /// Only what is still there matters, and only crashes of the release that serves.
    fn tidy(&mut self, desired: &DesiredApp, instances: &[Instance]) {
        let there: BTreeSet<&InstanceId> = instances.iter().map(|instance| &instance.id).collect();
        self.counted.retain(|id| there.contains(id));
        self.healthy.retain(|id| there.contains(id));
        let current = desired.current.as_ref().map(|release| &release.id);
        self.units.retain(|(app, _), crashes| *app != desired.app || Some(&crashes.release) == current);
    }
}

/// The pause before the start that follows `row` crashes in a row.
fn pause(row: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1_u32.checked_shl(row).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

/// What is to be done for an app. While an operation is at work on it, nothing: the operation knows better.
///
/// `instances` are all that the executor knows, of every app.
pub fn plan(now: Timestamp, desired: &DesiredApp, instances: &[Instance], memory: &mut Restarts) -> Vec<Act> {
    memory.tidy(desired, instances);
    if desired.operation.is_some() {
        return Vec::new();
    }
    let of_app: Vec<&Instance> = instances.iter().filter(|instance| instance.app == desired.app).collect();
    let mut acts = Vec::new();
    for ended in of_app.iter().filter(|instance| instance.exit.is_some()) {
        if desired.current.as_ref().is_some_and(|current| current.id == ended.release) && !desired.stopped {
            memory.crashed(ended, now);
        }
        acts.push(Act::Forget(ended.id.clone()));
    }
    let mut running: Vec<&Instance> = of_app.into_iter().filter(|instance| instance.exit.is_none()).collect();
    running.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
    match &desired.current {
        Some(current) if !desired.stopped => {
            acts.extend(keep_running(now, desired, current, &running, memory))
        }
        Some(_) | None => acts.extend(running.into_iter().map(retire)),
    }
    acts
}

fn retire(instance: &Instance) -> Act {
    Act::Retire(Box::new(instance.clone()))
}

fn keep_running(
    now: Timestamp,
    desired: &DesiredApp,
    current: &Release,
    running: &[&Instance],
    memory: &Restarts,
) -> Vec<Act> {
    let mut starts = Vec::new();
    let mut goes = Vec::new();
    let mut wait: Option<Timestamp> = None;
    let mut complete = true;
    for (unit, _) in current.spec.processes() {
        let wanted = usize::try_from(desired.wanted(unit)).unwrap_or(usize::MAX);
        let have: Vec<&Instance> =
            running.iter().copied().filter(|one| one.release == current.id && one.unit == *unit).collect();
        let well = have.iter().filter(|instance| is_well(now, instance, memory)).count();
        complete &= well >= wanted;
        let missing = wanted.saturating_sub(have.len());
        let not_before = memory.not_before(&desired.app, unit);
        if missing > 0 && now < not_before {
            wait = Some(wait.map_or(not_before, |until| until.min(not_before)));
        } else {
            starts.extend((0..missing).map(|_| Act::Start { unit: unit.clone() }));
        }
        // The newest go first, as in `scale`.
        goes.extend(have.into_iter().skip(wanted).map(retire));
    }
    let stray = |one: &&&Instance| one.release != current.id || current.spec.process(&one.unit).is_none();
    // Strays may be all that serves: they stay until what is wanted is there and well.
    if complete {
        goes.extend(running.iter().filter(stray).copied().map(retire));
    } else if running.iter().any(|one| stray(&one)) && wait.is_none() {
        wait = Some(now.plus(FIRST_PAUSE));
    }
    starts.into_iter().chain(goes).chain(wait.map(|until| Act::Wait { until })).collect()
}

fn is_well(now: Timestamp, instance: &Instance, memory: &Restarts) -> bool {
    memory.healthy.contains(&instance.id) || now.since(instance.started_at) >= WELL
}

#[cfg(test)]
mod tests;
