//! What was done under which id: a changing command that comes again with the same id by the same key is done once.
//! Rebuilt from the record at start, so that nothing acknowledged is forgotten by a crash.

use allod_audit::{Ending, Entry, Line};
use allod_proto::{
    CommandName, Digest, Fault, FaultCode, Fingerprint, NamedCommandName, Timestamp,
    limits::COMMAND_ID_MEMORY,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// How many ids are remembered at most, of all keys and of one.
const CAPACITY: usize = 200_000;
const CAPACITY_PER_KEY: usize = 20_000;

type Key = (Fingerprint, String);

#[derive(Debug, Clone)]
struct Remembered {
    body: Digest,
    at: Timestamp,
    /// The intent in the record, once it is written.
    intent: Option<u64>,
    /// The named command that it ran: not to be begun again when its outcome is not known.
    run: Option<NamedCommandName>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    InFlight,
    /// Done; the reply, where it was small enough to be kept.
    Done(Option<Value>),
}

/// The ids of the last 24 hours.
#[derive(Debug, Default)]
pub struct Memory {
    ids: HashMap<Key, Remembered>,
    by_intent: BTreeMap<u64, Key>,
    of_key: HashMap<Fingerprint, usize>,
}

/// What is known of an id.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// Never seen: it is reserved now, go on.
    New,
    /// Done before, with this reply.
    Done(Value),
    /// A run of a named command, begun before.
    Ran(Box<Ran>),
}

/// A run that was begun under an id that comes again.
#[derive(Debug, PartialEq)]
pub struct Ran {
    /// What it runs.
    pub name: NamedCommandName,
    /// When it was asked for.
    pub at: Timestamp,
    /// Its id, and how it ended if it has; `None` where nobody knows.
    pub reply: Option<Value>,
}

impl Memory {
    /// Looks whether an id was used, and reserves it if not, in one step: of two equal requests one goes on.
    ///
    /// # Errors
    /// `Conflict` when the same id was used for another request, or was done and its reply is not kept; `Busy` while the
    /// first is still in flight; `TooMany` when the key, or all together, made too many changes within a day.
    /// `urgent` changes are not counted against that.
    pub fn reserve(
        &mut self,
        key: &Fingerprint,
        id: &str,
        body: Digest,
        urgent: bool,
        now: Timestamp,
    ) -> Result<Seen, Fault> {
        self.forget(now);
        if let Some(remembered) = self.ids.get(&(key.clone(), id.to_owned())) {
            return seen(remembered, &body);
        }
        let of_key = self.of_key.get(key).copied().unwrap_or(0);
        if !urgent && (self.ids.len() >= CAPACITY || of_key >= CAPACITY_PER_KEY) {
            return Err(
                Fault::new(FaultCode::TooMany, "too many changes within a day").hint("try again in an hour")
            );
        }
        self.insert(key, id, Remembered { body, at: now, intent: None, run: None, state: State::InFlight });
        Ok(Seen::New)
    }

    /// The intent of a reserved id is in the record: of a run, with the named command that it runs.
    pub fn tie(&mut self, key: &Fingerprint, id: &str, intent: u64, run: Option<NamedCommandName>) {
        let name = (key.clone(), id.to_owned());
        if let Some(remembered) = self.ids.get_mut(&name) {
            remembered.intent = Some(intent);
            remembered.run = run;
            self.by_intent.insert(intent, name);
        }
    }

    /// A reserved id whose intent was never written may be used again.
    pub fn release(&mut self, key: &Fingerprint, id: &str) {
        let name = (key.clone(), id.to_owned());
        if self.ids.get(&name).is_some_and(|remembered| remembered.intent.is_none()) {
            self.remove(&name);
        }
    }

    fn insert(&mut self, key: &Fingerprint, id: &str, remembered: Remembered) {
        if let Some(intent) = remembered.intent {
            self.by_intent.insert(intent, (key.clone(), id.to_owned()));
        }
        if self.ids.insert((key.clone(), id.to_owned()), remembered).is_none() {
            *self.of_key.entry(key.clone()).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, name: &Key) {
        let Some(remembered) = self.ids.remove(name) else { return };
        if let Some(intent) = remembered.intent {
            self.by_intent.remove(&intent);
        }
        if let Some(count) = self.of_key.get_mut(&name.0) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_key.remove(&name.0);
            }
        }
    }

    /// What was begun is done: a retry is answered with this, or told that it was done.
    pub fn done(&mut self, intent: u64, reply: Option<Value>) {
        let remembered = self.by_intent.get(&intent).and_then(|name| self.ids.get_mut(name));
        if let Some(remembered) = remembered {
            remembered.state = State::Done(reply);
        }
    }

    /// What was begun failed: it may be tried again, unless it was answered as begun before.
    pub fn failed(&mut self, intent: u64) {
        let Some(name) = self.by_intent.get(&intent).cloned() else { return };
        if self.ids.get(&name).is_some_and(|remembered| matches!(remembered.state, State::InFlight)) {
            self.remove(&name);
        }
    }

    /// Takes in one line of the record, at start. An unknown outcome says nothing.
    pub fn replay(&mut self, line: &Line) {
        match &line.entry {
            Entry::Intent(intent) => {
                // The eighth line; under a delegation there is a ninth.
                let body = intent.signed.as_deref().and_then(|signed| signed.lines().nth(7)?.parse().ok());
                if let (Some(key), Some(body)) = (&intent.who.key, body) {
                    let target = intent.target.as_deref().filter(|_| is_run(&intent.command));
                    let run = target.and_then(|name| NamedCommandName::new(name).ok());
                    let (at, state) = (line.at, State::InFlight);
                    let remembered = Remembered { body, at, intent: Some(line.seq), run, state };
                    self.insert(key, &intent.request, remembered);
                }
            }
            Entry::Outcome(outcome) => match (outcome.result, &outcome.reply) {
                (Ending::Ok, reply) | (Ending::Failed | Ending::Unknown, reply @ Some(_)) => {
                    self.done(outcome.intent, reply.clone())
                }
                (Ending::Failed, None) => self.failed(outcome.intent),
                (Ending::Unknown, None) => {}
            },
            Entry::Start(_)
            | Entry::Read(_)
            | Entry::Denied(_)
            | Entry::Counted(_)
            | Entry::Refusals(_)
            | Entry::Note(_) => {}
        }
    }

    /// What is in flight after a replay was in flight when the program ended: it may be tried again, unless it ran a
    /// program of which nobody knows how far it came.
    pub fn end_replay(&mut self) {
        for remembered in self.ids.values_mut() {
            if remembered.run.is_some() && matches!(remembered.state, State::InFlight) {
                remembered.state = State::Done(None);
            }
        }
        let in_flight = self.ids.iter().filter(|(_, remembered)| matches!(remembered.state, State::InFlight));
        let in_flight: Vec<_> = in_flight.map(|(name, _)| name.clone()).collect();
        in_flight.iter().for_each(|name| self.remove(name));
    }

    /// Intents are in the order of time, so the oldest ids are the first.
    fn forget(&mut self, now: Timestamp) {
        while let Some(name) = self.by_intent.first_key_value().map(|(_, name)| name.clone()) {
            if self.ids.get(&name).is_some_and(|it| now.since(it.at) <= COMMAND_ID_MEMORY) {
                return;
            }
            self.by_intent.pop_first();
            self.remove(&name);
        }
    }
}

/// Whether a command of the record runs a named command.
pub(crate) fn is_run(command: &str) -> bool {
    command == CommandName::CommandRun.as_str()
}

fn seen(remembered: &Remembered, body: &Digest) -> Result<Seen, Fault> {
    if remembered.body != *body {
        return Err(Fault::new(FaultCode::Conflict, "this id was used for another request")
            .hint("make a new id for each new request"));
    }
    match (&remembered.state, &remembered.run) {
        (State::InFlight, _) => Err(Fault::new(FaultCode::Busy, "this very request is being done")),
        (State::Done(reply), Some(name)) => {
            Ok(Seen::Ran(Box::new(Ran { name: name.clone(), at: remembered.at, reply: reply.clone() })))
        }
        (State::Done(Some(reply)), None) => Ok(Seen::Done(reply.clone())),
        (State::Done(None), None) => {
            Err(Fault::new(FaultCode::Conflict, "this very request was done before")
                .hint("what came of it is not kept: look at what it changed, and at the record"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Fingerprint {
        Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap()
    }

    fn begun(id: &str, intent: u64, now: Timestamp) -> Memory {
        let mut memory = Memory::default();
        assert_eq!(memory.reserve(&key(), id, Digest::of("a"), false, now).unwrap(), Seen::New);
        memory.tie(&key(), id, intent, None);
        memory
    }

    fn look(memory: &mut Memory, id: &str, body: &str, now: Timestamp) -> Result<Seen, FaultCode> {
        memory.reserve(&key(), id, Digest::of(body), false, now).map_err(|fault| fault.code)
    }

    #[test]
    fn the_same_id_for_another_request_is_refused_and_of_two_equal_ones_one_goes_on() {
        let mut memory = begun("one", 1, Timestamp(0));
        assert_eq!(look(&mut memory, "one", "b", Timestamp(0)), Err(FaultCode::Conflict));
        assert_eq!(look(&mut memory, "one", "a", Timestamp(0)), Err(FaultCode::Busy));
    }

    #[test]
    fn what_was_done_is_answered_again_and_what_failed_may_be_tried_again() {
        let mut memory = begun("done", 1, Timestamp(0));
        memory.done(1, Some(Value::from(7)));
        assert_eq!(look(&mut memory, "done", "a", Timestamp(0)), Ok(Seen::Done(Value::from(7))));
        let mut memory = begun("failed", 2, Timestamp(0));
        memory.failed(2);
        assert_eq!(look(&mut memory, "failed", "a", Timestamp(0)), Ok(Seen::New));
    }

    #[test]
    fn a_reply_too_large_to_keep_does_not_make_it_be_done_twice() {
        let mut memory = begun("large", 1, Timestamp(0));
        memory.done(1, None);
        assert_eq!(look(&mut memory, "large", "a", Timestamp(0)), Err(FaultCode::Conflict));
    }

    #[test]
    fn an_operation_that_was_answered_as_begun_is_not_begun_again_when_it_fails() {
        let mut memory = begun("deploy", 1, Timestamp(0));
        memory.done(1, Some(Value::from("op")));
        memory.failed(1);
        assert_eq!(look(&mut memory, "deploy", "a", Timestamp(0)), Ok(Seen::Done(Value::from("op"))));
    }

    #[test]
    fn a_run_that_comes_again_is_told_as_one_and_what_nobody_knows_of_it_is_not_a_reply() {
        let name = NamedCommandName::new("deploy").unwrap();
        let mut memory = Memory::default();
        assert_eq!(look(&mut memory, "run", "a", Timestamp(5)), Ok(Seen::New));
        memory.tie(&key(), "run", 1, Some(name.clone()));
        assert_eq!(look(&mut memory, "run", "a", Timestamp(5)), Err(FaultCode::Busy));
        memory.done(1, None);
        let ran = |reply| Ok(Seen::Ran(Box::new(Ran { name: name.clone(), at: Timestamp(5), reply })));
        assert_eq!(look(&mut memory, "run", "a", Timestamp(6)), ran(None));
        memory.done(1, Some(Value::from(7)));
        assert_eq!(look(&mut memory, "run", "a", Timestamp(6)), ran(Some(Value::from(7))));
        assert_eq!(look(&mut memory, "run", "b", Timestamp(6)), Err(FaultCode::Conflict));
    }

    #[test]
    fn an_id_whose_intent_was_not_written_may_be_used_again() {
        let mut memory = Memory::default();
        assert_eq!(look(&mut memory, "one", "a", Timestamp(0)), Ok(Seen::New));
        memory.release(&key(), "one");
        assert_eq!(look(&mut memory, "one", "b", Timestamp(0)), Ok(Seen::New));
    }

    #[test]
    fn an_id_is_forgotten_after_a_day_and_not_before() {
        let mut memory = begun("one", 1, Timestamp(0));
        memory.done(1, Some(Value::Null));
        let day = Timestamp(0).plus(COMMAND_ID_MEMORY);
        assert_eq!(look(&mut memory, "one", "a", day), Ok(Seen::Done(Value::Null)));
        assert_eq!(look(&mut memory, "one", "a", Timestamp(day.0 + 1)), Ok(Seen::New));
    }

    #[test]
    fn one_key_can_not_use_up_the_memory_of_the_others_nor_stop_a_revocation() {
        let mut memory = Memory::default();
        for n in 0..CAPACITY_PER_KEY {
            assert_eq!(look(&mut memory, &n.to_string(), "a", Timestamp(0)), Ok(Seen::New));
        }
        assert_eq!(look(&mut memory, "more", "a", Timestamp(0)), Err(FaultCode::TooMany));
        assert!(memory.reserve(&key(), "revoke", Digest::of("a"), true, Timestamp(0)).is_ok());
        let other = Fingerprint::new(format!("SHA256:{}", "b".repeat(43))).unwrap();
        assert!(memory.reserve(&other, "more", Digest::of("a"), false, Timestamp(0)).is_ok());
    }
}
