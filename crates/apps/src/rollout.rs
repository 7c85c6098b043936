//! The order of a rollout, and the way back: a state machine without clock, network and instances of its own. Old
//! instances are drained and stopped only in states that come after an acknowledged switch and a promotion; new ones are
//! stopped only once nothing can be sent to them any more.

use allod_proto::{UnitName, executor::Instance};

/// One copy that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The unit.
    pub unit: UnitName,
    /// Which copy, from 1.
    pub copy: u32,
    /// Of how many.
    pub of: u32,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run the release command to its end.
    ReleaseCommand,
    /// Start these, in order.
    Start(Vec<Place>),
    /// Wait until all of these are healthy.
    Health(Vec<Instance>),
    /// Send new requests to these and wait for the proxy's word.
    Switch(Vec<Instance>),
    /// Make it desired state.
    Promote,
    /// Wait until no request is in flight to these old ones.
    Drain(Vec<Instance>),
    /// Stop these old ones.
    Stop(Vec<Instance>),
    /// Send new requests where they went before, and wait for the proxy's word.
    Restore,
    /// Wait until no request is in flight to these new ones.
    DrainNew(Vec<Instance>),
    /// Stop these new ones.
    StopNew(Vec<Instance>),
    /// Nothing: the new release serves, from these.
    Served(Vec<Instance>),
    /// Nothing: what served before serves on.
    Undone {
        /// New instances that were left running, because the proxy may still send requests to them.
        left: Vec<Instance>,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// These were started; not all if the last one failed or somebody asked to end.
    Started {
        /// Them.
        instances: Vec<Instance>,
        /// Whether they are all that were to be started.
        all: bool,
    },
    /// It was not done, or nobody knows; or somebody asked to end.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    ReleaseCommand,
    Start,
    Health,
    Switch,
    Promote,
    Drain,
    Stop,
    Served,
    Restore,
    DrainNew,
    StopNew,
    Undone,
}

/// A rollout in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    phase: Phase,
    places: Vec<Place>,
    old: Vec<Instance>,
    new: Vec<Instance>,
}

impl Rollout {
    /// A rollout that starts a copy for each of `places` and ends `old`.
    #[must_use]
    pub fn new(places: Vec<Place>, old: Vec<Instance>, release_command: bool) -> Self {
        let phase = if release_command { Phase::ReleaseCommand } else { Phase::Start };
        let mut rollout = Self { phase, places, old, new: Vec::new() };
        rollout.pass_nothing();
        rollout
    }

    /// What is to be done now.
    #[must_use]
    pub fn next(&self) -> Next {
        match self.phase {
            Phase::ReleaseCommand => Next::ReleaseCommand,
            Phase::Start => Next::Start(self.places.clone()),
            Phase::Health => Next::Health(self.new.clone()),
            Phase::Switch => Next::Switch(self.new.clone()),
            Phase::Promote => Next::Promote,
            Phase::Drain => Next::Drain(self.old.clone()),
            Phase::Stop => Next::Stop(self.old.clone()),
            Phase::Served => Next::Served(self.new.clone()),
            Phase::Restore => Next::Restore,
            Phase::DrainNew => Next::DrainNew(self.new.clone()),
            Phase::StopNew => Next::StopNew(self.new.clone()),
            Phase::Undone => Next::Undone { left: self.new.clone() },
        }
    }

    /// Whether somebody may still ask for the rollout to end: not after the promotion, and not on the way back.
    #[must_use]
    pub fn may_be_cancelled(&self) -> bool {
        matches!(
            self.phase,
            Phase::ReleaseCommand | Phase::Start | Phase::Health | Phase::Switch | Phase::Promote
        )
    }

    /// What came of what [`Self::next`] said.
    pub fn observe(&mut self, outcome: Outcome) {
        let done = match outcome {
            Outcome::Done => true,
            Outcome::Started { instances, all } => {
                self.new.extend(instances);
                all
            }
            Outcome::Failed => false,
        };
        let stopped_new = self.phase == Phase::StopNew;
        self.phase = if done { self.after() } else { self.after_failure() };
        if stopped_new {
            self.new.clear();
        }
        self.pass_nothing();
    }

    fn after(&self) -> Phase {
        match self.phase {
            Phase::ReleaseCommand => Phase::Start,
            Phase::Start => Phase::Health,
            Phase::Health => Phase::Switch,
            Phase::Switch => Phase::Promote,
            Phase::Promote => Phase::Drain,
            Phase::Drain => Phase::Stop,
            Phase::Stop | Phase::Served => Phase::Served,
            Phase::Restore => Phase::DrainNew,
            Phase::DrainNew => Phase::StopNew,
            Phase::StopNew | Phase::Undone => Phase::Undone,
        }
    }

    fn after_failure(&self) -> Phase {
        match self.phase {
            // The proxy has never heard of the new ones.
            Phase::ReleaseCommand | Phase::Start | Phase::Health => Phase::StopNew,
            // It may have heard, even where the answer was lost.
            Phase::Switch | Phase::Promote => Phase::Restore,
            // Requests may still go to the new ones: they stay.
            Phase::Restore => Phase::Undone,
            // What can't be drained or stopped is no reason to leave the rest.
            Phase::Drain | Phase::Stop | Phase::Served | Phase::DrainNew | Phase::StopNew | Phase::Undone => {
                self.after()
            }
        }
    }

    /// Passes over phases that have nothing to do.
    fn pass_nothing(&mut self) {
        loop {
            let nothing = match self.phase {
                Phase::Start => self.places.is_empty(),
                Phase::Health | Phase::DrainNew | Phase::StopNew => self.new.is_empty(),
                Phase::Drain | Phase::Stop => self.old.is_empty(),
                Phase::ReleaseCommand
                | Phase::Switch
                | Phase::Promote
                | Phase::Restore
                | Phase::Served
                | Phase::Undone => false,
            };
            if !nothing {
                return;
            }
            self.phase = self.after();
        }
    }
}

#[cfg(test)]
mod tests;
