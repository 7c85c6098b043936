//! Whether a copy that serves still answers: its health check goes on after the switch. Only silence counts. A copy that
//! answers, and be it that it is not well, lives; a restart would not bring back what it waits for. Pure; the agent
//! asks, tells, and restarts what [`Liveness::hangs`].

use crate::{
    health::{TRY, probe_host},
    probe::Probe,
    site::Site,
};
use allod_proto::{
    AppRef, InstanceId, Timestamp, UnitName,
    executor::Instance,
    spec::{HealthSpec, ProcessSpec, UnitSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How often a copy is asked.
pub const EVERY: Duration = Duration::from_secs(5);
/// How many silences in a row mean that it hangs.
pub const SILENCES: u32 = 3;
/// What makes one copy of a unit hang may hang all: they are restarted one after the other, this far apart.
pub const APART: Duration = Duration::from_secs(30);

/// What asking once showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It answered.
    Answers,
    /// It did not.
    Silent,
}

/// What is remembered of copies that serve. It may be lost; then a copy that hangs is found out a little later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Liveness {
    copies: BTreeMap<InstanceId, Watched>,
    /// Before which moment no further copy of a unit is given up.
    units: BTreeMap<(AppRef, UnitName), Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    next: Timestamp,
    silences: u32,
}

impl Liveness {
    /// Whether a copy is to be asked now. The first time is a while after it was first seen here.
    pub fn is_due(&mut self, now: Timestamp, instance: &InstanceId) -> bool {
        let next = now.plus(EVERY);
        let watched = self.copies.entry(instance.clone()).or_insert(Watched { next, silences: 0 });
        let is_due = watched.next <= now;
        if is_due {
            watched.next = next;
        }
        is_due
    }

    /// What asking showed.
    pub fn showed(&mut self, instance: &InstanceId, life: Life) {
        if let Some(watched) = self.copies.get_mut(instance) {
            watched.silences = match life {
                Life::Answers => 0,
                Life::Silent => watched.silences.saturating_add(1),
            };
        }
    }

    /// Whether a copy hangs and is to be restarted now. Says so once for each.
    pub fn hangs(&mut self, now: Timestamp, instance: &Instance) -> bool {
        let is_silent = self.copies.get(&instance.id).is_some_and(|watched| watched.silences >= SILENCES);
        let unit = (instance.app.clone(), instance.unit.clone());
        if !is_silent || self.units.get(&unit).is_some_and(|not_before| now < *not_before) {
            return false;
        }
        self.units.insert(unit, now.plus(APART));
        self.copies.remove(&instance.id);
        true
    }

    /// Only what is still there matters.
    pub fn retain(&mut self, now: Timestamp, there: &BTreeSet<InstanceId>) {
        self.copies.retain(|id, _| there.contains(id));
        self.units.retain(|_, not_before| now < *not_before);
    }
}

/// Asks a copy once; `None` where its health is not a matter of answering, or where nobody can say.
pub async fn ask(
    site: &impl Site,
    instance: &Instance,
    unit: &UnitSpec,
    process: &ProcessSpec,
) -> Option<Life> {
    let answers = match (&process.health, instance.address) {
        (HealthSpec::Http { path, host }, Some(address)) => {
            let host = probe_host(unit, host.as_deref(), address);
            let probe = Probe::Http { address, path: path.clone(), host };
            site.probe(&probe, TRY).await.report.status.is_some()
        }
        (HealthSpec::Tcp, Some(address)) => site.probe(&Probe::Tcp { address }, TRY).await.healthy,
        (HealthSpec::Command { .. }, _) => site.check_command(&instance.id, TRY).await.ok()?.0,
        (HealthSpec::Http { .. } | HealthSpec::Tcp, None) => return None,
        (HealthSpec::Ready | HealthSpec::Running { .. }, _) => return None,
    };
    Some(if answers { Life::Answers } else { Life::Silent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn copy(name: &str) -> Instance {
        let mut instance = fake::instance("web", 1, &fake::release('a', fake::spec()));
        instance.id = InstanceId::new(name).unwrap();
        instance
    }

    /// A copy that has been silent so often.
    fn silent(liveness: &mut Liveness, instance: &Instance, times: u32) {
        let _ = liveness.is_due(at(0), &instance.id);
        (0..times).for_each(|_| liveness.showed(&instance.id, Life::Silent));
    }

    #[test]
    fn a_copy_that_answers_or_is_silent_for_a_moment_is_left_alone() {
        let mut liveness = Liveness::default();
        let one = copy("web-00000001");
        assert!(!liveness.hangs(at(0), &one), "nobody has asked it yet");
        silent(&mut liveness, &one, SILENCES - 1);
        assert!(!liveness.hangs(at(100), &one));
        liveness.showed(&one.id, Life::Answers);
        silent(&mut liveness, &one, SILENCES - 1);
        assert!(!liveness.hangs(at(100), &one), "an answer counts for everything before it");
    }

    #[test]
    fn a_copy_that_stays_silent_hangs_once() {
        let mut liveness = Liveness::default();
        let one = copy("web-00000001");
        silent(&mut liveness, &one, SILENCES);
        assert!(liveness.hangs(at(100), &one));
        assert!(!liveness.hangs(at(1000), &one), "it was told already");
    }

    #[test]
    fn when_all_copies_hang_they_go_one_after_the_other() {
        let mut liveness = Liveness::default();
        let (one, other) = (copy("web-00000001"), copy("web-00000002"));
        silent(&mut liveness, &one, SILENCES);
        silent(&mut liveness, &other, SILENCES);
        assert!(liveness.hangs(at(100), &one));
        let apart = at(100).plus(APART);
        assert!(!liveness.hangs(Timestamp(apart.0 - 1), &other));
        assert!(liveness.hangs(apart, &other));
    }

    #[test]
    fn a_copy_is_asked_every_few_seconds_and_not_at_once() {
        let mut liveness = Liveness::default();
        let one = copy("web-00000001");
        let asked: Vec<u64> = (0..=16).filter(|second| liveness.is_due(at(*second), &one.id)).collect();
        assert_eq!(asked, [5, 10, 15]);
    }

    #[test]
    fn copies_that_are_gone_are_forgotten() {
        let mut liveness = Liveness::default();
        let one = copy("web-00000001");
        silent(&mut liveness, &one, SILENCES);
        assert!(liveness.hangs(at(100), &one));
        silent(&mut liveness, &one, SILENCES);
        liveness.retain(at(1000), &BTreeSet::new());
        assert_eq!(liveness, Liveness::default());
    }
}
